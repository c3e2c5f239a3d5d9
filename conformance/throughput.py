"""How many messages a second one queue moves from one producer to one consumer, beside another broker.

``python -m conformance.throughput --seconds 5 --rounds 3 --broker leveret --broker rabbitmq`` measures each
broker in turn (A B A B ...), so that what else the machine does falls on both.

What is measured is the rate at which the consumer receives while the producer publishes as fast as the
broker takes it, between two moments after a warm-up. ``--backlog`` bounds how many messages may wait in the
broker, so that a faster inlet than outlet costs neither memory nor the end of the run; it is wide enough not
to throttle a broker that keeps pace. Producer and consumer are processes of their own and must cost far less
than the broker, or they would be what is measured: publishes are encoded once and sent in chunks, and
deliveries, all equally long, are counted by dividing the received bytes. Their share of a core is printed.

What was received is checked against what was sent: each body carries the low byte of its number and each
delivery the low byte of its tag, both are compared for every message (as one strided slice a read), and so is
the end of every frame. After the producer has stopped, everything it sent must arrive.
"""

import argparse
import contextlib
import os
import statistics
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from conformance import brokers
from conformance.brokers import Broker
from conformance.sides import CONTEXT, clocks, receive, start
from conformance.wire import FRAME_END, READ, TIMEOUT, Client, WireError, frame, method, shortstr

CONSUMER_TAG = "c"
CHUNK = 512  # publishes a send: a multiple of 256, so that the low bytes of the numbers repeat with it
WARM_UP = 1.0  # seconds
LOW_BYTES = bytes(range(256))


@dataclass(frozen=True)
class Workload:
    """How the consumer acknowledges: not at all (``every`` 0), or one ack for ``every`` deliveries."""

    name: str
    prefetch: int = 0
    every: int = 0


WORKLOADS = {
    "auto": Workload("automatic ack"),
    "multiple": Workload("prefetch 1000, an ack every 100", prefetch=1000, every=100),
    "single": Workload("prefetch 1000, each acked singly", prefetch=1000, every=1),
}


@dataclass(frozen=True)
class Result:
    """One run: messages a second received and published, and the shares of a core the two clients used."""

    received: float
    published: float
    producer_cpu: float
    consumer_cpu: float


def publish_chunk(queue: str, size: int) -> bytes:
    """CHUNK publishes of transient messages of ``size`` bytes, whose last byte numbers them."""
    publish = method(1, 60, 40, b"\x00\x00" + shortstr("") + shortstr(queue) + b"\x00")
    header = frame(2, 1, struct.pack(">HHQHB", 60, 0, size, 0x1000, 1))
    filling = b"x" * (size - 1)
    return b"".join(
        publish + header + frame(3, 1, filling + bytes([number % 256])) for number in range(CHUNK)
    )


def delivery(queue: str, size: int, tag: int) -> bytes:
    """The bytes of the delivery with this delivery tag, as the broker must send it."""
    arguments = shortstr(CONSUMER_TAG) + struct.pack(">Q", tag) + b"\x00" + shortstr("") + shortstr(queue)
    header = frame(2, 1, struct.pack(">HHQHB", 60, 0, size, 0x1000, 1))
    body = b"x" * (size - 1) + bytes([(tag - 1) % 256])
    return method(1, 60, 60, arguments) + header + frame(3, 1, body)


