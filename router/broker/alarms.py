"""Alarms: while any is raised, nobody who publishes is read from. And when a measure raises one.

Owns which are raised and whom they keep waiting. Who measures, and how a client is kept waiting and told of
it, is the business of others.

Sources: RabbitMQ, "Memory and Disk Alarms" and "Blocked Connection Notifications".
"""

from typing import Protocol

DISK = "disk"  # little room is left where the data directory is
MEMORY = "memory"  # the process takes up much
STORE = "store"  # writing to the data directory failed

MEMORY_CLEARS = 0.95  # of the high watermark: an alarm shall not come and go with every message
FASTEST = 1_000_000  # bytes a ms by which a measure may near its limit: more than publishers have managed
LOOKS = (25, 1000)  # ms from one look at the measures to the next, at least and at most


class Publisher(Protocol):
    """A connection that published while an alarm was raised."""

    def unblock(self) -> None:
        """The last alarm was cleared: go on."""


class Alarms:
    """The alarms of one broker. ``raised`` is empty as long as all is well; who publishes asks that only."""

    def __init__(self) -> None:
        self.raised: set[str] = set()
        self._blocked: dict[Publisher, None] = {}

    def set(self, alarm: str, *, raised: bool) -> bool:
        """Raise or clear an alarm; with the last one all publishers go on. True when it was not so before."""
        if raised is (alarm in self.raised):
            return False
        if raised:
            self.raised.add(alarm)
            return True
        self.raised.discard(alarm)
        if not self.raised:
            blocked, self._blocked = self._blocked, {}
            for publisher in blocked:
                publisher.unblock()
        return True

    def block(self, publisher: Publisher) -> None:
        """Keep a publisher waiting for the last alarm to be cleared."""
        self._blocked[publisher] = None

    def blocks(self, publisher: Publisher) -> bool:
        """Whether a publisher is kept waiting."""
        return publisher in self._blocked

    def forget(self, publisher: Publisher) -> None:
        """A publisher waits no longer, if it did."""
        self._blocked.pop(publisher, None)

    def reason(self) -> str:
        """Why publishers wait, in RabbitMQ's words; it has none for a store that cannot write."""
        reasons = []
        if low := sorted(self.raised - {STORE}):
            reasons.append(f"low on {' & '.join(low)}")
        if STORE in self.raised:
            reasons.append("writing to disk failed")
        return ", ".join(reasons)


def high_watermark(setting: float, memory: int) -> int:
    """The bytes above which memory is short, for a share of all ``memory`` or an absolute size."""
    return int(setting * memory if setting <= 1 else setting)


def short_of_memory(used: int, high: int, *, raised: bool) -> bool:
    """Whether so many bytes raise the alarm, or are too many to clear it."""
    return used > (high * MEMORY_CLEARS if raised else high)


def next_look(distance: int) -> int:
    """ms until the measures are to be looked at again, the nearest being so many bytes from its limit."""
    return min(max(distance // FASTEST, LOOKS[0]), LOOKS[1])
