"""Monitor of memory and disk space: measures them at intervals, and raises and clears alarms.

Responsible for the task and the log lines of alarms. Not for measuring (see ``os_metrics``) nor for the
effects of alarms (see ``router/broker/alarms.py``).
"""

import tempfile
from contextlib import nullcontext
from typing import NamedTuple, Protocol

import structlog
import trio

from leveret.router.broker.alarms import (
    DISK,
    MEMORY,
    MEMORY_CLEARS,
    STORE,
    Alarms,
    high_watermark,
    next_look,
    short_of_memory,
)
from leveret.router.server.driver import Driver, clock
from leveret.router.settings import MEMORY as NOWHERE

RETRY = 1000  # ms until a failed measurement is repeated
TRIM = 1000  # ms between returns of memory to the system while the alarm is raised
# ms without progress after which the client of a full outbox is disconnected while memory is short
STALLED = 10_000
COLLECT = 60_000  # ms between full garbage collections, in which nothing else runs
ADVICE = {
    DISK: "free space in the data directory's file system, or lower alarms.disk_free_limit",
    MEMORY: "consume or purge what is queued, or raise alarms.memory_high_watermark",
    STORE: "see the errors logged before; writing is tried again every second",
}


class ResourceSource(Protocol):
    """Measures memory and disk in bytes, and returns freed memory to the operating system.

    The module ``os_metrics`` implements it.
    """

    def memory_limit(self) -> int: ...
    def resident_memory(self) -> int: ...
    def free_space(self, path: str) -> int: ...
    def give_memory_back(self) -> None: ...
    def collect_garbage(self) -> None: ...


class ResourceUse(NamedTuple):
    """Bytes used by the process, and bytes free on disk (None: without a data directory)."""

    used: int
    free: int | None


class ResourceMonitor:
    """Monitor of the machine for a broker."""

    def __init__(self, driver: Driver, machine: ResourceSource, at_start: int = 0) -> None:
        """Create a monitor. ``at_start`` is the memory of the process before modules were loaded, in
        bytes.
        """
        settings = driver.broker.settings
        self._driver = driver
        self._alarms = driver.broker.alarms
        self._machine = machine
        # With a PostgreSQL only messages that do not survive the broker are on a disk of this machine.
        path = tempfile.gettempdir() if settings.store.url else settings.data
        self._path = None if path == NOWHERE else path
        self._high = high_watermark(settings.alarms.memory_high_watermark, machine.memory_limit())
        self._disk_limit = settings.alarms.disk_free_limit
        self._trim_at = self._collect_at = 0  # ms
        self._free_at = 0  # ms at which incomplete messages are dropped if memory is still short
        self.at_start = at_start
        self.last = ResourceUse(0, None)  # the latest measurements

    @property
    def limits(self) -> ResourceUse:
        """Return the memory and the free space at which the alarms are raised."""
        return ResourceUse(self._high, self._disk_limit)

    async def run(self) -> None:
        """Measure at intervals, more often when a limit is near."""
        until = RETRY
        while True:
            try:
                until = await self.check()
            except OSError as error:
                structlog.get_logger().error("measuring memory and disk failed", error=str(error))
            await trio.sleep(until / 1000)

    async def check(self) -> int:
        """Measure, and raise and clear alarms; return the ms until the next measurement."""
        # In a thread, since a file system that does not answer may block it for long.
        used = await trio.to_thread.run_sync(self._machine.resident_memory, abandon_on_cancel=True)
        # Returning memory takes up to 0.1 s; data that a flood brings meanwhile would exceed the limit by
        # far.
        with (
            self._driver.holding()
            if self._is_memory_short(used) and MEMORY not in self._alarms.raised
            else nullcontext()
        ):
            return self.update_alarms(
                await trio.to_thread.run_sync(self.measure, clock(), abandon_on_cancel=True)
            )

    def measure(self, now: int) -> ResourceUse:
        """Measure; before memory counts as short, freed memory is returned to the system."""
        used = self._machine.resident_memory()
        raised = MEMORY in self._alarms.raised
        if self._is_memory_short(used) and (not raised or now >= self._trim_at):
            self._trim_at = now + TRIM
            self._machine.give_memory_back()
            used = self._machine.resident_memory()
            if self._is_memory_short(used) and now >= self._collect_at:
                self._collect_at = now + COLLECT
                self._machine.collect_garbage()
                self._machine.give_memory_back()
                used = self._machine.resident_memory()
        return ResourceUse(used, None if self._path is None else self._machine.free_space(self._path))

    def update_alarms(self, measures: ResourceUse) -> int:
        """Raise and clear alarms; return the ms until the next measurement."""
        used, free = self.last = measures
        self._driver.begin("alarms")
        set_alarm(self._alarms, MEMORY, self._is_memory_short(used), used=used, high_watermark=self._high)
        if MEMORY in self._alarms.raised:
            self._disconnect_slow_clients()
            self._drop_incoming(used)
        else:
            self._free_at = self._driver.broker.now + STALLED
        distance = abs(self._high - used)
        if free is not None:
            set_alarm(self._alarms, DISK, free < self._disk_limit, free=free, limit=self._disk_limit)
            distance = min(distance, abs(free - self._disk_limit))
        self._driver.end()
        return next_look(distance)

    def _disconnect_slow_clients(self) -> None:
        """Disconnect clients that have not read their waiting data for a while: memory is short."""
        now = self._driver.broker.now
        for outbox in list(self._driver.outboxes.full):
            if not outbox.closed and now - outbox.last_sent() > STALLED:
                log = structlog.get_logger()
                log.warning("memory is short: disconnecting a client that does not read", unsent=outbox.size)
                outbox.close()

    def _drop_incoming(self, used: int) -> None:
        """Drop incomplete messages if they alone keep memory short: their senders are blocked, so the alarm
        would never be cleared.
        """
        broker = self._driver.broker
        clears = int(self._high * MEMORY_CLEARS)
        if broker.now >= self._free_at and used > clears >= used - broker.incoming.held:
            broker.incoming.free(used - clears)
            self._free_at = broker.now + STALLED

    def _is_memory_short(self, used: int) -> bool:
        return short_of_memory(used, self._high, raised=MEMORY in self._alarms.raised)


def set_alarm(alarms: Alarms, alarm: str, raised: bool, **numbers: object) -> None:
    """Raise or clear an alarm, and log a change with its numbers."""
    if not alarms.set(alarm, raised=raised):
        return
    log = structlog.get_logger()
    if raised:
        log.warning(f"{alarm} alarm: publishers are blocked", **numbers, advice=ADVICE[alarm])
    else:
        log.info(f"{alarm} alarm cleared", **numbers, still_raised=sorted(alarms.raised))