class Columns:
    """Checks a stream of equally long deliveries by single columns of it, whatever the reads cut it into."""

    def __init__(self, sample: bytes, tag_offset: int) -> None:
        self.size = len(sample)
        self.position = 0  # bytes checked so far
        # Column -> the bytes it must hold over 256 messages.
        self.columns = {
            self.size - 2: LOW_BYTES,
            tag_offset + 7: LOW_BYTES[1:] + LOW_BYTES[:1],  # tags start at 1
            self.size - 1: bytes([FRAME_END]) * 256,
            0: b"\x01" * 256,
        }

    @property
    def count(self) -> int:
        """Whole messages received."""
        return self.position // self.size

    def check(self, data: memoryview) -> None:
        """Check the next bytes of the stream; WireError when they are not the next deliveries."""
        phase = self.position % self.size
        for column, expected in self.columns.items():
            first = (column - phase) % self.size
            found = bytes(data[first :: self.size])
            start = (self.position + first) // self.size % 256
            repeats = (start + len(found)) // 256 + 1
            if found != (expected * repeats)[start : start + len(found)]:
                raise WireError(f"deliveries after {self.position // self.size} are not what was sent")
        self.position += len(data)


@dataclass
class Run:
    """What both sides of a run share; ``moved`` is the consumer's count, the bound of the backlog."""

    broker: Broker
    queue: str
    workload: Workload
    size: int
    backlog: int
    begin: float
    end: float
    moved: Any


def produce(run: Run, pipe: Connection) -> None:
    """Publish until the end of the run; report (sent in all, published a second, CPU share)."""
    client = Client(run.broker)
    chunk = publish_chunk(run.queue, run.size)
    before = 0
    sent = 0
    start, cpu = clocks()
    while (now := time.monotonic()) < run.end:
        if now < run.begin:
            before = sent
        if sent - run.moved.value > run.backlog:
            time.sleep(0.0005)
            continue
        client.send(chunk)
        sent += CHUNK
    now, used = clocks()
    client.close()
    pipe.send((sent, (sent - before) / (now - run.begin), (used - cpu) / (now - start)))


def subscribe(run: Run) -> Client:
    """A client that declared the queue, not durable and gone with its consumer, and consumes from it."""
    client = Client(run.broker)
    client.call(method(1, 50, 10, b"\x00\x00" + shortstr(run.queue) + b"\x08" + struct.pack(">I", 0)), 50, 11)
    client.call(method(1, 60, 10, struct.pack(">IHB", 0, run.workload.prefetch, 0)), 60, 11)
    flags = b"\x00" if run.workload.every else b"\x02"
    arguments = b"\x00\x00" + shortstr(run.queue) + shortstr(CONSUMER_TAG) + flags + struct.pack(">I", 0)
    client.call(method(1, 60, 20, arguments), 60, 21)
    return client


def first_deliveries(client: Client, sample: bytes) -> Columns:
    """Wait for the first delivery, compare all of it with ``sample``, and start the checks of the others."""
    client.fill(len(sample))
    if client.pending[: len(sample)] != sample:
        raise WireError(f"the first delivery is {bytes(client.pending[: len(sample)])!r}, not {sample!r}")
    columns = Columns(sample, tag_offset=7 + 4 + len(shortstr(CONSUMER_TAG)))
    columns.check(memoryview(bytes(client.pending)))
    client.pending.clear()
    return columns


def consume(run: Run, pipe: Connection) -> None:
    """Receive all that was sent, which ``pipe`` tells; report (received a second, CPU share)."""
    client = subscribe(run)
    pipe.send("ready")
    columns = first_deliveries(client, delivery(run.queue, run.size, 1))
    client.socket.settimeout(0.2)
    view = memoryview(bytearray(READ))
    acked = 0
    expected: int | None = None
    marks: list[tuple[int, float, float]] = []  # at the begin and the end: count, and both clocks
    last = time.monotonic()
    while expected is None or columns.count < expected:
        run.moved.value = columns.count
        acked = acknowledge(client, run.workload.every, acked, columns.count)
        now = time.monotonic()
        while len(marks) < 2 and now >= (run.begin, run.end)[len(marks)]:
            marks.append((columns.count, *clocks()))
        if now >= run.end and pipe.poll():
            expected = pipe.recv()
        try:
            size = client.socket.recv_into(view)
        except TimeoutError:
            if now - last > TIMEOUT:
                raise WireError(f"nothing came for {TIMEOUT} s; {columns.count} of {expected} came") from None
            continue
        if not size:
            raise WireError("the broker closed the consumer's connection")
        last = now
        columns.check(view[:size])
    if columns.position != expected * columns.size:
        raise WireError(f"{columns.position / columns.size} messages came, {expected} were sent")
    client.socket.settimeout(TIMEOUT)
    client.close()
    (first, begin, cpu), (final, end, cpu_end) = marks
    pipe.send(((final - first) / (end - begin), (cpu_end - cpu) / (end - begin)))


