"""Measures of one broker: what is done to it for one workload, and the figures that this gives.

A measure has ``topology``, which is there for all rounds, and ``measure``, which is one round. Figures are by
name: messages a second, milliseconds, bytes. Those of throughput are named by the kind of traffic. Measures
of streams and of STOMP over WebSocket are in ``other_measures``.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from conformance.bench.sides import Side, start
from leveret.protocol.amqp import methods as m
from leveret.router.bench.benchmark_run import BenchResult, drive, topology
from leveret.router.bench.churn import bench_connections
from leveret.router.bench.load import KINDS, RAGGED, BenchError, Load
from leveret.router.bench.replies import bench_replies
from leveret.router.bench.wire import BlockingConnection

SETTLE = 1.0  # seconds until an idle broker's memory is looked at
MANY_BINDINGS = 1000  # from this number on ``Scale.part`` applies
SAMPLE = 0.2  # seconds between looks at the memory

Figures = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How long to measure, in seconds; which part of the large numbers is enough; the kinds of traffic."""

    seconds: float = 3.0
    warm_up: float = 1.0
    part: float = 1.0
    kinds: tuple[str, ...] = KINDS

    def of(self, count: int) -> int:
        return max(1, round(count * self.part))


class Measure(Protocol):
    """One workload, as it is done to one broker."""

    @property
    def runs(self) -> int:
        """How often a round runs for ``Scale.seconds``."""

    @property
    def scaled(self) -> bool:
        """Whether ``Scale.part`` makes it smaller."""

    def topology(self, side: Side, scale: Scale) -> contextlib.AbstractContextManager[object]:
        """What all rounds share."""

    def measure(self, side: Side, scale: Scale) -> Figures:
        """One round. Raises BenchError when anything was lost."""


class Single:
    """What measures share that run once and have no topology."""

    runs = 1
    scaled = False

    def topology(self, side: Side, scale: Scale) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()


def percentiles(result: BenchResult) -> Figures:
    """p50, p99 and so on, in ms."""
    if result.latency is None:
        return {}
    return {f"p{at:g}": us / 1000 for at, us in result.latency.percentiles.items()}


@dataclass(frozen=True)
class Messages:
    """A load; deliveries a second of each kind of traffic are its figures, and latencies of the first kind.

    ``new_keys``: a figure ``new`` too, with a routing key of its own for each message. ``extension``: the
    load needs something that only leveret has.
    """

    load: Load
    kinds: tuple[str, ...] = (RAGGED,)
    new_keys: bool = False
    extension: bool = False

    @property
    def runs(self) -> int:
        return len(self.kinds) + self.new_keys

    @property
    def scaled(self) -> bool:
        return self.load.bindings >= MANY_BINDINGS

    def _scaled(self, scale: Scale) -> Load:
        if not self.scaled:
            return self.load
        return replace(self.load, bindings=scale.of(self.load.bindings))

    def topology(self, side: Side, scale: Scale) -> contextlib.AbstractContextManager[object]:
        if self.extension and side.name != "leveret":
            return contextlib.nullcontext()
        return topology(side.target, self._scaled(scale))

    def measure(self, side: Side, scale: Scale) -> Figures:
        if self.extension and side.name != "leveret":
            return {}
        figures: Figures = {}
        for kind in [kind for kind in self.kinds if kind in scale.kinds]:
            load = replace(self._scaled(scale), kind=kind)
            result = drive(side.target, load, scale.seconds, scale.warm_up)
            figures = {**percentiles(result), **figures, kind: result.received}
        if self.new_keys and RAGGED in scale.kinds:
            load = replace(self._scaled(scale), new_keys=True)
            figures["new"] = drive(side.target, load, scale.seconds, scale.warm_up).received
        return figures


