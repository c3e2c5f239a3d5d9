"""Clock of the core: sets the time, ends batches, and runs timers.

Responsible for the two tasks that act without input of a client: one for timers, one for unfinished work of
earlier turns. An exception in these tasks, or in the delivery of queues, ends no client's connection: it is
logged, and the broker stops only if the store has failed. Sets the time budget of each turn;
``turn_meter`` measures the duration of turns.
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
from leveret.router.server.young_collections import YoungCollections

LATE = 1000  # ms; a timer that is later shows that the process did not run
GRACE = 0.5  # seconds in which clients are then read from before overdue timers run
LARGE_READ = 1 << 12  # bytes of a read from which it is large
HOLD_TIMEOUT = 1  # seconds that a client waits at most for the disk
COMMANDS = 0.0025  # seconds of a turn for commands of a client or due timers


class Driver:
    """Runs the clock of ``broker``. Every batch is enclosed in calls of ``begin`` and ``end``."""

    def __init__(self, broker: Broker, *, send_timeout: float = math.inf) -> None:
        self.broker = broker
        self.outboxes = Outboxes()
        self.send_timeouts = SendTimeouts(send_timeout)
        # HTTP requests acquire it before each slice of a long answer, so that all of them together run one
        # slice in each round of the event loop: 20 lists of thousands of queues would take 100 ms otherwise.
        self.long_answers = trio.Lock()
        self._collections = YoungCollections()
        # Bytes from clients since the last commit, in reads of less than ``LARGE_READ`` bytes and in others
        self._taken_small = self._taken_large = 0
        self._relief = trio.Event()
        self._held: trio.Event | None = None  # set when clients may be read from again
        self._armed: int | None = None  # when the timer task wakes by itself, in ms
        self._earlier = trio.Event()
        self._more = trio.Event()
        self._log = structlog.get_logger()
        self._what = ""
        self.began = self.ended = self._handled = 0.0  # of the last batch, in seconds of perf_counter
        broker.budget.clock = time.perf_counter
        self.begin()

    def begin(self, what: str = "") -> int:
        """Read the clocks for this batch; return the monotonic ms. ``what`` names the batch in the log if it
        takes long.
        """
        self.broker.now = now = clock()
        wall = time.time_ns() // 1_000_000
        self.broker.wall = wall // 1000
        self.broker.wall_offset = wall - now
        self._what = what
        self.began = began = time.perf_counter()
        self.broker.budget.begin(began + COMMANDS)
        return now

    def failed(self, what: str, error: BaseException) -> None:
        """Log an exception that no client has caused; the broker stops if the store has failed."""
        self._log.error(what, exc_info=error)
        self.broker.failed(error)

    def log_refusal(self, event: str, reason: str, peer: str) -> None:
        """Log a client that was refused before it reached the core, or count it."""
        self.begin("a refused client")
        self.broker.refusals.add(self._log.bind(peer=peer), event, self.broker.now, reason=reason)
        self.end()

    def end(self, *, left_over: bool = False) -> None:
        """Complete the batch: deliver, and with ``left_over`` continue work of earlier turns. Then wake the
        tasks for timers and for left-over work if they are needed.
        """
        broker = self.broker
        self._handled = time.perf_counter()
        try:
            if broker.scheduler.end_batch(left_over=left_over):
                self._more.set()
        except Exception as error:
            self.failed("queue delivery raised an exception", error)
            self._more.set()
        # The client of this batch is served first: the outbox that was written to last has its reply.
        due = self.outboxes.due
        for outbox in reversed(due):
            outbox.end_batch(broker.now)
        due.clear()
        deadline = broker.timers.next_deadline()
        if deadline is not None and (self._armed is None or deadline < self._armed):
            self._earlier.set()
        self.ended = ended = time.perf_counter()
        self._collections.worked(ended - self.began)

    def last_batch(self, *, since: float) -> tuple[str, float]:
        """Return what the last batch did, for logs, and the seconds that its commands took.

        Returns "" and 0 if it began before ``since``, in seconds of ``time.perf_counter``.
        """
        if self.began < since:
            return "", 0.0
        what, doing = self._what or "a turn", self.broker.scheduler.doing
        handling = max(0.0, self._handled - self.began)
        if doing and handling < (self.ended - self.began) / 2:
            what = f"{what}: {doing}"
        return what, handling

    async def throttle(self, size: int) -> None:
        """Count bytes that were read from a client, and wait while the disk is behind, for a limited time.

        Small reads and large ones are counted apart: those who send a message now and then do not wait for
        the disk because another client sends gigabytes.
        """
        if size < LARGE_READ:
            self._taken_small += size
        else:
            self._taken_large += size
        if self._held is not None:
            with trio.move_on_after(HOLD_TIMEOUT):
                await self._held.wait()
        if self._is_behind(size):
            with trio.move_on_after(HOLD_TIMEOUT):
                while self._is_behind(size):
                    await self._relief.wait()

    def _is_behind(self, size: int) -> bool:
        """Return True if a client with a read of ``size`` bytes must wait for the disk."""
        small = size < LARGE_READ
        return self.broker.storage.behind(self._taken_small if small else self._taken_large, small=small)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Read nothing from clients during the block, which must be short."""
        self._held = held = trio.Event()
        try:
            yield
        finally:
            self._held = None
            held.set()

    def release_waiting(self, *, committed: bool) -> None:
        """Let clients that wait for the disk continue, after a commit or a change of the store's state."""
        if committed:
            self._taken_small = self._taken_large = 0
        self._relief.set()
        self._relief = trio.Event()

    async def run_timers(self) -> None:
        """Run the timers of the broker when they are due."""
        while True:
            self._earlier = trio.Event()
            self._armed = deadline = self.broker.timers.next_deadline()
            if deadline is None:
                await self._earlier.wait()
                continue
            # 1 ms at least, so that a timer that is always due does not block all other tasks.
            wake = max(deadline, clock() + 1)
            with trio.move_on_at(wake / 1000):  # possibly in the past: other processes need the machine too
                await self._earlier.wait()
            if clock() - wake >= LATE:
                # The process was suspended, or was very busy. Data that clients have sent meanwhile is
                # unread: read it before clients are disconnected for missing heartbeats.
                self._log.warning("timers are late", ms=clock() - wake)
                await trio.sleep(GRACE)
            self.begin("deadlines")
            try:
                self.broker.on_timers()
            except Exception as error:
                self.failed("timer callback raised an exception", error)
            self.end()

    async def finish(self) -> None:
        """Complete all work of earlier turns before the broker stops, and log the counted drops and
        refusals.
        """
        self.begin("the last log lines")
        for counted in (self.broker.drops, self.broker.refusals):
            counted.on_timer(self.broker.now)
        self.end()
        while self.broker.backlog.works:
            self.begin("work left over")
            self.end(left_over=True)
            await trio.lowlevel.checkpoint()

    async def run_left_over_work(self) -> None:
        """Continue work of earlier turns, with all other tasks in between."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            self.begin("work left over")
            self.end(left_over=True)


def clock() -> int:
    """Return ms of the clock that Trio's deadlines use."""
    return int(trio.current_time() * 1000)
