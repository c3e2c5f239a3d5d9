"""Processes of a benchmark: starting them, their shared counters, and their reports.

Not for publishing and consuming (see ``publisher`` and ``consumer``).
"""

import contextlib
import math
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from ctypes import c_double, c_uint64
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar

from hdrh.histogram import HdrHistogram

from leveret.router.bench.load import BenchError, BenchTarget, Load

CONTEXT = multiprocessing.get_context("fork")
LOWEST, HIGHEST, DIGITS = 1, 600_000_000, 3  # range and precision of latencies, in us
SHORTEST = 1e-6  # seconds
T = TypeVar("T")


def clocks() -> tuple[float, float]:
    """Return the monotonic clock, which all processes share, and this process's CPU time, both in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


class Counters:
    """Messages sent, confirmed and received by all processes of a run, each with a slot of its own; and the
    start and end of measuring.
    """

    def __init__(self, processes: int) -> None:
        self.times = CONTEXT.RawArray(c_double, [math.inf, math.inf])
        self.sent = CONTEXT.RawArray(c_uint64, processes)
        self.confirmed = CONTEXT.RawArray(c_uint64, processes)
        self.received = CONTEXT.RawArray(c_uint64, processes)


@dataclass(frozen=True)
class BenchRun:
    """Settings and counters that both sides of a run share."""

    target: BenchTarget
    load: Load
    counters: Counters

    @property
    def begin(self) -> float:
        """Return the start of measuring by the monotonic clock; infinite until all processes are ready."""
        return self.counters.times[0]

    @property
    def end(self) -> float:
        """Return the end of measuring and publishing by the monotonic clock."""
        return self.counters.times[1]

    def measure(self, begin: float, end: float) -> None:
        """Set the start and the end of measuring."""
        self.counters.times[1] = end
        self.counters.times[0] = begin


@dataclass
class ProcessReport:
    """Results of a process: messages by queue, the sum of the low bytes of their numbers, messages a second,
    CPU use in cores, latencies in us as an encoded histogram, and the seconds that were measured.
    """

    counts: dict[str, int]
    checksum: int
    rate: float
    cpu: float
    latencies: bytes = b""
    seconds: float = 0.0

    def add(self, other: "ProcessReport") -> None:
        """Add the results of another process of the same side."""
        for queue, count in other.counts.items():
            self.counts[queue] = self.counts.get(queue, 0) + count
        self.checksum += other.checksum
        self.rate += other.rate
        self.cpu += other.cpu
        self.seconds = max(self.seconds, other.seconds)


@dataclass
class Meter:
    """Rate and CPU use between the start of measuring and its end, or the last message if there is no end."""

    run: BenchRun
    _marks: list[tuple[int, float, float]] = field(default_factory=list)
    _last: tuple[int, float] = (-1, 0.0)  # the highest count, and when it was reached

    def note(self, count: int, *, end: bool = False) -> None:
        """Set the number of messages so far; ``end``: no more will follow."""
        now = time.monotonic()
        if count != self._last[0]:
            self._last = count, now
        if not self._marks and now >= self.run.begin:
            self._marks.append((count, *clocks()))
        if len(self._marks) == 1 and (end or now >= self.run.end):
            self._marks.append((count, *clocks()))

    def report(self, counts: dict[str, int], checksum: int, latencies: bytes = b"") -> ProcessReport:
        if len(self._marks) < 2:
            raise BenchError("the run ended before its measurement began: use a larger --count")
        count, seconds, cpu = (last - first for first, last in zip(*self._marks, strict=True))
        used = cpu / seconds
        if self.run.end == math.inf:
            seconds = max(self._last[1] - self._marks[0][1], SHORTEST)
        return ProcessReport(counts, checksum, count / seconds, used, latencies, seconds)


def latencies() -> HdrHistogram:
    """Return an empty histogram of latencies in us."""
    return HdrHistogram(LOWEST, HIGHEST, DIGITS)


def low_bytes(count: int) -> int:
    """Return the sum of the low bytes of the numbers below ``count``."""
    whole, rest = divmod(count, 256)
    return whole * (255 * 128) + rest * (rest - 1) // 2


def start(
    stack: contextlib.ExitStack, work: Callable[[BenchRun, int, Pipe], None], run: BenchRun, number: int
) -> Pipe:
    """Run ``work`` as process ``number`` of its side until the stack ends; return the pipe for its
    reports.
    """
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_child, args=(work, run, number, there), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)  # before the join; no effect if the process has ended
    return here


def _child(work: Callable[[BenchRun, int, Pipe], None], run: BenchRun, number: int, pipe: Pipe) -> None:
    """Run one side in its process; send its exception in place of a result.

    The parent ends it: an interrupt is for the parent, which deletes the queues before it ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        work(run, number, pipe)
    except (BenchError, OSError) as error:
        pipe.send(BenchError(f"{work.__name__}: {error}"))


def receive(pipe: Pipe, seconds: float) -> Any:
    """Return the next report of a process. Raises BenchError if it failed or reports nothing in time."""
    if not pipe.poll(seconds):
        raise BenchError(f"a process of the generator reported nothing in {seconds:.0f} s")
    try:
        result = pipe.recv()
    except EOFError:
        raise BenchError("a process of the generator ended without a report") from None
    if isinstance(result, BenchError):
        raise result
    return result
