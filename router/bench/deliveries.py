"""Checks of the deliveries that a consuming connection reads, as bytes.

Responsible for checking that deliveries are complete and that their delivery tags are consecutive. If a queue
has one publisher and one consumer, the numbers in the bodies must be consecutive too; otherwise the sum of
the numbers shows losses. Equally long deliveries of one channel are checked for a whole read at once
(``ColumnCheck``), those of several channels one by one (``RowCheck``), others by a walk over their frames
(``FrameCheck``).
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.constants import FRAME_HEADER, FRAME_OVERHEAD
from leveret.protocol.amqp.content_frames import HEADER_FRAME
from leveret.protocol.amqp.encode import ack_frame
from leveret.protocol.amqp.reader import CommandReader
from leveret.router.bench.load import BLOCK, STAMP, BenchError, Load
from leveret.router.bench.traffic import body_sizes, drafts
from leveret.router.bench.wire import BODY_MAX, FRAME_END, TAG_OFFSET, body_offset, delivery, refusal

LOW_BYTES = bytes(range(BLOCK))
LARGE = 1 << 14  # missing bytes of a body above which its middle is skipped
METHOD = 7  # offset of class and method in a delivery
DELIVER = b"\x00\x3c\x00\x3c"  # basic.deliver
TAG = TAG_OFFSET + 7  # offset of the lowest byte of the delivery tag
_stamp = Struct(">Q").unpack_from

Record = Callable[[int], None]  # called with a latency in ns
Touched = tuple[int, "list[ConsumeLane]"]  # number of deliveries, and the lanes that got them


class ConsumeLane:
    """Consuming end of one channel: counters, and deliveries to be acknowledged.

    ``sizes`` are those of the bodies in turn. ``sample`` is the first delivery as it should come.
    """

    def __init__(self, load: Load, channel: int, queue: str, frame_max: int) -> None:
        source = queue if load.exchange == "default" else ""
        published = drafts(load, source)
        self.queue = queue
        self.channel = channel
        self.count = 0
        self.sum = 0  # of the low bytes of the numbers, if they come in no order
        self.sizes = body_sizes(load, source)
        key = published[0].key or ("" if load.exchange_name else queue)
        route = load.exchange_name, key
        self.sample = delivery(channel, route, published[0].properties, published[0].body(0), frame_max)
        # True if every byte of the first delivery is known, except the timestamp.
        self._known = load.ordered and load.exchange in {"default", "fanout"}
        self._stamped = bool(load.stamped)
        self._acked = 0
        self._every = load.ack

    def check_first(self, data: bytes) -> None:
        """Compare the first delivery of the channel with the first publish. Raises BenchError."""
        if not self._known:
            return
        if self._content(data) != self._content(self.sample):
            reason = refusal(data)
            raise BenchError(reason or f"the first delivery is {data[:300]!r}, and not {self.sample[:300]!r}")

    def _content(self, data: bytes) -> object:
        """Return what the delivery in ``data`` carries: brokers may pack a headers table in their own way."""
        for channel, command in CommandReader(0, BODY_MAX).receive(data):
            if isinstance(command, Delivery):
                message = command.message
                body = message.body[STAMP:] if self._stamped else message.body
                return channel, message.exchange, message.routing_key, message.properties, body, message.size
        return None

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


@dataclass
class DeliveryCheck:
    """The lanes of one connection, by channel, and bytes that are no whole delivery yet."""

    load: Load
    lanes: dict[int, ConsumeLane]
    record: Record
    rest: bytes = b""

    def take(self, data: memoryview) -> Touched:
        """Check and count the deliveries in the bytes read. Raises BenchError."""
        raise NotImplementedError

    def finish(self) -> None:
        """Raise BenchError if the last delivery is incomplete."""
        if self.rest:
            raise BenchError("the last delivery is incomplete")

    def _check_rest(self) -> None:
        """Raise BenchError if the next frame begins no delivery but the end of a channel or a consumer."""
        if len(self.rest) >= METHOD + 4 and self.rest[METHOD : METHOD + 4] != DELIVER:
            raise BenchError(refusal(self.rest) or f"{self.rest[:64]!r} came instead of a delivery")


def delivery_check(
    load: Load, lanes: dict[int, ConsumeLane], frame_max: int, record: Record
) -> DeliveryCheck:
    """Return the fastest check for a load."""
    if not load.equally_long:
        return FrameCheck(load, lanes, record, frame_max)
    return ColumnCheck(load, lanes, record) if len(lanes) == 1 else RowCheck(load, lanes, record)


class ColumnCheck(DeliveryCheck):
    """Check of one channel with equally long deliveries, by single columns of the bytes read."""

    def __init__(self, load: Load, lanes: dict[int, ConsumeLane], record: Record) -> None:
        super().__init__(load, lanes, record)
        (self._lane,) = lanes.values()
        self._size = len(self._lane.sample)
        self._body = body_offset(self._lane.sample)
        self._position = 0  # bytes that were checked
        # number and timestamp of messages whose end has not been read
        self._begun: deque[tuple[int, int]] = deque()
        self._every = load.stamped

    def take(self, data: memoryview) -> Touched:
        size, position, lane = self._size, self._position, self._lane
        if position < size:  # in full, once: column checks of the others keep the measurement fast
            self.rest += data[: size - position]
            if len(self.rest) >= size:
                lane.check_first(self.rest)
                self.rest = b""
        self._column(data, TAG, LOW_BYTES[1:] + LOW_BYTES[:1])
        self._column(data, size - 1, bytes([FRAME_END]) * BLOCK)
        self._column(data, METHOD + 3, DELIVER[-1:] * BLOCK)
        if self.load.ordered:
            self._column(data, size - 2, LOW_BYTES)
        else:
            lane.sum += sum(data[(size - 2 - position) % size :: size])
        if self._every:
            self._note_stamps(data)
        self._position += len(data)
        before, lane.count = lane.count, self._position // size
        if self._begun:
            self._record(lane.count)
        return lane.count - before, [lane]

    def _column(self, data: memoryview, column: int, expected: bytes) -> None:
        """Compare a column of the bytes read with its expected values over 256 messages. Raises
        BenchError.
        """
        size, position = self._size, self._position
        first = (column - position) % size
        found = bytes(data[first::size])
        start = (position + first) // size % BLOCK
        if found != (expected * ((start + len(found)) // BLOCK + 1))[start : start + len(found)]:
            reason = refusal(self.rest + data)
            raise BenchError(reason or f"deliveries after {position // size} are not what was sent")

    def _note_stamps(self, data: memoryview) -> None:
        """Collect the timestamps in the bytes read; one that is split between two reads is skipped."""
        size, position, every, body = self._size, self._position, self._every, self._body
        number = -(-(position - body) // size)  # first delivery whose timestamp begins here
        number += -number % every
        last = (position + len(data) - body - STAMP) // size
        for each in range(number, last + 1, every):
            self._begun.append((each, _stamp(data, each * size + body - position)[0]))

    def _record(self, count: int) -> None:
        """Record the latencies of the messages that are complete by now."""
        now, begun = time.monotonic_ns(), self._begun
        while begun and begun[0][0] < count:
            self.record(now - begun.popleft()[1])

    def finish(self) -> None:
        if self.rest or self._position % self._size:
            raise BenchError("the last delivery is incomplete")


class RowCheck(DeliveryCheck):
    """Check of several channels with equally long deliveries, which come in any order."""

    def take(self, data: memoryview) -> Touched:
        received = self.rest + data
        lanes, touched = self.lanes, {}
        sample = next(iter(lanes.values())).sample
        size, body = len(sample), body_offset(sample)
        count = len(received) // size
        end = count * size
        self.rest = received[end:]
        ordered, every = self.load.ordered, self.load.stamped
        now = time.monotonic_ns()
        rows = zip(
            received[2:end:size],
            received[TAG:end:size],
            received[size - 2 : end : size],
            received[size - 1 : end : size],
            strict=True,
        )
        for place, (channel, low, low_number, last) in enumerate(rows):
            lane = lanes.get(channel)
            if lane is None:
                raise BenchError(refusal(received) or f"a delivery came on channel {channel}")
            position = lane.count & 255
            if low != (position + 1) & 255 or last != FRAME_END or (ordered and low_number != position):
                reason = refusal(received)
                raise BenchError(reason or f"what follows delivery {lane.count} of {lane.queue} was not sent")
            if not lane.count:
                lane.check_first(received[place * size : (place + 1) * size])
            if every and not position % every:
                self.record(now - _stamp(received, place * size + body)[0])
            lane.count += 1
            lane.sum += low_number
            touched[channel] = lane
        self._check_rest()
        return count, list(touched.values())


class FrameCheck(DeliveryCheck):
    """Check of deliveries of different lengths, on any number of channels: a walk over their frames.

    The middle of a large body is skipped as it is read: copying it would cost more than brokers do.
    """

    def __init__(self, load: Load, lanes: dict[int, ConsumeLane], record: Record, frame_max: int) -> None:
        super().__init__(load, lanes, record)
        self._piece = frame_max - FRAME_OVERHEAD  # bytes of a body in one frame
        self._skip = 0  # bytes still to be skipped
        self._cut = 0  # bytes that are skipped of the delivery in ``rest``

    def take(self, data: memoryview) -> Touched:
        if self._skip >= len(data):
            self._skip -= len(data)
            return 0, []
        received = self.rest + data[self._skip :]
        skip, cut = 0, self._cut
        end, lanes, touched = len(received), self.lanes, {}
        ordered, every, piece = self.load.ordered, self.load.stamped, self._piece
        unpack, head = HEADER_FRAME.unpack_from, HEADER_FRAME.size
        now, place, count = time.monotonic_ns(), 0, 0
        while place + METHOD < end:
            content = place + 8 + (received[place + 5] << 8 | received[place + 6])
            if content + head > end:
                break
            kind, channel, header_size, _, _, size = unpack(received, content)
            if kind != FRAME_HEADER:
                break
            body = content + header_size + 15  # after the rest of the header and 7 bytes of the next frame
            after = body + size + 1 + ((size - 1) // piece * FRAME_OVERHEAD if size > piece else 0) - cut
            if after > end:
                if after - end > LARGE and body + STAMP <= end:
                    skip, cut = after - end - 2, cut + after - 2 - (body + STAMP)
                    received = received[: body + STAMP]
                break
            lane = lanes.get(channel)
            if lane is None:
                raise BenchError(f"a delivery came on channel {channel}")
            number = lane.count
            low = received[after - 2]
            if (
                received[place + TAG] != (number + 1) & 255
                or received[after - 1] != FRAME_END
                or (ordered and (low != number & 255 or size != lane.sizes[number % len(lane.sizes)]))
            ):
                raise BenchError(f"what follows delivery {number} of {lane.queue} was not sent")
            if every and not (ordered and number % every):
                self.record(now - _stamp(received, body)[0])
            if not number and not cut:
                lane.check_first(received[place:after])
            lane.count = number + 1
            lane.sum += low
            touched[channel] = lane
            count += 1
            place, cut = after, 0
        self.rest, self._skip, self._cut = received[place:], skip, cut
        self._check_rest()
        return count, list(touched.values())
