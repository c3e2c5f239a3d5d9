"""Deadlines of the whole broker in one heap; whoever owns the clock asks for the next one.

Knows nothing of what is due; a target that no longer cares ignores the call.
"""

from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Timed(Protocol):
    """Something that asked to be called at a time."""

    def on_timer(self, now: int) -> None: ...


class Timers:
    """Targets by deadline, in ms of the monotonic clock."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._number = count()

    def schedule(self, when: int, target: Timed) -> None:
        heappush(self._heap, (when, next(self._number), target))

    def next_deadline(self) -> int | None:
        """When the next target is due; None when nothing was asked for."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: int) -> None:
        """Call every target whose time has come. One that asks again for the past is called the next time."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2])
        for target in due:
            target.on_timer(now)
