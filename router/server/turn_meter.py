"""Measurement of the event loop: the duration of each step of a task, and of each round over all ready tasks.

Responsible for the measurement and for the log lines about slow turns. ``turns/turn_times`` keeps the
figures. A step is a turn: no other task runs in it. A step may contain a batch of the driver and what
surrounds it: decoding a request, system calls, cleaning up. A round runs one step of every ready task, then
waits for sockets; a client that sends something waits for the rest of a round.

A round of one step costs 1.3 microseconds more than one that is not measured. The clock of processor time
is read at most every ``READ_AFTER`` seconds of steps, because that is a system call of 1 to 2 microseconds.
Steps between two readings are shorter than that and are not recorded. The processor time of a recorded step
is at most its duration, and may include up to ``READ_AFTER`` seconds of the steps before it, and of the
loop's own work between them.
"""

import time

import structlog
import trio

from leveret.router.server.driver import Driver
from leveret.router.turns.turn_times import SLOW, Turn

READ_AFTER = 0.0005  # seconds of steps between two readings of the processor time


class TurnMeter(trio.abc.Instrument):
    """Records the turns and rounds of the event loop of ``driver``."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._turns, self._rounds = driver.broker.turn_times, driver.broker.round_times
        self._began = self._round_began = time.perf_counter()
        self._cpu = self._round_cpu = time.thread_time()
        self._read_at = self._began + READ_AFTER  # when the processor time is read again

    def after_io_wait(self, timeout: float) -> None:
        """Begin a round."""
        now = time.perf_counter()
        self._read_at += now - self._began  # the wait took no processor time
        self._began = self._round_began = now
        self._round_cpu = self._cpu

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Measure the step that has ended. The next step begins with this measurement."""
        now = time.perf_counter()
        if now >= self._read_at:
            seconds = now - self._began
            cpu_seconds = min(seconds, self._read_cpu(now, self._cpu))
            times = self._turns
            if seconds > times.most or cpu_seconds > times.most_cpu or seconds >= SLOW:
                self._record_turn(task, Turn(seconds, cpu_seconds))
        self._began = now

    def before_io_wait(self, timeout: float) -> None:
        """Measure the round that has ended."""
        seconds, now = self._began - self._round_began, self._driver.broker.now
        times = self._rounds
        if seconds >= READ_AFTER or now >= times.ends:
            cpu_seconds = min(seconds, self._read_cpu(self._began, self._round_cpu))
            if seconds > times.most or cpu_seconds > times.most_cpu or now >= times.ends:
                times.record(Turn(seconds, cpu_seconds), now)
                self._turns.roll(now)

    def _read_cpu(self, now: float, before: float) -> float:
        """Read the processor time; return the seconds since the reading ``before``."""
        self._cpu = time.thread_time()
        self._read_at = now + READ_AFTER
        return self._cpu - before

    def _record_turn(self, task: trio.lowlevel.Task, turn: Turn) -> None:
        """Record a turn with the name of its work, and log a slow one."""
        driver = self._driver
        batch, handling = driver.last_batch(since=self._began)
        turn = turn._replace(what=batch or f"task {task.name}")
        if self._turns.record(turn, driver.broker.now):
            ms = {"ms": turn.seconds, "cpu_ms": turn.cpu_seconds, "handling_ms": handling}
            rounded = {name: round(1000 * value, 1) for name, value in ms.items()}
            structlog.get_logger().warning(
                "slow turn of the event loop", what=turn.what, task=task.name, **rounded
            )
