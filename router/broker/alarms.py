"""Resource alarms, which block publishers while any is raised, and the thresholds that raise them.

Responsible for the raised alarms and the blocked publishers. ``server.resource_monitor`` measures, and a
connection blocks itself and notifies its client.

Sources: RabbitMQ, "Memory and Disk Alarms" and "Blocked Connection Notifications".
"""

from typing import Protocol

DISK = "disk"  # little space is left on the file system of the data directory
MEMORY = "memory"  # the process uses more than the high watermark
STORE = "store"  # writing to the data directory failed

MEMORY_CLEARS = 0.95  # of the high watermark: an alarm must not change with every message
FASTEST = 1_000_000  # bytes a ms: no measured publisher filled memory or disk faster
INTERVALS = (25, 1000)  # ms between two measurements, at least and at most


class BlockedPublisher(Protocol):
    """A connection that published while an alarm was raised."""

    def unblock(self) -> None:
        """Continue reading: the last alarm was cleared."""


class Alarms:
    """The alarms of one broker. ``raised`` is empty if there are none; publishers check nothing else."""

    def __init__(self) -> None:
        self.raised: set[str] = set()
        self._blocked: dict[BlockedPublisher, None] = {}

    def set(self, alarm: str, *, raised: bool) -> bool:
        """Raise or clear an alarm; unblock all publishers if it was the last. Return True if it has
        changed.
        """
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

    def block(self, publisher: BlockedPublisher) -> None:
        """Block a publisher until the last alarm is cleared."""
        self._blocked[publisher] = None

    def blocks(self, publisher: BlockedPublisher) -> bool:
        """Return True if a publisher is blocked."""
        return publisher in self._blocked

    def forget(self, publisher: BlockedPublisher) -> None:
        """Remove a publisher, if it is blocked."""
        self._blocked.pop(publisher, None)

    def reason(self) -> str:
        """Return why publishers are blocked: RabbitMQ's texts, and leveret's own for a store that cannot
        write.
        """
        reasons = []
        if low := sorted(self.raised - {STORE}):
            reasons.append(f"low on {' & '.join(low)}")
        if STORE in self.raised:
            reasons.append("writing to disk failed")
        return ", ".join(reasons)


def high_watermark(setting: float, memory: int) -> int:
    """Return the high watermark in bytes, from a share of all ``memory`` or an absolute size."""
    return int(setting * memory if setting <= 1 else setting)


def short_of_memory(used: int, high: int, *, raised: bool) -> bool:
    """Return True if ``used`` bytes raise the memory alarm, or are too many to clear a raised one."""
    return used > (high * MEMORY_CLEARS if raised else high)


def next_look(distance: int) -> int:
    """Return the ms until the next measurement, if a measure is ``distance`` bytes from its limit."""
    return min(max(distance // FASTEST, INTERVALS[0]), INTERVALS[1])
