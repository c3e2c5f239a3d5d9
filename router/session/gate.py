"""The order of replies: what tells of something that is still being written waits, and so does all behind it.

Owns what waits and nothing of what it says. Deliveries do not pass here: while anything waits there are none.
"""

from collections import deque
from typing import Protocol

from router.keeper import Keeper


class Writes(Protocol):
    """Where replies go."""

    def write(self, data: bytes) -> None: ...


class Gate:
    """The replies of one connection."""

    __slots__ = ("_keeper", "_outbox", "_position", "waiting")

    def __init__(self, outbox: Writes, keeper: Keeper) -> None:
        self.waiting: deque[tuple[int, bytes]] = deque()  # with the batch that each waits for
        self._outbox = outbox
        self._keeper = keeper
        self._position = 0

    def hold(self) -> None:
        """What is written from now on tells of what this turn has changed."""
        self._position = max(self._position, self._keeper.hold())

    def hold_until(self, batch: int) -> None:
        """What is written from now on tells of something that is part of this batch."""
        self._position = max(self._position, batch)

    def write(self, data: bytes) -> None:
        """Send, now or as soon as what it waits for is on disk."""
        if self.waiting or self._position > self._keeper.committed:
            self.waiting.append((self._position, data))
        else:
            self._outbox.write(data)

    def open(self) -> bool:
        """Send what need not wait any longer. True when that was all, and something."""
        if not self.waiting:
            return False
        committed = self._keeper.committed
        while self.waiting and self.waiting[0][0] <= committed:
            self._outbox.write(self.waiting.popleft()[1])
        return not self.waiting
