"""A producer with publisher confirms and a consumer with acknowledgements, over any number of durable queues.

Owns what both sides of a durability measurement do. A lane is one channel that publishes to one queue, or
consumes from it; the lanes are spread over a few connections a side. Publishes are encoded once and sent as
slices of that, as many as the window of unconfirmed ones has room for; confirms and deliveries are equally
long, and looked at as columns of what a read brought. So both sides cost far less than the broker.

Every message is checked: each body carries the low byte of its number, which must be that of its delivery
tag, and each lane's tags must follow one another; nothing may be confirmed twice.
"""

import math
import selectors
import struct
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from conformance.brokers import Broker
from conformance.sides import clocks
from conformance.wire import FRAME_END, READ, TIMEOUT, Client, WireError, frame, method, shortstr

CONSUMER_TAG = "c"
BLOCK = 256  # publishes that are encoded for a lane: then the low bytes of the numbers repeat
TAG = 7 + 4 + 1 + len(CONSUMER_TAG)  # where the delivery tag stands in a delivery
CONFIRM = struct.Struct(">BHIHHQBB")


@dataclass(frozen=True)
class Workload:
    """Bodies of ``size`` bytes to ``queues`` durable queues, over as many ``connections`` on either side.

    ``window`` bounds the unconfirmed publishes of each queue. Its consumer has one ack for ``every``
    deliveries, or for none of them (0: automatic acknowledgement).
    """

    name: str
    size: int = 1024
    queues: int = 1
    connections: int = 1
    window: int = 2000
    prefetch: int = 1000
    every: int = 100


@dataclass(frozen=True)
class Run:
    """What both sides of a run share: it ends at a time, or with ``count`` publishes to each queue."""

    broker: Broker
    workload: Workload
    prefix: str
    begin: float = 0.0
    end: float = math.inf
    count: float = math.inf

    def names(self) -> list[str]:
        """The queues, whose names are equally long."""
        return [f"{self.prefix}-{number:03}" for number in range(self.workload.queues)]

    def spread(self) -> list[list[str]]:
        """The queues of each connection, by channel from 1 on."""
        names, connections = self.names(), self.workload.connections
        return [names[number::connections] for number in range(connections)]


@dataclass(frozen=True)
class Told:
    """What a side did: messages of each queue, how many a second, and its share of a core."""

    counts: dict[str, int]
    rate: float
    cpu: float


class Meter:
    """The rate and the share of a core between the begin of a run and its end."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._first: tuple[int, float, float] | None = None
        self._last: tuple[int, float, float] | None = None

    def note(self, count: int, *, end: bool = False) -> None:
        """Say how many there have been by now; ``end`` when no more will come."""
        now = time.monotonic()
        if self._first is None and now >= self._run.begin:
            self._first = count, *clocks()
        if self._last is None and (end or now >= self._run.end):
            self._last = count, *clocks()

    def told(self, counts: dict[str, int]) -> Told:
        assert self._first is not None
        assert self._last is not None
        count, seconds, cpu = (last - first for first, last in zip(self._first, self._last, strict=True))
        return Told(counts, count / seconds, cpu / seconds)


def content(channel: int, size: int, number: int) -> bytes:
    """The content frames of a lane's persistent message with this number, which starts at 0."""
    header = frame(2, channel, struct.pack(">HHQHB", 60, 0, size, 0x1000, 2))
    return header + frame(3, channel, b"x" * (size - 1) + bytes([number % 256]))


def publish(channel: int, queue: str, size: int, number: int) -> bytes:
    """A publish to a queue."""
    arguments = b"\x00\x00" + shortstr("") + shortstr(queue) + b"\x00"
    return method(channel, 60, 40, arguments) + content(channel, size, number)


def delivery(channel: int, queue: str, size: int, tag: int) -> bytes:
    """The bytes of the delivery with this tag, as the broker must send it."""
    arguments = shortstr(CONSUMER_TAG) + struct.pack(">Q", tag) + b"\x00" + shortstr("") + shortstr(queue)
    return method(channel, 60, 60, arguments) + content(channel, size, tag - 1)


def ready(run: Run, selector: selectors.BaseSelector) -> list[selectors.SelectorKey]:
    """The connections with something to read; WireError when there is none for too long."""
    found = selector.select(TIMEOUT)
    if not found:
        raise WireError(f"the broker sent nothing for {TIMEOUT} s")
    return [key for key, _ in found]


