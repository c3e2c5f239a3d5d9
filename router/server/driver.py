"""The clock of the core: says what time it is, ends batches, and calls when something is due.

Owns the two tasks that act without a client having said anything: one for deadlines, one for work left over
from a batch that had to make way for others. What fails there, or where the core delivers, is no client's
fault: it is logged, and the rest goes on, unless it was the store that failed: then the broker stops. It
gives each turn its budget of time, and measures what it took.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import trio

from leveret.router.broker.broker import Broker
from leveret.router.server.outbox import Outboxes
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.turns.turn_times import SLOW, Turn

LATE = 1000  # ms after which a deadline has been missed by more than what a busy loop explains,
GRACE = 0.5  # and seconds that clients are read from then before deadlines are looked at
PATIENCE = 1  # seconds that a client is kept waiting for a disk that is behind
COMMANDS = (
    0.0025  # seconds of a turn for what a client has sent, or is due; see ``Broker.flush`` for the rest
)


class Driver:
    """Runs ``broker``'s clock. Whoever handles a batch calls ``begin`` before it and ``end`` after it."""

    def __init__(self, broker: Broker, *, send_timeout: float = math.inf) -> None:
        self.broker = broker
        self.outboxes = Outboxes()
        self.send_timeouts = SendTimeouts(send_timeout)
        # HTTP requests acquire it before each slice of a long answer, so that all of them together run one
        # slice in each round of the event loop: 20 lists of thousands of queues would take 100 ms otherwise.
        self.long_answers = trio.Lock()
        self._taken = 0  # bytes from clients since the last commit
        self._relief = trio.Event()
        self._held: trio.Event | None = None  # set when clients may be read from again
        self._armed: int | None = None  # when the timer task wakes by itself
        self._earlier = trio.Event()
        self._more = trio.Event()
        self._log = structlog.get_logger()
        self._what = ""
        self._began = self._began_cpu = 0.0
        broker.budget.clock = time.perf_counter
        self.begin()

    def begin(self, what: str = "") -> int:
        """Read the clocks for this batch; return the monotonic ms. ``what`` names it if it takes long."""
        self.broker.now = now = clock()
        wall = time.time_ns() // 1_000_000
        self.broker.wall = wall // 1000
        self.broker.wall_offset = wall - now
        self._what = what
        self._began_cpu = time.thread_time()
        self._began = began = time.perf_counter()
        self.broker.budget.begin(began + COMMANDS)
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
        handled = time.perf_counter()
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
        seconds, cpu = time.perf_counter() - self._began, time.thread_time() - self._began_cpu
        times = broker.turn_times
        if seconds > times.most or cpu > times.most_cpu or seconds >= SLOW or broker.now >= times.ends:
            self._record(seconds, cpu, handled - self._began)

    def _record(self, seconds: float, cpu: float, handling: float) -> None:
        """Take note of a long turn, and log one that was slow."""
        broker = self.broker
        what = self._what or "a turn"
        if handling < seconds / 2 and broker.doing:
            what = f"{what}: {broker.doing}"
        if broker.turn_times.record(Turn(seconds, cpu, what), broker.now):
            ms = {"ms": seconds, "cpu_ms": cpu, "handling_ms": handling}
            rounded = {name: round(1000 * value, 1) for name, value in ms.items()}
            self._log.warning("a turn of the event loop took long", what=what, **rounded)

    async def take(self, size: int) -> None:
        """Count what a client has sent, and wait while the disk is behind; not for ever, whatever happens."""
        self._taken += size
        if self._held is not None:
            with trio.move_on_after(PATIENCE):
                await self._held.wait()
        if self.broker.keeper.behind(self._taken):
            with trio.move_on_after(PATIENCE):
                while self.broker.keeper.behind(self._taken):
                    await self._relief.wait()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Read nothing more from clients in the block; it must be short."""
        self._held = held = trio.Event()
        try:
            yield
        finally:
            self._held = None
            held.set()

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
            wake = max(deadline, clock() + 1)
            with trio.move_on_at(wake / 1000):  # which may have passed by now: others run on this machine too
                await self._earlier.wait()
            if clock() - wake >= LATE:
                # The process was suspended, or something kept it very busy. What clients have sent meanwhile
                # is unread: read it before anybody is judged for having been silent.
                self._log.warning("deadlines are late", ms=clock() - wake)
                await trio.sleep(GRACE)
            self.begin("deadlines")
            try:
                self.broker.on_timers()
            except Exception as error:
                self.failed("a deadline could not be kept", error)
            self.end()

    async def finish(self) -> None:
        """Do all that earlier turns have left over: the broker stops, and what it has begun is to be kept."""
        while self.broker.backlog.works:
            self.begin("work left over")
            self.end(left_over=True)
            await trio.lowlevel.checkpoint()

    async def carry_on(self) -> None:
        """Go on with what a batch left over, letting everyone else in between."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            self.begin("work left over")
            self.end(left_over=True)


def clock() -> int:
    """ms of the clock that Trio's deadlines are measured by."""
    return int(trio.current_time() * 1000)
