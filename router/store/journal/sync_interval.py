"""When what was written is synced, if the confirms do not wait for that (``store.sync = "interval"``).

Owns the one deadline: it is set by the first commit that is not on disk, and the store syncs when it is over.
So nothing is synced when nothing was written, and nothing waits longer than an interval and a sync.
"""

from collections.abc import Callable
from typing import Protocol

from leveret.router.turns.timers import Timed


class Syncs(Protocol):
    """What is asked of the store."""

    @property
    def unsynced(self) -> bool:
        """Whether anything was committed that is not on disk."""

    def sync(self) -> None:
        """Have it on disk, unless that is under way."""


class IntervalSync:
    """A target of the timers."""

    def __init__(self, store: Syncs, interval: int, schedule: Callable[[int, Timed], None]) -> None:
        """``interval`` in ms."""
        self._store = store
        self._interval = interval
        self._schedule = schedule
        self._waiting = False

    def wrote(self, now: int) -> None:
        """A commit or a sync is done."""
        if self._store.unsynced and not self._waiting:
            self._waiting = True
            self._schedule(now + self._interval, self)

    @property
    def finished(self) -> bool:
        return not self._waiting

    def on_timer(self, now: int) -> None:
        self._waiting = False
        self._store.sync()
