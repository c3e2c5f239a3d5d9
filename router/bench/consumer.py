"""Consuming side of a benchmark: equally long deliveries, counted and checked by the read, not one by one.

Responsible for checking deliveries: they are complete, their delivery tags are consecutive, and so are the
numbers in the bodies if a queue has one publisher and one consumer; if it has several, the sum of the numbers
shows losses. Acknowledges in groups.
"""

import selectors
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe
from struct import Struct

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.encode import ack_frame
from leveret.router.bench.load import BLOCK, STAMP, BenchError, Load
from leveret.router.bench.processes import BenchRun, Meter, latencies, low_bytes
from leveret.router.bench.wire import (
    CONSUMER_TAG,
    FRAME_END,
    READ,
    TAG_OFFSET,
    TIMEOUT,
    BlockingConnection,
    body_offset,
    delivery,
    refusal,
)

END_CHECK = 0.05  # seconds between two looks for the end of the run
LOW_BYTES = bytes(range(BLOCK))
_stamp = Struct(">Q").unpack_from


class DeliveryLayout:
    """Offsets in the deliveries of one channel, each ``size`` bytes long."""

    def __init__(self, load: Load, channel: int, queue: str, frame_max: int) -> None:
        key, properties = load.routes()[0]
        key = key or ("" if load.exchange_name else queue)
        body = b"x" * (load.size - 1) + b"\0"
        self.sample = delivery(channel, (load.exchange_name, key), properties, body, frame_max)
        self.size = len(self.sample)
        self.stamp = body_offset(self.sample)
        self.tag = TAG_OFFSET + 7  # lowest byte of the delivery tag
        self.number = self.size - 2
        # True if every byte of the first delivery is known, except the timestamp.
        self.known = load.ordered and load.exchange in {"default", "fanout"}
        self.stamped = bool(load.stamped)

    def check_first(self, data: bytes) -> None:
        """Compare the first delivery of a channel byte by byte. Raises BenchError."""
        found, wanted = bytearray(data), bytearray(self.sample)
        if self.stamped:
            for each in (found, wanted):
                each[self.stamp : self.stamp + STAMP] = bytes(STAMP)
        if self.known and found != wanted:
            reason = refusal(data)
            raise BenchError(reason or f"the first delivery is {data[:300]!r}, and not {self.sample[:300]!r}")


class ConsumeLane:
    """Consuming end of one channel: counters, and deliveries to be acknowledged."""

    def __init__(self, load: Load, channel: int, queue: str) -> None:
        self.queue = queue
        self.count = 0
        self.sum = 0  # of the low bytes of the numbers, if they come in no order
        self.channel = channel
        self._acked = 0
        self._every = load.ack

    def acks(self, *, end: bool = False) -> list[bytes]:
        """Return the acknowledgements that are due, in groups; with ``end``, of all deliveries that are
        left.
        """
        every = self._every
        if not every or (self.count - self._acked < every and not end):
            return []
        tags = list(range(self._acked + every, self.count + 1, every))
        self._acked += every * len(tags)
        if end and self._acked < self.count:
            tags.append(self.count)
            self._acked = self.count
        return [ack_frame(self.channel, tag, every > 1) for tag in tags]


