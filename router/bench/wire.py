"""Blocking AMQP connection for setup, and the encoded publishes and deliveries of a load.

Responsible for the client's handshake and calls, and for the bytes of publishes and deliveries.
"""

import select
import socket
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command, Delivery
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.content_frames import FRAME, pack_frames
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader
from leveret.protocol.amqp.table import Table
from leveret.protocol.recognition import recognize
from leveret.router.bench.load import BenchError, BenchTarget

TIMEOUT = 30.0  # seconds without any progress after which a broker counts as failed
CHECK = 10.0  # seconds until a broker must answer to a login
PATIENCE = 600.0  # seconds for requests that take a broker long, such as deleting many bindings
READ = 1 << 18  # bytes
FRAME_MAX = 131072  # bytes, the value that most clients ask for
BODY_MAX = 1 << 40  # no limit
CONSUMER_TAG = "c"
TAG_OFFSET = 7 + 4 + 1 + len(CONSUMER_TAG)  # offset of the delivery tag in a delivery
FRAME_END = 0xCE
# first bytes of channel.close, connection.close and basic.cancel
ENDS = (b"\x00\x14\x00\x28", b"\x00\x0a\x00\x32", b"\x00\x3c\x00\x1e")

M = TypeVar("M", bound=m.Method)


class BlockingConnection:
    """A blocking connection with the channels 1 to ``channels`` open, and without heartbeats, which would mix
    with deliveries.

    All calls block, ``timeout`` seconds at most, and raise BenchError if the broker refuses or closes the
    connection.
    """

    def __init__(self, target: BenchTarget, channels: int = 1, timeout: float = TIMEOUT) -> None:
        try:
            self.socket = socket.create_connection((target.host, target.port), timeout)
        except OSError as error:
            raise BenchError(f"{target.address}: {error.strerror or error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = CommandReader(0, BODY_MAX)
        self._commands: deque[tuple[int, Command]] = deque()
        self.send(PROTOCOL_HEADER)
        self.expect(m.ConnectionStart)
        login = f"\0{target.user}\0{target.password}".encode()
        capabilities: Table = {"authentication_failure_close": True, "consumer_cancel_notify": True}
        about: Table = {"product": "leveret bench", "capabilities": capabilities}
        self.send(method_frame(0, m.ConnectionStartOk(about, "PLAIN", login)))
        tune = self.expect(m.ConnectionTune)
        self.frame_max = min(FRAME_MAX, tune.frame_max or FRAME_MAX)
        if tune.channel_max:
            channels_max = min(tune.channel_max, 65535)
            if channels > channels_max:
                raise BenchError(
                    f"{channels} channels are needed on a connection, {channels_max} are allowed"
                )
        self.send(method_frame(0, m.ConnectionTuneOk(tune.channel_max or 65535, self.frame_max, 0)))
        self.call(0, m.ConnectionOpen(target.vhost), m.ConnectionOpenOk)
        self.call_all([(number, m.ChannelOpen()) for number in range(1, channels + 1)], m.ChannelOpenOk)

    def send(self, data: bytes | bytearray) -> None:
        """Send frames."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise BenchError(f"the broker accepted no more data: {error.strerror or error}") from None

    def call(self, channel: int, method: m.Method, reply: type[M]) -> M:
        """Send a request and return its reply."""
        self.send(method_frame(channel, method))
        return self.expect(reply)

    def call_all(self, requests: Iterable[tuple[int, m.Method]], reply: type[M]) -> list[M]:
        """Send many requests before the first reply is read; return the replies in order."""
        made, replies = list(requests), []
        for start in range(0, len(made), 256):
            some = made[start : start + 256]
            self.send(b"".join([method_frame(channel, method) for channel, method in some]))
            replies += [self.expect(reply) for _ in some]
        return replies

    def expect(self, reply: type[M]) -> M:
        """Return the next command, which must be this method."""
        _, command = self.next()
        if isinstance(command, Delivery):
            raise BenchError("the broker delivered more messages than should have come")
        if not isinstance(command, reply):
            raise BenchError(f"{command} came instead of {reply.NAME}")
        return command

    def next(self) -> tuple[int, Command]:
        """Return the next command with its channel. Raises BenchError if it closes the channel or the
        connection.
        """
        while not self._commands:
            try:
                data = self.socket.recv(READ)
            except OSError as error:
                raise BenchError(f"the broker does not answer: {error.strerror or error}") from None
            if not data:
                raise BenchError("the broker closed the connection")
            self._commands.extend(self._reader.receive(data))
            if self._reader.error is not None:
                spoken = recognize(data)
                what = f"{spoken} and no AMQP 0-9-1" if spoken else f"what is no AMQP: {self._reader.error}"
                raise BenchError(f"the broker sent {what}")
        channel, command = self._commands.popleft()
        if isinstance(command, m.ChannelClose | m.ConnectionClose):
            raise BenchError(f"the broker refused: {command.reply_code} {command.reply_text}")
        return channel, command

    def waits(self, seconds: float) -> bool:
        """Return True if data arrives within ``seconds``."""
        poll = select.poll()  # select.select takes no descriptors above 1,023
        poll.register(self.socket, select.POLLIN)
        return bool(self._commands or poll.poll(max(0.0, seconds) * 1000))

    def close(self) -> None:
        """Close the connection; the broker has handled everything sent before when this returns."""
        self.call(0, m.ConnectionClose(200, "done"), m.ConnectionCloseOk)
        self.socket.close()


def check_target(target: BenchTarget) -> None:
    """Connect to a broker and log in. Raises BenchError, with the address, if either fails."""
    try:
        BlockingConnection(target, timeout=CHECK).close()
    except BenchError as error:
        reason = str(error).removeprefix(f"{target.address}: ")
        raise BenchError(f"{target.address}: {reason}") from None


def refusal(data: bytes) -> str:
    """Return the reason of a channel.close, connection.close or basic.cancel in these bytes; "" if there is
    none.
    """
    for position in [data.find(end) - 7 for end in ENDS if end in data[7:]]:
        for _, command in CommandReader(0, BODY_MAX).receive(data[max(position, 0) :]):
            if isinstance(command, m.ChannelClose | m.ConnectionClose):
                return f"the broker refused: {command.reply_code} {command.reply_text}"
            if isinstance(command, m.BasicCancel):
                return "the broker cancelled a consumer: its queue was deleted"
    return ""


def body_offset(data: bytes) -> int:
    """Return the offset of the body in a method with content: after two frames and the head of a third."""
    offset = 0
    for _ in range(2):
        offset += FRAME.unpack_from(data, offset)[2] + 8
    return offset + 7


def publish(
    channel: int, route: tuple[str, str], properties: Properties, body: bytes, frame_max: int
) -> bytes:
    """Encode a basic.publish with its content."""
    return publish_encoded(channel, route, encode_properties(properties), body, frame_max)


def publish_encoded(
    channel: int, route: tuple[str, str], properties: bytes, body: bytes, frame_max: int
) -> bytes:
    """Encode a basic.publish with its content, whose properties are encoded already."""
    return method_frame(channel, m.BasicPublish(*route)) + pack_frames(channel, properties, body, frame_max)


def delivery(
    channel: int, route: tuple[str, str], properties: bytes, body: bytes, frame_max: int, *, tag: int = 1
) -> bytes:
    """Encode the delivery with this tag, as the broker must send it; ``properties`` are encoded already."""
    content = pack_frames(channel, properties, body, frame_max)
    return method_frame(channel, m.BasicDeliver(CONSUMER_TAG, tag, False, *route)) + content
