"""Deadlines of the whole broker, in one heap.

Responsible for calling targets when they are due. Not for the clock: the event loop asks for
``next_deadline``. A target may ignore a call that no longer matters. A finished target is not kept until its
deadline: short-lived queues may have scheduled a time far away.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

SWEEP = 1024  # finished targets are removed at this many deadlines and twice those left last time
AT_ONCE = 1024  # targets called in one run


class Timed(Protocol):
    """A target that is called at a scheduled time."""

    @property
    def finished(self) -> bool:
        """True if the target no longer needs a call."""

    def on_timer(self, now: int) -> None: ...


class Timers:
    """Targets by deadline, in ms of the monotonic clock."""

    __slots__ = ("_due", "_heap", "_most", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timed]] = []
        self._due: deque[tuple[int, Timed]] = deque()
        self._number = count()
        self._most = SWEEP

    def schedule(self, when: int, target: Timed) -> None:
        """Call ``target`` at ``when`` (ms of the monotonic clock)."""
        heappush(self._heap, (when, next(self._number), target))
        if len(self._heap) > self._most:
            self._heap = [item for item in self._heap if not item[2].finished]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + SWEEP

    def next_deadline(self) -> int | None:
        """Return the time (ms) of the next deadline; None if there is none."""
        if self._due:
            return self._due[0][0]
        return self._heap[0][0] if self._heap else None

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
        while self._heap and self._heap[0][0] <= now and len(due) < AT_ONCE:
            when, _, target = heappop(self._heap)
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