# -- publishing -------------------------------------------------------------------------------------------


class Outgoing:
    """The publishing end of a lane. Confirms may come in any order, each for one or for all up to it."""

    def __init__(self, channel: int, queue: str, workload: Workload) -> None:
        self.queue = queue
        self.sent = 0
        self._through = 0  # all up to it are confirmed
        self._ahead: set[int] = set()  # confirmed beyond it
        self._window = workload.window
        block = b"".join(publish(channel, queue, workload.size, number) for number in range(BLOCK))
        self._step = len(block) // BLOCK
        self._block = memoryview(block)

    @property
    def confirmed(self) -> int:
        return self._through + len(self._ahead)

    def confirm(self, number: int, *, multiple: int) -> None:
        """Count a confirm. WireError when it is for nothing that was sent, or comes twice."""
        if not self._through < number <= self.sent or number in self._ahead:
            raise WireError(
                f"{number} of {self.sent} to {self.queue} was confirmed again or before it was sent"
            )
        if multiple:
            self._through = number
            self._ahead = {each for each in self._ahead if each > self._through}
        else:
            self._ahead.add(number)
        while self._through + 1 in self._ahead:
            self._through += 1
            self._ahead.remove(self._through)

    def fill(self, limit: float) -> list[memoryview]:
        """The publishes there is room for, ``limit`` of them in all."""
        room = min(self._window - (self.sent - self.confirmed), limit - self.sent)
        parts = []
        while room > 0:
            start = self.sent % BLOCK
            count = int(min(room, BLOCK - start))
            parts.append(self._block[start * self._step : (start + count) * self._step])
            self.sent += count
            room -= count
        return parts


class Publisher:
    """One connection that publishes, on a channel for each of its queues."""

    def __init__(self, run: Run, queues: list[str]) -> None:
        self.client = Client(run.broker, len(queues))
        self.lanes = [Outgoing(number, name, run.workload) for number, name in enumerate(queues, 1)]
        for number in range(1, len(queues) + 1):
            self.client.call(method(number, 85, 10, b"\x00"), 85, 11)

    def send(self, lanes: list[Outgoing], limit: float) -> None:
        """Have each of these lanes publish what it may."""
        parts = [part for lane in lanes for part in lane.fill(limit)]
        if parts:
            self.client.send(b"".join(parts))

    def take(self) -> list[Outgoing]:
        """Read confirms; return the lanes they were for."""
        pending = self.client.pending
        self.client.fill(len(pending) + 1)
        whole = len(pending) - len(pending) % CONFIRM.size
        touched = {}
        for _, channel, _, kind, name, number, multiple, _ in CONFIRM.iter_unpack(pending[:whole]):
            if (kind, name) != (60, 80):
                raise WireError(f"method {(kind, name)} came instead of a confirm")
            lane = touched[channel] = self.lanes[channel - 1]
            lane.confirm(number, multiple=multiple)
        del pending[:whole]
        return list(touched.values())


def produce(run: Run, pipe: Connection) -> None:
    """Publish until the run ends and all is confirmed; report what was."""
    meter = Meter(run)
    links = [Publisher(run, queues) for queues in run.spread()]
    lanes = [lane for link in links for lane in link.lanes]
    with selectors.DefaultSelector() as selector:
        for link in links:
            selector.register(link.client.socket, selectors.EVENT_READ, link)
        meter.note(0)
        for link in links:
            link.send(link.lanes, run.count)
        sent, confirmed = sum(lane.sent for lane in lanes), 0
        while confirmed < sent:
            for key in ready(run, selector):
                touched = key.data.take()
                if time.monotonic() < run.end:
                    key.data.send(touched, run.count)
            sent = sum(lane.sent for lane in lanes)
            confirmed = sum(lane.confirmed for lane in lanes)
            meter.note(confirmed)
    meter.note(confirmed, end=True)
    for link in links:
        link.client.close()
    pipe.send(meter.told({lane.queue: lane.confirmed for lane in lanes}))


# -- consuming --------------------------------------------------------------------------------------------


