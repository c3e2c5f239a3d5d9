"""Deadlines of the whole broker in one heap; whoever owns the clock asks for the next one.

Knows nothing of what is due; a target that no longer cares ignores the call. One that has finished is not
kept until its deadline: queues that are deleted soon may have asked for a time far away.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

SWEEP = 1024  # this many more deadlines than last time, or twice as many, and finished targets are swept out
AT_ONCE = 1024  # targets that are called in one run


class Timed(Protocol):
    """Something that asked to be called at a time."""

    @property
    def finished(self) -> bool:
        """Whether no call means anything to it any more."""

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
        """Call ``target`` at ``when`` ms."""
        heappush(self._heap, (when, next(self._number), target))
        if len(self._heap) > self._most:
            self._heap = [item for item in self._heap if not item[2].finished]
            heapify(self._heap)
            self._most = 2 * len(self._heap) + SWEEP

    def next_deadline(self) -> int | None:
        """When the next target is due; None when nothing was asked for."""
        if self._due:
            return self._due[0][0]
        return self._heap[0][0] if self._heap else None

    def run(
        self,
        now: int,
        spent: Callable[[], bool] = lambda: False,
        failed: Callable[[Timed, Exception], None] | None = None,
    ) -> None:
        """Call every target whose time has come. One that asks again for the past is called the next time.

        ``failed`` gets a target that raised; without it the exception is raised here, and those behind it are
        called the next time. So they are when ``spent`` says that this has taken long enough.
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
