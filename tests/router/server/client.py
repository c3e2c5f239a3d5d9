"""An AMQP client for the tests of the server: on any Trio stream, without time-outs."""

from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command, Delivery, Heartbeat
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import CommandReader

FRAME = 100_000  # bytes of a body in one frame

M = TypeVar("M")


def publish_frames(
    key: str,
    body: bytes = b"x",
    *,
    channel: int = 1,
    exchange: str = "",
    properties: Properties | None = None,
) -> bytes:
    """A basic.publish with its content, as frames."""
    encoded = b"\x00\x00" if properties is None else encode_properties(properties)
    header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + encoded
    frames = [method_frame(channel, m.BasicPublish(exchange, key)), frame(2, channel, header)]
    frames += [frame(3, channel, body[start : start + FRAME]) for start in range(0, len(body), FRAME)]
    return b"".join(frames)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"


class Closed(Exception):
    """The broker ended the stream."""


class Client:
    """One connection. Heartbeats are read past; whatever else arrives stands in line for ``next``."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.reader = CommandReader(0, 1 << 30)
        self.waiting: deque[tuple[int, Command]] = deque()

    async def send(self, *methods: m.Method, channel: int = 1) -> None:
        await self.stream.send_all(b"".join(method_frame(channel, method) for method in methods))

    async def next(self) -> Command:
        """The next command of any channel; Closed at the end."""
        while not self.waiting:
            data = await self.stream.receive_some(65536)
            if not data:
                raise Closed
            found = self.reader.receive(bytes(data))
            self.waiting += [each for each in found if not isinstance(each[1], Heartbeat)]
        return self.waiting.popleft()[1]

    async def expect(self, kind: type[M]) -> M:
        """The next command, which must be of this kind."""
        command = await self.next()
        assert isinstance(command, kind), command
        return command

    async def call(self, method: m.Method, answer: type[M], *, channel: int = 1) -> M:
        await self.send(method, channel=channel)
        return await self.expect(answer)

    async def login(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        heartbeat: int = 0,
        channels: Sequence[int] = (1,),
        vhost: str = "/",
        channel_max: int = 2047,
    ) -> "Client":
        """Shake hands and open channels."""
        await self.stream.send_all(PROTOCOL_HEADER)
        await self.expect(m.ConnectionStart)
        await self.call(start_ok(user, password), m.ConnectionTune, channel=0)
        await self.send(m.ConnectionTuneOk(channel_max, 131072, heartbeat), channel=0)
        await self.call(m.ConnectionOpen(vhost), m.ConnectionOpenOk, channel=0)
        for number in channels:
            await self.call(m.ChannelOpen(), m.ChannelOpenOk, channel=number)
        return self

    async def beat(self, interval: float) -> None:
        """Send heartbeats for ever."""
        while True:
            await self.stream.send_all(HEARTBEAT)
            await trio.sleep(interval)

    async def publish(self, key: str, body: bytes = b"x") -> None:
        await self.stream.send_all(publish_frames(key, body))

    async def delivered(self) -> bytes:
        """The body of the next delivery."""
        return (await self.expect(Delivery)).message.body

    async def count(self, queue: str) -> int:
        """How many messages are ready in a queue."""
        return (await self.call(m.QueueDeclare(queue, passive=True), m.QueueDeclareOk)).message_count

    async def close(self) -> None:
        await self.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
        await self.stream.aclose()

    async def ended(self) -> bool:
        """Whether the stream ends here, without another command."""
        try:
            await self.next()
        except Closed:
            return True
        return False


def start_ok(user: str = "guest", password: str = "guest") -> m.ConnectionStartOk:
    names = ("authentication_failure_close", "connection.blocked", "consumer_cancel_notify")
    capabilities = dict.fromkeys(names, True)
    return m.ConnectionStartOk(
        {"product": "tests", "capabilities": capabilities}, "PLAIN", f"\0{user}\0{password}".encode(), "en_US"
    )
