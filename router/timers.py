"""Deadlines of the whole broker in one heap; whoever owns the clock asks for the next one.

Knows nothing of what is due; a target that no longer cares ignores the call.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Protocol


class Timed(Protocol):
    """Something that asked to be called at a time."""

    def on_timer(self, now: int) -> None: ...


class Timers:
    """Targets by deadline, in ms of the monotonic clock."""

    __slots__ = ("_due", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._due: deque[tuple[int, Timed]] = deque()
        self._number = count()

    def schedule(self, when: int, target: Timed) -> None:
        heappush(self._heap, (when, next(self._number), target))

    def next_deadline(self) -> int | None:
        """When the next target is due; None when nothing was asked for."""
        if self._due:
            return self._due[0][0]
        return self._heap[0][0] if self._heap else None

    def run(self, now: int) -> None:
        """Call every target whose time has come. One that asks again for the past is called the next time.

        If a target raises, those behind it are called the next time too.
        """
        due = self._due
        while self._heap and self._heap[0][0] <= now:
            when, _, target = heappop(self._heap)
            due.append((when, target))
        while due:
            due.popleft()[1].on_timer(now)
