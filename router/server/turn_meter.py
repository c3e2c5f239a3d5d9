"""Measurement of the event loop: the duration of each step of a task, and of each round over all ready tasks.

Responsible for the measurement and for the log lines about slow turns. ``turns/turn_times`` keeps the
figures. A step is a turn: no other task runs in it. A step may contain a batch of the driver and what
surrounds it: decoding a request, system calls, cleaning up. A round runs one step of every ready task, then
waits for sockets; a client that sends something waits for the rest of a round.

A measured step costs 0.9 microseconds more than one that is not measured; a step with a system call takes at
least 20.
"""

import time

import structlog
import trio

from leveret.router.server.driver import Driver
from leveret.router.turns.turn_times import SLOW, Turn


class TurnMeter(trio.abc.Instrument):
    """Records the turns and rounds of the event loop of ``driver``."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._turns, self._rounds = driver.broker.turn_times, driver.broker.round_times
        self._began = self._round_began = time.perf_counter()
        self._cpu = self._round_cpu = time.thread_time()

    def after_io_wait(self, timeout: float) -> None:
        """Begin a round."""
        self._began = self._round_began = time.perf_counter()
        self._cpu = self._round_cpu = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Measure the step that has ended. The next step begins with this measurement."""
        now, cpu = time.perf_counter(), time.thread_time()
        seconds, cpu_seconds = now - self._began, cpu - self._cpu
        times = self._turns
        if seconds > times.most or cpu_seconds > times.most_cpu or seconds >= SLOW:
            self._record_turn(task, Turn(seconds, cpu_seconds))
        self._began, self._cpu = now, cpu

    def before_io_wait(self, timeout: float) -> None:
        """Measure the round that has ended."""
        seconds, cpu_seconds = self._began - self._round_began, self._cpu - self._round_cpu
        times = self._rounds
        if seconds > times.most or cpu_seconds > times.most_cpu or self._driver.broker.now >= times.ends:
            times.record(Turn(seconds, cpu_seconds), self._driver.broker.now)
            self._turns.roll(self._driver.broker.now)

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
