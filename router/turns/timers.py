"""Deadlines of the whole broker, in one heap.

Responsible for calling targets when they are due. Not for the clock: the event loop asks for
``next_deadline``. A target may ignore a call that no longer matters. A finished target is not kept until its
deadline: short-lived queues may have scheduled a time far away.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol, TypeAlias

SWEEP = 1024  # finished targets are removed at this many deadlines and twice those left last time
SWEPT = 4  # deadlines that a sweep looks at for each new one
AT_ONCE = 1024  # targets called in one run


class Timed(Protocol):
    """A target that is called at a scheduled time."""

    @property
    def finished(self) -> bool:
        """True if the target no longer needs a call."""

    def on_timer(self, now: int) -> None: ...


Deadline: TypeAlias = tuple[int, int, Timed]  # time, number of the call of ``schedule``, target


class Timers:
    """Targets by deadline, in ms of the monotonic clock.

    A sweep moves the targets that are not finished from ``_old`` to ``_heap``, some in each call of
    ``schedule``: a heap of 100,000 deadlines takes long to copy, and removed targets take longer to free.
    """

    __slots__ = ("_due", "_heap", "_most", "_number", "_old")

    def __init__(self) -> None:
        self._heap: list[Deadline] = []
        self._old: list[Deadline] = []  # a heap too; empty if no sweep is under way
        self._due: deque[tuple[int, Timed]] = deque()
        self._number = count()
        self._most = SWEEP

    def __len__(self) -> int:
        """Return the number of deadlines, also those of finished targets."""
        return len(self._heap) + len(self._old) + len(self._due)

    def schedule(self, when: int, target: Timed) -> None:
        """Call ``target`` at ``when`` (ms of the monotonic clock)."""
        heappush(self._heap, (when, next(self._number), target))
        if self._old:
            self._sweep()
        elif len(self._heap) > self._most:
            self._old, self._heap = self._heap, []

    def _sweep(self) -> None:
        """Take a few deadlines from the end of the old heap, which stays a heap."""
        old, heap = self._old, self._heap
        for _ in range(min(SWEPT, len(old))):
            deadline = old.pop()
            if not deadline[2].finished:
                heappush(heap, deadline)
        if not old:
            self._most = 2 * len(heap) + SWEEP

    def next_deadline(self) -> int | None:
        """Return the time (ms) of the next deadline; None if there is none."""
        if self._due:
            return self._due[0][0]
        heap = self._next()
        return heap[0][0] if heap else None

    def _next(self) -> list[Deadline]:
        """Return the heap with the next deadline; an empty one if there is none."""
        heap, old = self._heap, self._old
        return old if old and (not heap or old[0] < heap[0]) else heap

    def run(
        self,
        now: int,
        spent: Callable[[], bool] = lambda: False,
        failed: Callable[[Timed, Exception], None] | None = None,
    ) -> None:
        """Call every target that is due. A target that schedules a past time is called in the next run.

        ``failed`` gets a target that raised; without it the exception is raised here, and later targets are
        called in the next run. They are also left to the next run once ``spent`` returns True.
        """
        due = self._due
        while len(due) < AT_ONCE and (heap := self._next()) and heap[0][0] <= now:
            when, _, target = heappop(heap)
            due.append((when, target))
        while due:
            target = due.popleft()[1]
            try:
                target.on_timer(now)
            except Exception as error:
                if failed is None:
                    raise
                failed(target, error)
            if spent():
                break
