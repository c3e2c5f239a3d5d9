"""Consuming side of a benchmark: connections that read deliveries and acknowledge them in groups.

Not for the check of deliveries (see ``deliveries``).
"""

import selectors
import time
from multiprocessing.connection import Connection as Pipe

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.router.bench.deliveries import ConsumeLane, delivery_check
from leveret.router.bench.load import BenchError
from leveret.router.bench.processes import BenchRun, Meter, latencies, low_bytes
from leveret.router.bench.wire import CONSUMER_TAG, READ, TIMEOUT, BlockingConnection, refusal

END_CHECK = 0.05  # seconds between two looks for the end of the run


class ConsumeConnection:
    """A consuming connection with a channel for each of its queues."""

    def __init__(self, run: BenchRun, queues: list[str], side: "ConsumerProcess") -> None:
        load = run.load
        self.connection = BlockingConnection(run.target, len(queues))
        frame_max = self.connection.frame_max
        self.lanes = {
            number: ConsumeLane(load, number, name, frame_max) for number, name in enumerate(queues, 1)
        }
        self._check = delivery_check(load, self.lanes, frame_max, side.record)
        self._view = memoryview(bytearray(READ))
        self._load = load
        self.socket = self.connection.socket

    def subscribe(self) -> None:
        """Start the consumers. Deliveries may arrive before the last one has started."""
        load = self._load
        if load.ack:
            qos = [(number, m.BasicQos(0, load.prefetch)) for number in self.lanes]
            self.connection.call_all(qos, m.BasicQosOk)
        # With no-wait: replies would mix with deliveries.
        self.connection.send(
            b"".join(
                [
                    method_frame(
                        number, m.BasicConsume(lane.queue, CONSUMER_TAG, no_ack=not load.ack, nowait=True)
                    )
                    for number, lane in self.lanes.items()
                ]
            )
        )

    def take(self) -> int:
        """Read, check and count deliveries, and acknowledge those that are due; return their number."""
        got = self.socket.recv_into(self._view)
        if not got:
            reason = refusal(self._check.rest)
            raise BenchError(reason or "the broker closed the consumer's connection")
        count, touched = self._check.take(self._view[:got])
        if self._load.ack:
            self._send([ack for lane in touched for ack in lane.acks()])
        return count

    def finish(self) -> None:
        """Acknowledge the remaining deliveries and close; the broker has handled all of it then."""
        self._check.finish()
        self._send([ack for lane in self.lanes.values() for ack in lane.acks(end=True)])
        self.connection.close()

    def _send(self, acks: list[bytes]) -> None:
        if acks:
            self.connection.send(b"".join(acks))

    def checksum(self) -> int:
        """Return the sum of the low bytes of the numbers of all deliveries."""
        if self._load.ordered:
            return sum(low_bytes(lane.count) for lane in self.lanes.values())
        return sum(lane.sum for lane in self.lanes.values())


class ConsumerProcess:
    """The consumers of one process. ``number`` is the number of the process."""

    def __init__(self, run: BenchRun, number: int) -> None:
        load = run.load
        self._run = run
        self.latencies = latencies()
        self.links = [
            ConsumeConnection(run, queues, self) for queues in load.consumes_from()[number :: load.processes]
        ]

    def record(self, took: int) -> None:
        """Record a latency in ns, if latencies are measured."""
        if self._run.begin <= time.monotonic() <= self._run.end:
            self.latencies.record_value(max(1, took // 1000))


def consume_all(run: BenchRun, number: int, pipe: Pipe) -> None:
    """Receive until ``pipe`` reports the end of publishing; report the results."""
    side, meter, received = ConsumerProcess(run, number), Meter(run), 0
    with selectors.DefaultSelector() as selector:
        for link in side.links:
            selector.register(link.socket, selectors.EVENT_READ, link)
        selector.register(pipe, selectors.EVENT_READ)
        for link in side.links:
            link.subscribe()
        meter.note(0)
        pipe.send("ready")
        finished = False
        while not finished:
            found = selector.select(END_CHECK)
            meter.note(received)
            for key, _ in found:
                if key.data is None:
                    finished = pipe.recv() == "finish"
                else:
                    received += key.data.take()
            run.counters.received[number] = received
            meter.note(received)
    meter.note(received, end=True)
    counts: dict[str, int] = {}
    for link in side.links:
        link.socket.settimeout(TIMEOUT)
        link.finish()
        for lane in link.lanes.values():
            counts[lane.queue] = counts.get(lane.queue, 0) + lane.count
    encoded = side.latencies.encode()
    pipe.send(meter.report(counts, sum(link.checksum() for link in side.links), encoded))
