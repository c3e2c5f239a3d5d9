"""Log lines of refused clients: anyone can be refused 1,000 times a second, and must not fill the log.

The first refusal of a kind is logged at once. Those of the next minute are logged together at its end, in one
line with their number and the last client's address.
"""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from leveret.router.turns.timers import Timed

PERIOD = 60_000  # ms between two lines about refusals of one kind
KINDS = 64  # kinds with a line of their own in a period

_Kind = tuple[str, tuple[tuple[str, str], ...]]  # event, and the fields of its line
OTHER = (("reason", "other reasons"),)


class RefusalLog(Protocol):
    """The log of one client's connection."""

    def warning(self, event: str, **fields: Any) -> Any: ...


class _Recent(Struct):
    """Refusals that are not logged yet; ``log`` is the one of the last client."""

    log: RefusalLog
    count: int = 0


class Refusals:
    """The refusals of one broker, by event and its fields. ``schedule`` sets a timer, as in ``Drops``."""

    finished = False

    def __init__(self, schedule: Callable[[int, Timed], None]) -> None:
        self._schedule = schedule
        self._recent: dict[_Kind, _Recent] = {}
        self._due = False  # whether a timer is set

    def add(self, log: RefusalLog, event: str, now: int, **fields: str) -> None:
        """Log a refusal, or count it. ``log`` adds the client's address to a line."""
        recent = self._recent
        kind = event, tuple(fields.items())
        if kind not in recent and len(recent) >= KINDS:
            kind = event, OTHER
        found = recent.get(kind)
        if found is not None:
            found.log, found.count = log, found.count + 1
            return
        recent[kind] = _Recent(log)
        log.warning(event, **fields)
        self._wake(now)

    def on_timer(self, now: int) -> None:
        """End a period: log the refusals of each kind, and remove the kinds without any."""
        self._due = False
        recent, self._recent = self._recent, {}
        for (event, fields), found in recent.items():
            if found.count:
                found.log.warning(event, **dict(fields), count=found.count)
                self._recent[event, fields] = _Recent(found.log)
        if self._recent:
            self._wake(now)

    def _wake(self, now: int) -> None:
        if not self._due:
            self._due = True
            self._schedule(now + PERIOD, self)
