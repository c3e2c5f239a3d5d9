"""Bytes to commands: frames are found, contents assembled, and nothing is copied twice.

Owns the reading half of a connection, for either end: it knows frames and contents, not what a command means or
whether it may come now. The publish triple (method, header, body in one read) has a path of its own, since it is
what a broker reads most; everything else goes through the generic one, and both give the same messages.

Sources: AMQP 0-9-1 2.3 (framing) and 4.2; RabbitMQ for the limits and which error each fault is.
"""

from dataclasses import dataclass
from struct import Struct

from protocol.amqp.codec import decode_method
from protocol.amqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FRAME_OVERHEAD
from protocol.amqp.message import FLAGS_OFFSET, FRAME, Message, pack_route
from protocol.amqp.methods import BasicAck, BasicDeliver, BasicGetOk, BasicPublish, BasicReturn, Method
from protocol.amqp.properties import Properties, decode_properties
from protocol.errors import AmqpError, FrameError, UnexpectedFrame

END = 0xCE
PUBLISH = b"\x00\x3c\x00\x28"
ACK = b"\x00\x3c\x00\x50"
CONTENT = Struct(">BHIHHQ")  # the content header frame up to its property flags
ACK_ARGUMENTS = Struct(">QB")
KNOWN_PROPERTIES = 512  # distinct property sections remembered per connection
KNOWN_PROPERTIES_BYTES = 256  # and how long one may be


@dataclass(slots=True)
class Heartbeat:
    """A heartbeat frame; it belongs to the connection and carries nothing."""


@dataclass(slots=True)
class Delivery:
    """What a client receives: a method that carries content, and the content."""

    method: BasicDeliver | BasicGetOk | BasicReturn
    message: Message


@dataclass(slots=True)
class Oversized:
    """A publish whose body is larger than allowed; its body is read past, not kept."""

    size: int


Command = Method | Message | Delivery | Oversized | Heartbeat


class Reader:
    """Turns a byte stream into ``(channel, command)`` pairs.

    ``frame_max`` is the largest frame in bytes (0: none), ``body_max`` the largest body. A fault is kept in ``error`` until the commands before
    it were handled; nothing is read after it.
    """

    def __init__(self, frame_max: int, body_max: int) -> None:
        self.frame_max = frame_max
        self.body_max = body_max
        self.error: AmqpError | None = None
        self._waiting: list[bytes] = []  # an incomplete frame, in pieces
        self._have = 0
        self._need = 0
        self._partial: dict[int, _Partial] = {}
        self._known: dict[bytes, Properties] = {}

    def receive(self, data: bytes) -> list[tuple[int, Command]]:
        """All commands that ``data`` completes, in order."""
        if self._waiting:
            self._waiting.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._waiting)
            self._waiting.clear()
        commands: list[tuple[int, Command]] = []
        if self.error is None:
            try:
                position = self._read(data, commands)
            except AmqpError as error:
                self.error = error
                return commands
            if position < len(data):
                self._keep(data[position:] if position else data)
        return commands

    def _keep(self, rest: bytes) -> None:
        """Hold an incomplete frame until all of it is here, joining its pieces once."""
        self._waiting.append(rest)
        self._have = len(rest)
        self._need = FRAME_OVERHEAD
        if len(rest) >= FRAME.size:
            self._need += FRAME.unpack_from(rest)[2]

    def _read(self, data: bytes, commands: list[tuple[int, Command]]) -> int:  # noqa: PLR0912 - one pass, no calls
        """Append the commands of all whole frames; return where the first incomplete one begins."""
        frame, content, append = FRAME.unpack_from, CONTENT.unpack_from, commands.append
        known, partial = self._known, self._partial
        limit = self.frame_max or 0xFFFFFFFF  # of the payload: RabbitMQ allows 8 bytes more than the specification
        position, length = 0, len(data)
        while length - position >= FRAME_OVERHEAD:
            kind, channel, size = frame(data, position)
            if size > limit:
                raise FrameError(f"type {kind}, all octets = <<>>: {{frame_too_large,{size},{self.frame_max - 8}}}")
            last = position + 7 + size
            if last >= length:
                break
            if data[last] != END:
                shown = _octets(data[position + 7 : last])
                raise FrameError(f"type {kind}, all octets = {shown}: {{invalid_frame_end_marker,{data[last]}}}")
            if kind == FRAME_METHOD and channel not in partial:
                start = position + 7
                if data.startswith(PUBLISH, start):
                    # basic.publish: class, method, ticket, exchange, routing key, bits
                    middle = start + 7 + data[start + 6]
                    bits = middle + 1 + data[middle] if middle < last else last
                    if bits + 1 == last:
                        after = last + 1
                        if length - after >= 22:
                            header, number, header_size, class_id, weight, body_size = content(data, after)
                            behind = after + 7 + header_size
                            if (
                                header == FRAME_HEADER
                                and number == channel
                                and class_id == 60
                                and weight == 0
                                and 14 <= header_size <= limit
                                and 0 < body_size <= self.body_max
                                and length - behind >= 9 + body_size
                                and data[behind] == END
                            ):
                                body, number, whole = frame(data, behind + 1)
                                end = behind + 8 + body_size
                                if (
                                    body == FRAME_BODY
                                    and number == channel
                                    and whole == body_size <= limit
                                    and data[end] == END
                                ):
                                    raw = data[after + FLAGS_OFFSET : behind]
                                    position = end + 1
                                    append(
                                        (
                                            channel,
                                            Message(
                                                data[start + 6 : bits],
                                                data[bits],
                                                channel,
                                                body_size,
                                                data[after:position],
                                                known.get(raw) or self.properties(raw),
                                            ),
                                        )
                                    )
                                    continue
                elif size == 13 and data.startswith(ACK, start):
                    tag, bit = ACK_ARGUMENTS.unpack_from(data, start + 4)
                    append((channel, BasicAck(tag, bool(bit & 1))))
                    position = last + 1
                    continue
            command = self._frame(data, kind, channel, position, last)
            position = last + 1
            if command is not None:
                append((channel, command))
        return position

    def _frame(self, data: bytes, kind: int, channel: int, position: int, last: int) -> Command | None:
        """One frame the general way; a command when it completes one."""
        partial = self._partial.get(channel)
        if kind == FRAME_METHOD:
            if last - position < 11:
                raise _unknown_frame(data, position, last)
            if partial is not None:
                raise partial.unexpected()
            method = decode_method(data, position + 7, last)
            if not method.CONTENT:
                return method
            self._partial[channel] = _Partial(channel, method)
            return None
        if kind in (FRAME_HEADER, FRAME_BODY):
            if not channel:
                raise _unexpected(data, kind, position, last)
            if partial is None:
                raise UnexpectedFrame("expected method frame, got non method frame instead")
            if kind == FRAME_HEADER:
                done = partial.header(data, position, last, self)
            else:
                done = partial.body(data, position, last)
            if not done:
                return None
            del self._partial[channel]
            return partial.command()
        if kind == FRAME_HEARTBEAT and last - position == 7:
            if channel:
                raise _unexpected(data, kind, position, last)
            return Heartbeat()
        raise _unknown_frame(data, position, last)

    def properties(self, raw: bytes) -> Properties:
        """Decode a property section, or find it again: most messages of a connection carry the same one."""
        found = self._known.get(raw)
        if found is None:
            found = decode_properties(raw, 0)
            if len(raw) <= KNOWN_PROPERTIES_BYTES:
                if len(self._known) >= KNOWN_PROPERTIES:
                    self._known.clear()
                self._known[raw] = found
        return found


