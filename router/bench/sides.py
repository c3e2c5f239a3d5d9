"""The processes of a run: how they are started, what they count for all to see, and what they report.

Owns no bit of what is published or consumed.
"""

import contextlib
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from ctypes import c_double, c_uint64
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar

from hdrh.histogram import HdrHistogram

from leveret.router.bench.load import BenchError, Load, Target

CONTEXT = multiprocessing.get_context("fork")
LOWEST, HIGHEST, DIGITS = 1, 600_000_000, 3  # of a latency, in us
T = TypeVar("T")


def clocks() -> tuple[float, float]:
    """The monotonic clock, which all processes share, and this process's CPU time, both in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


class Counters:
    """What all processes of a run have sent, confirmed and received by now, each in a place of its own; and
    from when to when is measured.
    """

    def __init__(self, processes: int) -> None:
        self.times = CONTEXT.RawArray(c_double, [math.inf, math.inf])
        self.sent = CONTEXT.RawArray(c_uint64, processes)
        self.confirmed = CONTEXT.RawArray(c_uint64, processes)
        self.received = CONTEXT.RawArray(c_uint64, processes)


@dataclass(frozen=True)
class Run:
    """What both sides share."""

    target: Target
    load: Load
    counters: Counters

    @property
    def begin(self) -> float:
        """When measuring begins, by the monotonic clock; infinite until all are there."""
        return self.counters.times[0]

    @property
    def end(self) -> float:
        """When measuring ends, and publishing."""
        return self.counters.times[1]

    def measure(self, begin: float, end: float) -> None:
        """Say when."""
        self.counters.times[1] = end
        self.counters.times[0] = begin


@dataclass
class Told:
    """What a process did: messages by queue, the sum of the low bytes of their numbers, how many a second,
    and its share of a core; latencies in us, as an encoded histogram.
    """

    counts: dict[str, int]
    checksum: int
    rate: float
    cpu: float
    latencies: bytes = b""

    def add(self, other: "Told") -> None:
        """Add what another process of the same side did."""
        for queue, count in other.counts.items():
            self.counts[queue] = self.counts.get(queue, 0) + count
        self.checksum += other.checksum
        self.rate += other.rate
        self.cpu += other.cpu


@dataclass
class Meter:
    """The rate and the share of a core between the begin of a run and its end."""

    run: Run
    _marks: list[tuple[int, float, float]] = field(default_factory=list)

    def note(self, count: int, *, end: bool = False) -> None:
        """Say how many there have been by now; ``end`` when no more will come."""
        now = time.monotonic()
        if not self._marks and now >= self.run.begin:
            self._marks.append((count, *clocks()))
        if len(self._marks) == 1 and (end or now >= self.run.end):
            self._marks.append((count, *clocks()))

    def told(self, counts: dict[str, int], checksum: int, latencies: bytes = b"") -> Told:
        if len(self._marks) < 2:
            raise BenchError("it was over before anything could be measured: let it take longer")
        count, seconds, cpu = (last - first for first, last in zip(*self._marks, strict=True))
        return Told(counts, checksum, count / seconds, cpu / seconds, latencies)


def latencies() -> HdrHistogram:
    """An empty histogram of latencies in us."""
    return HdrHistogram(LOWEST, HIGHEST, DIGITS)


def low_bytes(count: int) -> int:
    """The sum of the low bytes of the numbers below ``count``."""
    whole, rest = divmod(count, 256)
    return whole * (255 * 128) + rest * (rest - 1) // 2


def start(stack: contextlib.ExitStack, work: Callable[[Run, int, Pipe], None], run: Run, number: int) -> Pipe:
    """Run ``work`` as process ``number`` of its side, which ends with the stack; return the pipe it reports
    through.
    """
    here, there = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_child, args=(work, run, number, there), daemon=True)
    process.start()
    stack.callback(process.join)
    stack.callback(process.kill)  # before the join; nothing when it ended by itself
    return here


def _child(work: Callable[[Run, int, Pipe], None], run: Run, number: int, pipe: Pipe) -> None:
    """Run one side in its process and send its failure instead of a result."""
    try:
        work(run, number, pipe)
    except (BenchError, OSError) as error:
        pipe.send(BenchError(f"{work.__name__}: {error}"))


def receive(pipe: Pipe, seconds: float) -> Any:
    """What the process at the other end reports. Raises BenchError when it failed or says nothing in time."""
    if not pipe.poll(seconds):
        raise BenchError(f"a client reported nothing in {seconds:.0f} s")
    try:
        result = pipe.recv()
    except EOFError:
        raise BenchError("a client ended without a word") from None
    if isinstance(result, BenchError):
        raise result
    return result