@dataclass(frozen=True)
class Sizes:
    """The same load with bodies of several sizes; a figure for each."""

    load: Load
    sizes: tuple[int, ...]
    scaled = False

    @property
    def runs(self) -> int:
        return len(self.sizes) // 2

    def topology(self, side: Side, scale: Scale) -> contextlib.AbstractContextManager[object]:
        return topology(side.target, self.load)

    def measure(self, side: Side, scale: Scale) -> Figures:
        figures = {}
        for size in self.sizes:
            load = replace(self.load, size=size, backlog=max(50, min(self.load.backlog, (200 << 20) // size)))
            result = drive(side.target, load, scale.seconds / 2, scale.warm_up / 2)
            figures[str(size)] = result.received
        return figures


@dataclass(frozen=True)
class Beside:
    """A light load while another connection floods the broker; the light one's latency is measured."""

    load: Load
    runs = 2
    scaled = False

    def topology(self, side: Side, scale: Scale) -> contextlib.AbstractContextManager[object]:
        return topology(side.target, self.load)

    def measure(self, side: Side, scale: Scale) -> Figures:
        seconds = 2 * scale.warm_up + scale.seconds + 1.0
        command = [sys.executable, "-m", "leveret", "bench", "--url", side.url, "--json"]
        command += ["--seconds", str(seconds), "--warm-up", "0.2"]
        flood = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            time.sleep(1.0)  # it is there then
            result = drive(side.target, self.load, scale.seconds, scale.warm_up)
            told, failed = flood.communicate(timeout=seconds + 60)
        finally:
            flood.kill()
            flood.wait()
        if flood.returncode:
            raise BenchError(f"the flood failed: {failed.decode()}")
        return {**percentiles(result), "flood": msgspec.json.decode(told)["result"]["received"]}


@dataclass(frozen=True)
class Replies(Single):
    """Round trips over direct reply-to."""

    load: Load

    def measure(self, side: Side, scale: Scale) -> Figures:
        result = bench_replies(side.target, self.load, scale.seconds, scale.warm_up)
        return {"trips": result.received, **percentiles(result)}


@dataclass(frozen=True)
class Connections(Single):
    """Connections opened, one channel each, and closed."""

    load: Load

    def measure(self, side: Side, scale: Scale) -> Figures:
        return {
            "connections": bench_connections(side.target, self.load, scale.seconds, scale.warm_up).received
        }


@dataclass
class Backlog(Single):
    """A durable queue is filled with ``count`` messages, the last of them confirmed, and then drained.

    ``memory`` is the most that the broker had meanwhile; ``curve`` the memory by backlog of the last round,
    by side.
    """

    load: Load
    count: int
    runs = 20  # for so long, about
    scaled = True
    curve: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def measure(self, side: Side, scale: Scale) -> Figures:
        """In a broker of its own, that has no memory of earlier workloads."""
        with start(side.name) if side.resident is not None else contextlib.nullcontext(side) as fresh:
            return self._measure(fresh, scale)

    def _measure(self, side: Side, scale: Scale) -> Figures:
        count, resident = scale.of(self.count), side.resident or (lambda: 0)
        samples = self.curve[side.name] = [(0, resident())]
        last = time.monotonic()

        def watch(elapsed: float, sent: int, confirmed: int, received: int) -> None:
            nonlocal last
            if (now := time.monotonic()) - last > SAMPLE:
                last = now
                samples.append((confirmed, resident()))

        with topology(side.target, self.load):
            fill = replace(self.load, consumers=0, count=count)
            filled = drive(side.target, fill, 0.0, 0.0, watch=watch)
            samples.append((count, resident()))
            drain = replace(self.load, publishers=0)
            drained = drive(side.target, drain, scale.seconds + count / 500, 0.0, there=count)
        if drained.received_in_all != count:
            raise BenchError(f"{count} messages were confirmed, {drained.received_in_all} received")
        figures = {"fill": filled.confirmed, "drain": drained.received}
        if side.resident is not None:
            figures["memory"] = max(memory for _, memory in samples)
        return figures


@dataclass(frozen=True)
class Fresh(Single):
    """A broker is started with an empty directory and does nothing: how long until a channel is open, and its
    memory idle, with idle connections, and with idle queues.
    """

    connections: int = 1000
    queues: int = 10_000
    runs = 6  # for so long, about
    scaled = True

    def measure(self, side: Side, scale: Scale) -> Figures:
        if side.resident is None:
            return {}
        began = time.monotonic()
        with start(side.name) as fresh:
            BlockingConnection(fresh.target).close()
            figures = {"start": (time.monotonic() - began) * 1000}
            assert fresh.resident is not None
            time.sleep(SETTLE)
            figures["idle"] = fresh.resident()
            with _connections(fresh, scale.of(self.connections)):
                time.sleep(SETTLE)
                figures["connections"] = fresh.resident()
        with start(side.name) as fresh:
            assert fresh.resident is not None
            connection = BlockingConnection(fresh.target)
            declared = [
                (1, m.QueueDeclare(f"idle-{number}", durable=True)) for number in range(scale.of(self.queues))
            ]
            connection.call_all(declared, m.QueueDeclareOk)
            time.sleep(SETTLE)
            figures["queues"] = fresh.resident()
            connection.close()
        return figures


@contextlib.contextmanager
def _connections(side: Side, count: int) -> Iterator[None]:
    """Have so many connections with a channel each that do nothing."""
    made = [BlockingConnection(side.target) for _ in range(count)]
    yield
    for connection in made:
        connection.socket.close()