class _Partial:
    """A content-bearing method whose header or body is still to come."""

    __slots__ = ("_channel", "_chunks", "_kept", "_left", "_properties", "_size", "method")

    def __init__(self, channel: int, method: Method) -> None:
        self.method = method
        self._channel = channel
        self._chunks: list[bytes] = []
        self._size = -1  # the body's bytes, once the header is here
        self._left = 0
        self._kept = True
        self._properties = Properties()

    def unexpected(self) -> UnexpectedFrame:
        """What to say of a frame that is not the one this content waits for."""
        what = "header" if self._size < 0 else "body"
        whose = f" for class {self.method.CLASS_ID}" if self._size < 0 else ""
        return UnexpectedFrame(
            f"expected content {what}{whose}, got non content {what} frame instead", cause=self.method
        )

    def header(self, data: bytes, position: int, last: int, reader: Reader) -> bool:
        """Take the header frame; True when no body follows."""
        if self._size >= 0:
            raise self.unexpected()
        if last - position < FLAGS_OFFSET + 2:
            raise _unknown_frame(data, position, last)
        class_id, weight, size = CONTENT.unpack_from(data, position)[3:]
        if weight:
            raise self.unexpected()
        if class_id != self.method.CLASS_ID:
            raise UnexpectedFrame(
                f"expected content header for class {self.method.CLASS_ID}, got one for class {class_id} instead",
                cause=self.method,
            )
        self._properties = reader.properties(data[position + FLAGS_OFFSET : last])
        self._size = self._left = size
        self._kept = size <= reader.body_max
        self._chunks.append(data[position : last + 1])
        return bool(size == 0)

    def body(self, data: bytes, position: int, last: int) -> bool:
        """Take a body frame; True when it was the last."""
        self._left -= last - position - 7
        if self._size < 0 or self._left < 0:
            raise self.unexpected()
        if self._kept:
            self._chunks.append(data[position : last + 1])
        return self._left == 0

    def command(self) -> Command:
        """The whole of it."""
        method = self.method
        if not self._kept:
            return Oversized(self._size)
        frames = b"".join(self._chunks)
        assert isinstance(method, BasicPublish | BasicDeliver | BasicGetOk | BasicReturn)
        route = pack_route(method.exchange, method.routing_key)
        if isinstance(method, BasicPublish):
            bits = method.mandatory | method.immediate << 1
            return Message(route, bits, self._channel, self._size, frames, self._properties)
        return Delivery(method, Message(route, 0, self._channel, self._size, frames, self._properties))


def _octets(data: bytes) -> str:
    """Bytes as RabbitMQ prints them, as many as a reply text has room for."""
    shown = data[:80]
    if shown and all(32 <= octet < 127 for octet in shown):
        return f'<<"{shown.decode()}">>'
    return f"<<{','.join(map(str, shown))}>>"


def _unexpected(data: bytes, kind: int, position: int, last: int) -> UnexpectedFrame:
    return UnexpectedFrame(f"type {kind}, all octets = {_octets(data[position + 7 : last])}")


def _unknown_frame(data: bytes, position: int, last: int) -> FrameError:
    return FrameError(f"type {data[position]}, all octets = {_octets(data[position + 7 : last])}: unknown_frame")
