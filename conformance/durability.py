"""How fast persistent messages go through durable queues, beside another broker, and whether all arrive.

``python -m conformance.durability --rounds 3 --broker leveret --broker rabbitmq`` measures each broker in
turn (A B A B ...), so that what else the machine does falls on both. Each broker is a process of its own
whose files are below one directory (``--directory``), so that both write to the same disk.

Two kinds of figures: how many messages a second pass while one side publishes with publisher confirms and
the other consumes; and how fast a backlog is built up, to the last confirm, and then drained, to the last
delivery. In each, what was confirmed is what was received, queue by queue, and at the end nothing is left.
"""

import argparse
import contextlib
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from conformance import brokers, sides
from conformance.brokers import Broker
from conformance.lanes import Run, Told, Workload, consume, produce
from conformance.wire import TIMEOUT, Client, WireError, method, shortstr

WARM_UP = 1.0  # seconds
SLOWEST = 500  # messages a second: a backlog that takes longer is given up

PASSING = {
    "queue": Workload("1 KiB, a window of 2000 confirms, an ack every 100"),
    "queues": Workload(
        "1 KiB to 100 queues, a window of 100 confirms each, an ack every 10",
        queues=100,
        connections=4,
        window=100,
        prefetch=100,
        every=10,
    ),
    "single": Workload("100 B one at a time, acked", size=100, window=1, every=1),
    "settled": Workload("100 B one at a time, automatic ack", size=100, window=1, every=0),
}
BACKLOG = {
    "small": Workload("a backlog of 100 B", size=100),
    "large": Workload("a backlog of 1 KiB"),
}
Figures = dict[str, float]  # what was measured, in messages a second or shares of a core, by name


def pass_through(broker: Broker, workload: Workload, seconds: float) -> Figures:
    """Publish and consume at the same time. Raises WireError when anything was lost or changed."""
    begin = time.monotonic() + 0.5 + WARM_UP
    run = Run(broker, workload, _prefix(), begin, begin + seconds)
    bound = seconds + WARM_UP + 2 * TIMEOUT
    with durable_queues(run), contextlib.ExitStack() as stack:
        consumer = sides.start(stack, consume, run)
        sides.receive(consumer, TIMEOUT)
        producer = sides.start(stack, produce, run)
        confirmed: Told = sides.receive(producer, bound)
        consumer.send(sum(confirmed.counts.values()))
        received: Told = sides.receive(consumer, bound)
        _compare(confirmed, received)
    return {
        "received": received.rate,
        "confirmed": confirmed.rate,
        "producer": confirmed.cpu,
        "consumer": received.cpu,
    }


def fill_and_drain(broker: Broker, workload: Workload, count: int) -> Figures:
    """Publish a backlog of ``count`` messages, then consume it. Raises as ``pass_through``."""
    run = Run(broker, workload, _prefix(), count=count)
    bound = count / SLOWEST + 2 * TIMEOUT
    with durable_queues(run), contextlib.ExitStack() as stack:
        producer = sides.start(stack, produce, run)
        confirmed: Told = sides.receive(producer, bound)
        consumer = sides.start(stack, consume, run)
        sides.receive(consumer, TIMEOUT)
        consumer.send(count)
        received: Told = sides.receive(consumer, bound)
        _compare(confirmed, received)
    return {
        "fill": confirmed.rate,
        "drain": received.rate,
        "producer": confirmed.cpu,
        "consumer": received.cpu,
    }


def _prefix() -> str:
    return f"durability-{os.getpid()}"


def _compare(confirmed: Told, received: Told) -> None:
    if confirmed.counts != received.counts:
        raise WireError(f"confirmed and received differ: {confirmed.counts} and {received.counts}")


@contextlib.contextmanager
def durable_queues(run: Run) -> Iterator[None]:
    """Declare the queues for a run; they must be empty when it has ended well, and are deleted."""
    client = Client(run.broker)
    for name in run.names():
        client.call(method(1, 50, 10, b"\x00\x00" + shortstr(name) + b"\x02" + bytes(4)), 50, 11)
    try:
        yield
    except BaseException:
        client.socket.close()
        raise
    for name in run.names():
        reply = client.call(method(1, 50, 40, b"\x00\x00" + shortstr(name) + b"\x00"), 50, 41)
        (left,) = struct.unpack(">I", reply)
        if left:
            raise WireError(f"{left} messages are left in {name}")
    client.close()


@contextlib.contextmanager
def start(what: str, directory: Path) -> Iterator[Broker]:
    """Start a broker that keeps its files below ``directory``; see ``brokers.start`` for ``what``."""
    if what == "leveret":
        with (
            tempfile.TemporaryDirectory(dir=directory, prefix="leveret-data-") as data,
            brokers.leveret(data) as broker,
        ):
            yield broker
    else:
        with brokers.start(what) as broker:
            yield broker


def report(title: str, results: dict[str, list[Figures]]) -> None:
    """Print a workload's figures of every broker, and each one's ratio to the last."""
    print(f"\n{title}")
    print(f"  {'':34}{'min':>10}{'median':>10}{'max':>10}  msgs/s")
    base = list(results)[-1]
    rates = [figure for figure in results[base][0] if figure not in {"producer", "consumer"}]
    for figure in rates:
        medians = {}
        for name, runs in results.items():
            found = [run[figure] for run in runs]
            medians[name] = statistics.median(found)
            print(
                f"  {f'{name[:23]} {figure}':34}{min(found):10,.0f}{medians[name]:10,.0f}{max(found):10,.0f}"
            )
        other = medians.pop(base)
        for name, median in medians.items():
            print(f"  {name} / {base} {figure}: {median / other:.2f}")
    for name, runs in results.items():
        cpu = [statistics.median(run[side] for run in runs) for side in ("producer", "consumer")]
        print(f"  cpu of the clients of {name}: {cpu[0]:.0%} + {cpu[1]:.0%}")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the brokers in turn and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m conformance.durability", description=main.__doc__)
    parser.add_argument("--broker", action="append", help="leveret, rabbitmq or a URL; may be repeated")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measured part of a run that passes through"
    )
    parser.add_argument("--count", type=int, default=100_000, help="messages of a backlog")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="for their files")
    parser.add_argument(
        "--workload", action="append", choices=[*PASSING, *BACKLOG], help="may be repeated; default all"
    )
    options = parser.parse_args(arguments)
    tempfile.tempdir = str(options.directory)  # a private RabbitMQ makes its directory there
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(start(what, options.directory))
            for what in options.broker or ("leveret", "rabbitmq")
        ]
        for name in options.workload or (*PASSING, *BACKLOG):
            results: dict[str, list[Figures]] = {broker.name: [] for broker in running}
            for _ in range(options.rounds):
                for broker in running:
                    if name in PASSING:
                        figures = pass_through(broker, PASSING[name], options.seconds)
                    else:
                        figures = fill_and_drain(broker, BACKLOG[name], options.count)
                    results[broker.name].append(figures)
            report(PASSING[name].name if name in PASSING else BACKLOG[name].name, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