class Incoming:
    """The consuming end of a lane."""

    def __init__(self, channel: int, queue: str, every: int) -> None:
        self.queue = queue
        self.count = 0
        self._acked = 0
        self._every = every
        self._prefix = frame(1, channel, struct.pack(">HHQB", 60, 80, 0, 0))[:11]
        self._suffix = bytes([every > 1, FRAME_END])

    def acks(self, *, end: bool = False) -> list[bytes]:
        """Acknowledgements that are due, in groups of ``every``; of all that is left at the end."""
        every = self._every
        if not every or (self.count - self._acked < every and not end):
            return []
        tags = list(range(self._acked + every, self.count + 1, every))
        self._acked += every * len(tags)
        if end and self._acked < self.count:
            tags.append(self.count)
        return [self._prefix + tag.to_bytes(8) + self._suffix for tag in tags]


class Subscriber:
    """One connection that consumes, on a channel for each of its queues."""

    def __init__(self, run: Run, queues: list[str]) -> None:
        workload = run.workload
        self.client = Client(run.broker, len(queues))
        self.lanes = {number: Incoming(number, name, workload.every) for number, name in enumerate(queues, 1)}
        self._samples = {
            number: delivery(number, lane.queue, workload.size, 1) for number, lane in self.lanes.items()
        }
        self._size = len(self._samples[1])
        self._view = memoryview(bytearray(READ))
        self._rest = b""

    def subscribe(self, workload: Workload) -> None:
        """Start the consumers. Deliveries may come from then on, before the last has started."""
        flags = b"\x08" if workload.every else b"\x0a"  # no-wait: no reply mixes with deliveries
        for number in self.lanes:
            self.client.call(method(number, 60, 10, struct.pack(">IHB", 0, workload.prefetch, 0)), 60, 11)
        requests = []
        for number, lane in self.lanes.items():
            arguments = b"\x00\x00" + shortstr(lane.queue) + shortstr(CONSUMER_TAG) + flags + bytes(4)
            requests.append(method(number, 60, 20, arguments))
        self.client.send(b"".join(requests))

    def take(self) -> int:
        """Read, check and count deliveries, and acknowledge what is due; return how many came."""
        got = self.client.socket.recv_into(self._view)
        if not got:
            raise WireError("the broker closed the consumer's connection")
        data = self._rest + self._view[:got]
        size = self._size
        count = len(data) // size
        self._rest = data[count * size :]
        lanes, touched = self.lanes, {}
        rows = zip(
            data[2 : count * size : size],
            data[TAG + 7 : count * size : size],
            data[size - 2 : count * size : size],
            data[size - 1 : count * size : size],
            strict=True,
        )
        for place, (channel, tag, number, end) in enumerate(rows):
            lane = lanes[channel]
            if not lane.count and data[place * size : (place + 1) * size] != self._samples[channel]:
                raise WireError(f"first delivery on channel {channel} is not {self._samples[channel]!r}")
            if number != lane.count & 255 or tag != (number + 1) & 255 or end != FRAME_END:
                raise WireError(f"what follows delivery {lane.count} of {lane.queue} is not what was sent")
            lane.count += 1
            touched[channel] = lane
        self._send([ack for lane in touched.values() for ack in lane.acks()])
        return count

    def finish(self) -> None:
        """Acknowledge what is left and close: the broker has handled all of it then."""
        if self._rest:
            raise WireError(f"{len(self._rest)} bytes came behind the last delivery")
        self._send([ack for lane in self.lanes.values() for ack in lane.acks(end=True)])
        self.client.close()

    def _send(self, acks: list[bytes]) -> None:
        if acks:
            self.client.send(b"".join(acks))


def consume(run: Run, pipe: Connection) -> None:
    """Receive all that was confirmed, of which ``pipe`` tells; report what was received."""
    links = [Subscriber(run, queues) for queues in run.spread()]
    meter = Meter(run)
    received = 0
    expected: int | None = None
    with selectors.DefaultSelector() as selector:
        for link in links:
            selector.register(link.client.socket, selectors.EVENT_READ, link)
        selector.register(pipe, selectors.EVENT_READ)
        meter.note(0)
        for link in links:
            link.subscribe(run.workload)
        pipe.send("ready")
        while expected is None or received < expected:
            for key in ready(run, selector):
                if key.data is None:
                    expected = pipe.recv()
                else:
                    received += key.data.take()
            meter.note(received)
    meter.note(received, end=True)
    for link in links:
        link.finish()
    pipe.send(meter.told({lane.queue: lane.count for link in links for lane in link.lanes.values()}))
