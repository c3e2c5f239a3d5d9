"""One run of a benchmark: declare the topology, start the processes, compare sent with received messages.

Responsible for the order of a run and for its result. ``watch`` is called with the counters during the run.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe

import msgspec
from hdrh.histogram import HdrHistogram

from leveret.protocol.amqp import methods as m
from leveret.router.bench.consumer import consume_all
from leveret.router.bench.load import BenchError, BenchTarget, Load
from leveret.router.bench.processes import BenchRun, Counters, ProcessReport, latencies, receive, start
from leveret.router.bench.publisher import publish_all
from leveret.router.bench.wire import PATIENCE, TIMEOUT, BlockingConnection

POLL = 0.02  # seconds between two looks at the counters
SLOWEST = 500  # messages a second: a run that needs longer to receive the rest is given up
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)

# seconds since the start; messages sent, confirmed and received
ProgressCallback = Callable[[float, int, int, int], None]


class LatencySummary(msgspec.Struct, frozen=True):
    """Latencies from the publisher's send to the consumer's read, in us."""

    count: int
    mean: float
    percentiles: dict[float, int]

    @classmethod
    def of(cls, histogram: HdrHistogram) -> "LatencySummary | None":
        """Return the percentiles of a histogram; None if it is empty."""
        if not histogram.total_count:
            return None
        found = {each: int(histogram.get_value_at_percentile(each)) for each in PERCENTILES}
        return cls(int(histogram.total_count), round(histogram.get_mean_value(), 1), found)


class BenchResult(msgspec.Struct, frozen=True):
    """Rates in messages a second while measuring; total counts; CPU use of the generator's two sides in
    cores; the seconds that were measured.
    """

    published: float
    confirmed: float
    received: float
    sent_in_all: int
    received_in_all: int
    publishers_cpu: float
    consumers_cpu: float
    latency: LatencySummary | None = None
    seconds: float = 0.0


def bench(
    target: BenchTarget, load: Load, seconds: float, warm_up: float, watch: ProgressCallback | None = None
) -> BenchResult:
    """Declare the topology of a load, run the load, and delete the topology. Raises BenchError if the broker
    refuses or stalls, or if a message was lost, duplicated or changed.
    """
    with topology(target, load):
        return drive(target, load, seconds, warm_up, watch=watch)


@contextlib.contextmanager
def topology(target: BenchTarget, load: Load) -> Iterator[None]:
    """Declare the queues, exchange and bindings of a load for the block, and delete them. Raises BenchError
    if messages are left after a block that succeeded.
    """
    load.check()
    try:
        _declare(target, load)
        yield
    except BaseException:
        with contextlib.suppress(BenchError):  # keep the first error
            _remove(target, load)
        raise
    if left := _remove(target, load):
        raise BenchError(f"{left} messages are left in the queues")


def _declare(target: BenchTarget, load: Load) -> None:
    """Declare the topology of a load."""
    connection = BlockingConnection(target, timeout=PATIENCE)
    names, exchange = load.queue_names(), load.exchange_name
    if exchange:
        declare = m.ExchangeDeclare(exchange, load.exchange_type, durable=load.persistent)
        connection.call(1, declare, m.ExchangeDeclareOk)
    declared = [(1, m.QueueDeclare(name, durable=load.persistent)) for name in names]
    connection.call_all(declared, m.QueueDeclareOk)
    bindings = [
        (1, m.QueueBind(names[number], exchange, key, arguments=arguments))
        for number, key, arguments in load.bound()
    ]
    connection.call_all(bindings, m.QueueBindOk)
    connection.close()


def _remove(target: BenchTarget, load: Load) -> int:
    """Delete the topology of a load; return how many messages were in it."""
    connection = BlockingConnection(target, timeout=PATIENCE)
    if load.exchange_name:
        connection.call(1, m.ExchangeDelete(load.exchange_name), m.ExchangeDeleteOk)
    requests = [(1, m.QueueDelete(name)) for name in load.queue_names()]
    left = sum(reply.message_count for reply in connection.call_all(requests, m.QueueDeleteOk))
    connection.close()
    return left


def drive(
    target: BenchTarget,
    load: Load,
    seconds: float,
    warm_up: float,
    *,
    watch: ProgressCallback | None = None,
    there: int = 0,
) -> BenchResult:
    """Run a load in a declared topology with ``there`` messages in its queues. Raises as ``bench``."""
    run = BenchRun(target, load, Counters(load.processes))
    if not load.publishers:  # consumers only: measured from the first message to the last
        run.measure(0.0, math.inf)
    bound = (
        (seconds if load.count == math.inf else load.count * load.queues / SLOWEST) + warm_up + 2 * TIMEOUT
    )
    with contextlib.ExitStack() as stack:
        consumers = [
            start(stack, consume_all, run, number) for number in range(min(load.processes, load.consumers))
        ]
        for pipe in consumers:
            receive(pipe, TIMEOUT)
        publishers = [
            start(stack, publish_all, run, number) for number in range(min(load.processes, load.publishers))
        ]
        for pipe in publishers:
            receive(pipe, TIMEOUT)
        now = time.monotonic()
        if load.count < math.inf:
            run.measure(now, math.inf)
        elif load.publishers:
            run.measure(now + warm_up, now + warm_up + seconds)
        for pipe in publishers:
            pipe.send("go")
        look = _CounterReader(run, watch)
        published = ProcessReport({}, 0, 0.0, 0.0)
        for pipe in publishers:
            deadline = time.monotonic() + bound
            while not pipe.poll(POLL) and time.monotonic() < deadline:
                look.at_failures(consumers)
                look()
            published.add(receive(pipe, 0.0))
        sent = sum(published.counts.values())
        if not load.consumers:
            return _result(load, published, None, sent, latencies())
        _await(look, load.expected(sent) if load.publishers else there, consumers)
        received, histogram = ProcessReport({}, 0, 0.0, 0.0), latencies()
        for pipe in consumers:
            pipe.send("finish")
        for pipe in consumers:
            report = receive(pipe, 2 * TIMEOUT)
            received.add(report)
            histogram.decode_and_add(report.latencies)
    if load.publishers:
        _compare(load, published, received)
    return _result(load, published, received, sent, histogram)


class _CounterReader:
    """Reads the counters and passes them to ``watch``."""

    def __init__(self, run: BenchRun, watch: ProgressCallback | None) -> None:
        self._run = run
        self._watch = watch

    def __call__(self) -> int:
        """Read the counters; return the number of received messages."""
        counters = self._run.counters
        received = sum(counters.received)
        if self._watch is not None:
            elapsed = time.monotonic() - self._run.begin
            self._watch(elapsed, sum(counters.sent), sum(counters.confirmed), received)
        return received

    def at_failures(self, pipes: list[Pipe]) -> None:
        """Raise BenchError if a consumer has failed."""
        for pipe in pipes:
            if pipe.poll():
                receive(pipe, 0.0)


def _await(look: _CounterReader, expected: int, consumers: list[Pipe]) -> None:
    """Wait until ``expected`` messages have been received. Raises BenchError if no more arrive."""
    last, received = time.monotonic(), -1
    while (now_received := look()) < expected:
        look.at_failures(consumers)
        now = time.monotonic()
        if now_received != received:
            last, received = now, now_received
        elif now - last > TIMEOUT:
            raise BenchError(f"nothing came for {TIMEOUT:.0f} s: {received} of {expected} messages did")
        time.sleep(POLL)


def _compare(load: Load, published: ProcessReport, received: ProcessReport) -> None:
    """Raise BenchError unless the received messages are those that were sent."""
    sent, came = sum(published.counts.values()), sum(received.counts.values())
    if load.exchange == "default":
        wanted = published.counts
    elif load.exchange == "fanout":
        wanted = dict.fromkeys(load.queue_names(), sent)
    else:
        wanted = None
    if (wanted is not None and wanted != received.counts) or came != load.expected(sent):
        raise BenchError(f"{load.expected(sent)} messages should have come, {came} did: {received.counts}")
    if received.checksum != published.checksum * load.copies:
        raise BenchError("as many came as were sent, but some came twice and others not at all")


def _result(
    load: Load, published: ProcessReport, received: ProcessReport | None, sent: int, histogram: HdrHistogram
) -> BenchResult:
    return BenchResult(
        published=published.rate,
        confirmed=published.rate if load.window else 0.0,
        received=received.rate if received else 0.0,
        sent_in_all=sent,
        received_in_all=sum(received.counts.values()) if received else 0,
        publishers_cpu=published.cpu,
        consumers_cpu=received.cpu if received else 0.0,
        latency=LatencySummary.of(histogram),
        seconds=(received or published).seconds,
    )