def acknowledge(client: Client, every: int, acked: int, count: int) -> int:
    """Acknowledge the deliveries up to ``count`` in groups of ``every``; returns the last tag it covered."""
    if not every or count - acked < every:
        return acked
    last = count - count % every
    prefix = frame(1, 1, struct.pack(">HHQB", 60, 80, 0, 0))[:11]
    suffix = bytes([every > 1, FRAME_END])
    tags = range(acked + every, last + 1, every)
    client.send(b"".join([prefix + tag.to_bytes(8) + suffix for tag in tags]))
    return last


def measure(broker: Broker, workload: Workload, seconds: float, size: int, backlog: int) -> Result:
    """One run against a broker. Raises WireError when messages were lost, changed or did not come."""
    moved = CONTEXT.Value("Q", 0, lock=False)
    begin = time.monotonic() + 1.0 + WARM_UP
    queue = f"throughput-{os.getpid()}"
    run = Run(broker, queue, workload, size, backlog, begin, begin + seconds, moved)
    bound = seconds + WARM_UP + 3 * TIMEOUT
    with contextlib.ExitStack() as stack:
        consumer = start(stack, consume, run)
        receive(consumer, TIMEOUT)
        producer = start(stack, produce, run)
        sent, published, producer_cpu = receive(producer, bound)
        consumer.send(sent)
        received, consumer_cpu = receive(consumer, bound)
    return Result(received, published, producer_cpu, consumer_cpu)


def report(workload: Workload, results: dict[str, list[Result]]) -> None:
    """Print one workload's figures of every broker, and each one's ratio to the last."""
    print(f"\n{workload.name}")
    print(f"  {'':24}{'min':>10}{'median':>10}{'max':>10}  msgs/s received   published   cpu of clients")
    medians = {}
    for name, runs in results.items():
        rates = [run.received for run in runs]
        medians[name] = statistics.median(rates)
        published = statistics.median(run.published for run in runs)
        cpu = [
            statistics.median(getattr(run, f"{side}_cpu") for run in runs)
            for side in ("producer", "consumer")
        ]
        print(
            f"  {name[:23]:24}{min(rates):10,.0f}{medians[name]:10,.0f}{max(rates):10,.0f}"
            f"{'':17}{published:12,.0f}   {cpu[0]:.0%} + {cpu[1]:.0%}"
        )
    *others, base = medians
    for name in others:
        print(f"  {name} / {base}: {medians[name] / medians[base]:.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the brokers in turn and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m conformance.throughput", description=main.__doc__)
    parser.add_argument("--broker", action="append", help="leveret, rabbitmq or a URL; may be repeated")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured part of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=100, help="body, in bytes")
    parser.add_argument("--backlog", type=int, default=200_000, help="messages that may wait in the broker")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="may be repeated; default all")
    options = parser.parse_args(arguments)
    if options.size < 1:
        parser.error("--size: a body needs a byte for its number")
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(brokers.start(what)) for what in options.broker or ("leveret", "rabbitmq")
        ]
        for name in options.workload or WORKLOADS:
            results: dict[str, list[Result]] = {broker.name: [] for broker in running}
            for _ in range(options.rounds):
                for broker in running:
                    run = measure(broker, WORKLOADS[name], options.seconds, options.size, options.backlog)
                    results[broker.name].append(run)
            report(WORKLOADS[name], results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
