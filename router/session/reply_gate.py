"""The gate that holds a connection's replies until their changes are on disk.

A reply that reports a change waits for the commit, and so does everything written to the connection after
it. Responsible for the waiting bytes, whatever they contain. While a reply waits, deliveries wait here too: a
consumer is assigned its messages at once, as in RabbitMQ, so that no later command finds them in the queue,
and the client receives them after the reply.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.buffers import Part
from leveret.router.persistence.api import Storage

HELD_MAX = 1 << 20  # bytes that wait in one connection's gate before it takes no more deliveries

COPIED = 1 << 18  # bytes of deliveries that are joined, so that they wait as one part


class Writes(Protocol):
    """The outbox that replies are written to."""

    def write(self, data: Part) -> None: ...


class Gate:
    """The replies of one connection. ``waiting`` has the held replies, ``size`` is their size in bytes. While
    ``size`` is above ``room``, the connection takes no more deliveries.
    """

    __slots__ = ("_outbox", "_position", "_storage", "room", "size", "waiting")

    def __init__(self, outbox: Writes, storage: Storage) -> None:
        self.waiting: deque[tuple[int, Part]] = deque()  # with the batch that each waits for
        self._outbox = outbox
        self._storage = storage
        self._position = 0
        self.size = 0
        self.room = HELD_MAX

    def refuse_deliveries(self) -> None:
        """Take no deliveries any more, because the connection ends."""
        self.room = -1

    @property
    def holding(self) -> bool:
        """Return True if data written now would wait. ``CommitWaiters.add`` then notifies the connection."""
        return bool(self.waiting) or self._position > self._storage.committed_batch

    def hold(self) -> None:
        """Hold replies written from now on until this turn's changes are on disk."""
        self._position = max(self._position, self._storage.hold())

    def hold_until(self, batch: int) -> None:
        """Hold replies written from now on until this batch is on disk."""
        self._position = max(self._position, batch)

    def write(self, data: Part) -> None:
        """Send a reply at once, or when the changes before it are on disk."""
        if self.holding:
            self.waiting.append((self._position, data))
            self.size += len(data)
        else:
            self._outbox.write(data)

    def extend(self, parts: Sequence[Part]) -> None:
        """Send deliveries after the replies that wait."""
        if sum(map(len, parts)) <= COPIED:
            self.write(b"".join(parts))
            return
        for part in parts:  # copying them would delay all clients
            self.write(part)

    def open(self) -> bool:
        """Send the replies whose changes are on disk. Return True if the gate was not empty before and is
        now.
        """
        if not self.waiting:
            return False
        committed = self._storage.committed_batch
        while self.waiting and self.waiting[0][0] <= committed:
            data = self.waiting.popleft()[1]
            self.size -= len(data)
            self._outbox.write(data)
        return not self.waiting
