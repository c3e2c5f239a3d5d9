"""The clock of the core: says what time it is, ends batches, and calls when something is due.

Owns the two tasks that act without a client having said anything: one for deadlines, one for work left over
from a batch that had to make way for others. What fails there, or where the core delivers, is no client's
fault: it is logged, and the rest goes on, unless it was the store that failed: then the broker stops.
"""

import time

import structlog
import trio

from router.broker import Broker
from router.server.outbox import Outboxes

PATIENCE = 1  # seconds that a client is kept waiting for a disk that is behind


class Driver:
    """Runs ``broker``'s clock. Whoever handles a batch calls ``begin`` before it and ``end`` after it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.outboxes = Outboxes()
        self._taken = 0  # bytes from clients since the last commit
        self._relief = trio.Event()
        self._armed: int | None = None  # when the timer task wakes by itself
        self._earlier = trio.Event()
        self._more = trio.Event()
        self._log = structlog.get_logger()
        self.begin()

    def begin(self) -> int:
        """Read the clocks for this batch; return the monotonic one's ms."""
        self.broker.now = now = clock()
        wall = time.time_ns() // 1_000_000
        self.broker.wall = wall // 1000
        self.broker.wall_offset = wall - now
        return now

    def failed(self, what: str, error: BaseException) -> None:
        """Log what no client is to blame for, and let the store judge whether it may go on."""
        self._log.error(what, exc_info=error)
        self.broker.failed(error)

    def end(self, *, left_over: bool = False) -> None:
        """Let the batch take effect, with what earlier ones left over if asked to; wake whoever is needed for
        what it has started.
        """
        broker = self.broker
        try:
            if broker.flush(left_over=left_over):
                self._more.set()
        except Exception as error:
            self.failed("delivering failed", error)
            self._more.set()
        # What was written last answers whoever sent this batch, and who waits for an answer comes first.
        due = self.outboxes.due
        for outbox in reversed(due):
            outbox.end_batch(broker.now)
        due.clear()
        deadline = broker.timers.next_deadline()
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._earlier.set()

    async def take(self, size: int) -> None:
        """Count what a client has sent, and wait while the disk is behind; not for ever, whatever happens."""
        self._taken += size
        if self.broker.keeper.behind(self._taken):
            with trio.move_on_after(PATIENCE):
                while self.broker.keeper.behind(self._taken):
                    await self._relief.wait()

    def relieve(self, *, committed: bool) -> None:
        """The disk has done something: a commit, or anything else."""
        if committed:
            self._taken = 0
        self._relief.set()
        self._relief = trio.Event()

    async def keep_time(self) -> None:
        """Call the broker whenever a deadline has come."""
        while True:
            self._earlier = trio.Event()
            self._armed = deadline = self.broker.timers.next_deadline()
            if deadline is None:
                await self._earlier.wait()
                continue
            # 1 ms at least, so that a target that always asks for the past keeps nobody from running.
            with trio.move_on_after(max(1, deadline - clock()) / 1000):
                await self._earlier.wait()
            self.begin()
            try:
                self.broker.on_timers()
            except Exception as error:
                self.failed("a deadline could not be kept", error)
            self.end()

    async def carry_on(self) -> None:
        """Go on with what a batch left over, letting everyone else in between."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            self.begin()
            self.end(left_over=True)


def clock() -> int:
    """ms of the clock that Trio's deadlines are measured by."""
    return int(trio.current_time() * 1000)
