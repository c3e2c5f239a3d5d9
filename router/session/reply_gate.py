"""The order of replies: a reply that tells of a change waits until the change is on disk, and so does all
that the connection is sent after it.

Owns the bytes that wait, and nothing of what they say. Deliveries pass here only while a reply waits: a
consumer gets its messages at once, as RabbitMQ's does, so that no later command finds them in the queue; the
client reads them behind the reply.
"""

from collections import deque
from typing import Protocol

from leveret.router.persistence.api import Storage

HELD_MAX = 1 << 20  # bytes that wait in one connection's gate before it takes no more deliveries


class Writes(Protocol):
    """Where replies go."""

    def write(self, data: bytes) -> None: ...


class Gate:
    """The replies of one connection. ``waiting`` has those held back, ``size`` is how many bytes they are."""

    __slots__ = ("_outbox", "_position", "_storage", "size", "waiting")

    def __init__(self, outbox: Writes, storage: Storage) -> None:
        self.waiting: deque[tuple[int, bytes]] = deque()  # with the batch that each waits for
        self._outbox = outbox
        self._storage = storage
        self._position = 0
        self.size = 0

    @property
    def holding(self) -> bool:
        """Return True if what is written now waits. ``CommitWaiters.add`` then notifies the connection."""
        return bool(self.waiting) or self._position > self._storage.committed

    def hold(self) -> None:
        """What is written from now on tells of what this turn has changed."""
        self._position = max(self._position, self._storage.hold())

    def hold_until(self, batch: int) -> None:
        """What is written from now on tells of something that is part of this batch."""
        self._position = max(self._position, batch)

    def write(self, data: bytes) -> None:
        """Send, now or as soon as what it waits for is on disk."""
        if self.holding:
            self.waiting.append((self._position, data))
            self.size += len(data)
        else:
            self._outbox.write(data)

    def extend(self, parts: list[bytes]) -> None:
        """Send deliveries behind the replies that wait."""
        self.write(b"".join(parts))

    def open(self) -> bool:
        """Send what need not wait any longer. True when that was all, and something."""
        if not self.waiting:
            return False
        committed = self._storage.committed
        while self.waiting and self.waiting[0][0] <= committed:
            data = self.waiting.popleft()[1]
            self.size -= len(data)
            self._outbox.write(data)
        return not self.waiting
