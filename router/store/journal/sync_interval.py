"""Periodic sync of the journal, if confirms do not wait for it (``store.sync = "interval"``).

Responsible for the deadline of the next sync, an interval after the first commit that is not on disk. So
there is no sync without commits, and a commit waits for at most an interval and a sync.
"""

from collections.abc import Callable
from typing import Protocol

from leveret.router.turns.timers import Timed


class Syncs(Protocol):
    """The part of the store that this module uses."""

    @property
    def unsynced(self) -> bool:
        """True if there is a commit that is not on disk."""

    def sync(self) -> None:
        """Sync the commits, unless a sync is in progress."""


class IntervalSync:
    """The deadline of the next sync, as a target of the timers."""

    def __init__(self, store: Syncs, interval: int, schedule: Callable[[int, Timed], None]) -> None:
        """``interval`` is in ms."""
        self._store = store
        self._interval = interval
        self._schedule = schedule
        self._waiting = False

    def wrote(self, now: int) -> None:
        """Schedule a sync if needed; called after each commit and each sync."""
        if self._store.unsynced and not self._waiting:
            self._waiting = True
            self._schedule(now + self._interval, self)

    @property
    def finished(self) -> bool:
        return not self._waiting

    def on_timer(self, now: int) -> None:
        self._waiting = False
        self._store.sync()
