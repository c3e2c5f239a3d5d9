"""Watches memory and disk: measures them every now and then, and raises and clears their alarms.

Owns the task and what the log says of alarms. How things are measured is the business of ``machine``, what
raises an alarm and what follows from it that of ``alarms``.
"""

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

RETRY = 1000  # ms until it is tried again to measure
TRIM = 1000  # ms between giving memory back while the alarm is raised
STALLED = 10_000  # ms without a byte taken, after which a full outbox is given up while memory is short
COLLECT = 60_000  # ms between full collections of garbage: nothing else runs meanwhile
ADVICE = {
    DISK: "free space in the data directory's file system, or lower alarms.disk_free_limit",
    MEMORY: "consume or purge what is queued, or raise alarms.memory_high_watermark",
    STORE: "the errors logged before say what to mend; writing is tried again every second",
}


class Machine(Protocol):
    """What is measured, in bytes, and how memory is got back; ``leveret.router.server.os_metrics`` is one."""

    def memory_limit(self) -> int: ...
    def resident_memory(self) -> int: ...
    def free_space(self, path: str) -> int: ...
    def give_memory_back(self) -> None: ...
    def collect_garbage(self) -> None: ...


class Measures(NamedTuple):
    """Bytes that the process takes up, and that are free on disk (None: nothing is kept there)."""

    used: int
    free: int | None


class Watch:
    """Watches a machine for a broker."""

    def __init__(self, driver: Driver, machine: Machine, at_start: int = 0) -> None:
        """``at_start`` is what the process took up before anything was loaded, in bytes."""
        settings = driver.broker.settings
        self._driver = driver
        self._alarms = driver.broker.alarms
        self._machine = machine
        self._path = None if settings.data == NOWHERE else settings.data
        self._high = high_watermark(settings.alarms.memory_high_watermark, machine.memory_limit())
        self._disk_limit = settings.alarms.disk_free_limit
        self._trim_at = self._collect_at = 0  # ms
        self._free_at = 0  # ms, when incomplete messages are given up if memory is still short
        self.at_start = at_start
        self.last = Measures(0, None)  # how things stood when they were looked at last

    @property
    def limits(self) -> Measures:
        """More used, or less free, than that raises the alarms."""
        return Measures(self._high, self._disk_limit)

    async def run(self) -> None:
        """Look again and again, more often when a limit is near."""
        until = RETRY
        while True:
            try:
                until = await self.look()
            except OSError as error:
                structlog.get_logger().error("memory and disk cannot be measured", error=str(error))
            await trio.sleep(until / 1000)

    async def look(self) -> int:
        """Measure, and raise and clear alarms; ms until that is to be done again."""
        # In a thread, which a file system that does not answer may keep for as long as it likes.
        used = await trio.to_thread.run_sync(self._machine.resident_memory, abandon_on_cancel=True)
        # Giving memory back takes up to 0.1 s; a flood that is read meanwhile goes far beyond the mark.
        with (
            self._driver.holding()
            if self._short(used) and MEMORY not in self._alarms.raised
            else nullcontext()
        ):
            return self.judge(await trio.to_thread.run_sync(self.measure, clock(), abandon_on_cancel=True))

    def measure(self, now: int) -> Measures:
        """How things stand; before memory is said to be short, what is free of it is given back."""
        used = self._machine.resident_memory()
        raised = MEMORY in self._alarms.raised
        if self._short(used) and (not raised or now >= self._trim_at):
            self._trim_at = now + TRIM
            self._machine.give_memory_back()
            used = self._machine.resident_memory()
            if self._short(used) and now >= self._collect_at:
                self._collect_at = now + COLLECT
                self._machine.collect_garbage()
                self._machine.give_memory_back()
                used = self._machine.resident_memory()
        return Measures(used, None if self._path is None else self._machine.free_space(self._path))

    def judge(self, measures: Measures) -> int:
        """Raise and clear alarms; ms until the next look."""
        used, free = self.last = measures
        self._driver.begin("alarms")
        set_alarm(self._alarms, MEMORY, self._short(used), used=used, high_watermark=self._high)
        if MEMORY in self._alarms.raised:
            self._cut_off()
            self._free_incoming(used)
        else:
            self._free_at = self._driver.broker.now + STALLED
        distance = abs(self._high - used)
        if free is not None:
            set_alarm(self._alarms, DISK, free < self._disk_limit, free=free, limit=self._disk_limit)
            distance = min(distance, abs(free - self._disk_limit))
        self._driver.end()
        return next_look(distance)

    def _cut_off(self) -> None:
        """Memory is short: let go of clients that have taken nothing of what waits for them for a while."""
        now = self._driver.broker.now
        for outbox in list(self._driver.outboxes.full):
            if not outbox.closed and now - outbox.last_sent() > STALLED:
                log = structlog.get_logger()
                log.warning("memory is short: a client that does not read is cut off", unsent=outbox.size)
                outbox.close()

    def _free_incoming(self, used: int) -> None:
        """Give up messages that are not complete if they alone keep memory short: their senders are blocked,
        so the alarm would never be cleared.
        """
        broker = self._driver.broker
        clears = int(self._high * MEMORY_CLEARS)
        if broker.now >= self._free_at and used > clears >= used - broker.incoming.held:
            broker.incoming.free(used - clears)
            self._free_at = broker.now + STALLED

    def _short(self, used: int) -> bool:
        return short_of_memory(used, self._high, raised=MEMORY in self._alarms.raised)


def set_alarm(alarms: Alarms, alarm: str, raised: bool, **numbers: object) -> None:
    """Raise or clear an alarm, and log it with its numbers if that is new."""
    if not alarms.set(alarm, raised=raised):
        return
    log = structlog.get_logger()
    if raised:
        log.warning(f"{alarm} alarm: publishers are blocked", **numbers, advice=ADVICE[alarm])
    else:
        log.info(f"{alarm} alarm cleared", **numbers, still_raised=sorted(alarms.raised))