class ConsumeConnection:
    """A consuming connection with a channel for each of its queues."""

    def __init__(self, run: BenchRun, queues: list[str], side: "ConsumerProcess") -> None:
        load = run.load
        self.connection = BlockingConnection(run.target, len(queues))
        frame_max = self.connection.frame_max
        self.lanes = {number: ConsumeLane(load, number, name) for number, name in enumerate(queues, 1)}
        self._layouts = {
            number: DeliveryLayout(load, number, lane.queue, frame_max) for number, lane in self.lanes.items()
        }
        self._size = self._layouts[1].size
        self._ordered = load.ordered
        self._side = side
        self._view = memoryview(bytearray(READ))
        self._rest = b""
        self._position = 0  # bytes that were checked, for a connection with one lane
        # number and timestamp of messages whose end has not been read
        self._begun: deque[tuple[int, int]] = deque()
        self._every = load.stamped
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
            raise BenchError("the broker closed the consumer's connection")
        if len(self.lanes) == 1:
            count = self._take_one(self._view[:got])
        else:
            count = self._take_many(self._view[:got])
        return count

    def _take_one(self, data: memoryview) -> int:
        """Check the next bytes of one channel's deliveries by single columns of them."""
        (lane,), (layout,) = self.lanes.values(), self._layouts.values()
        size, position = layout.size, self._position
        if position < size:  # in full, once: column checks of the others keep the measurement fast
            self._rest += data[: size - position]
            if len(self._rest) >= size:
                layout.check_first(self._rest)
                self._rest = b""
        self._column(data, layout.tag, LOW_BYTES[1:] + LOW_BYTES[:1])
        self._column(data, size - 1, bytes([FRAME_END]) * BLOCK)
        self._column(data, 0, b"\x01" * BLOCK)
        if self._ordered:
            self._column(data, layout.number, LOW_BYTES)
        else:
            lane.sum += sum(data[(layout.number - position) % size :: size])
        if self._every:
            self._note_stamps(data, layout)
        self._position += len(data)
        before, lane.count = lane.count, self._position // size
        if self._begun:
            self._record(lane.count)
        self._send(lane.acks())
        return lane.count - before

    def _column(self, data: memoryview, column: int, expected: bytes) -> None:
        """Compare a column of the bytes read with its expected values over 256 messages. Raises
        BenchError.
        """
        size, position = self._size, self._position
        first = (column - position) % size
        found = bytes(data[first::size])
        start = (position + first) // size % BLOCK
        if found != (expected * ((start + len(found)) // BLOCK + 1))[start : start + len(found)]:
            reason = refusal(self._rest + data)
            raise BenchError(reason or f"deliveries after {position // size} are not what was sent")

    def _note_stamps(self, data: memoryview, layout: DeliveryLayout) -> None:
        """Collect the timestamps in the bytes read; one that is split between two reads is skipped."""
        size, position, every = layout.size, self._position, self._every
        number = -(-(position - layout.stamp) // size)  # first delivery whose timestamp begins here
        number += -number % every
        last = (position + len(data) - layout.stamp - STAMP) // size
        for each in range(number, last + 1, every):
            self._begun.append((each, _stamp(data, each * size + layout.stamp - position)[0]))

    def _record(self, count: int) -> None:
        """Record the latencies of the messages that are complete by now."""
        now, begun = time.monotonic_ns(), self._begun
        while begun and begun[0][0] < count:
            self._side.record(now - begun.popleft()[1])

    def _take_many(self, view: memoryview) -> int:
        """Check the deliveries of several channels, which come in any order, each by some of its bytes."""
        data = self._rest + view
        size, tag, number = self._size, self._layouts[1].tag, self._layouts[1].number
        count = len(data) // size
        end = count * size
        self._rest = data[end:]
        lanes, touched = self.lanes, {}
        ordered, every = self._ordered, self._every
        now = time.monotonic_ns()
        rows = zip(
            data[2:end:size],
            data[tag:end:size],
            data[number:end:size],
            data[size - 1 : end : size],
            strict=True,
        )
        for place, (channel, low, low_number, last) in enumerate(rows):
            lane = lanes.get(channel)
            if lane is None:
                raise BenchError(refusal(data) or f"a delivery came on channel {channel}")
            position = lane.count & 255
            if low != (position + 1) & 255 or last != FRAME_END or (ordered and low_number != position):
                reason = refusal(data)
                raise BenchError(reason or f"what follows delivery {lane.count} of {lane.queue} was not sent")
            if not lane.count:
                self._layouts[channel].check_first(data[place * size : (place + 1) * size])
            if every and not position % every:
                self._side.record(now - _stamp(data, place * size + self._layouts[1].stamp)[0])
            lane.count += 1
            lane.sum += low_number
            touched[channel] = lane
        self._send([ack for lane in touched.values() for ack in lane.acks()])
        return count

    def finish(self) -> None:
        """Acknowledge the remaining deliveries and close; the broker has handled all of it then."""
        if len(self._rest) or self._position % self._size:
            raise BenchError("the last delivery is incomplete")
        self._send([ack for lane in self.lanes.values() for ack in lane.acks(end=True)])
        self.connection.close()

    def _send(self, acks: list[bytes]) -> None:
        if acks:
            self.connection.send(b"".join(acks))

    def checksum(self) -> int:
        """Return the sum of the low bytes of the numbers of all deliveries."""
        if self._ordered:
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
            for key, _ in selector.select(END_CHECK):
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
