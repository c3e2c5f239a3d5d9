"""A client whose broker may die at any moment: it notes in the model what it sends and what it hears."""

from collections import deque
from random import Random
from typing import Any

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Acks, Delivery
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.properties import Properties, encode_properties
from tests.faults.model import Found, Model, Publication, Token
from tests.router.server.client import Client, Closed

LOST = (Closed, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
SIZES = (10, 100, 1000, 5000, 20000, 140_000)
FRAME_MAX = 131072
WEIGHTS = (40, 40, 30, 10, 4, 1)


class Failed(Exception):
    """The broker did what it must not do while it ran."""


def publish_frames(
    exchange: str, key: str, body: bytes, *, mandatory: bool = False, **properties: Any
) -> bytes:
    """A basic.publish on channel 1 with its content."""
    head = method_frame(1, m.BasicPublish(exchange, key, mandatory))
    return head + pack_frames(1, encode_properties(Properties(**properties)), body, FRAME_MAX)


def body_of(publisher: str, number: int, size: int) -> bytes:
    """What identifies a message, and so many bytes that depend on it."""
    return f"{publisher} {number} {size} ".encode() + bytes([97 + number % 26]) * size


def found_of(delivery: Delivery, queue: str) -> Found:
    """What a delivery from a queue tells."""
    publisher, number, size, rest = delivery.message.body.split(b" ", 3)
    headers = delivery.message.headers
    origin = headers.get("x-first-death-queue", ALIASES.get(queue, queue))
    assert isinstance(delivery.method, m.BasicDeliver | m.BasicGetOk)
    token = Token(publisher.decode(), int(number), str(origin))
    whole = rest == bytes([97 + int(number) % 26]) * int(size)
    return Found(token, delivery.method.redelivered, whole, int(headers.get("x-delivery-count", 0)))


ALIASES = {"move.b": "move.a"}  # messages that a transaction moves


class FaultClient:
    """One channel on one connection, whose publishes may be confirmed."""

    def __init__(self, model: Model, random: Random) -> None:
        self.model = model
        self.random = random
        self.client: Client
        self._sent = 0
        self._waiting: deque[tuple[int, Publication | list[Token]]] = deque()
        self.deliveries: deque[Delivery] = deque()
        self.returned = 0

    async def connect(self, port: int | tuple[str, int]) -> None:
        """Connect to a port of this machine, or to an address, and log in."""
        address = ("127.0.0.1", port) if isinstance(port, int) else port
        self.client = Client(await trio.open_tcp_stream(*address))
        try:
            await self.client.login()
        except AssertionError as error:
            if isinstance(error.args[0], m.ConnectionClose) and error.args[0].reply_code == 320:
                raise Closed from None
            raise

    async def confirmed(self) -> None:
        await self.call(m.ConfirmSelect(), m.ConfirmSelectOk)

    def pack(self, publication: Publication, exchange: str, key: str, **properties: Any) -> bytes:
        """A publish as it is to be sent at once; what becomes of it is noted."""
        size = self.random.choices(SIZES, WEIGHTS)[0]
        body = body_of(publication.publisher, publication.number, size)
        self._sent += 1
        self._waiting.append((self._sent, self.model.publish(publication)))
        properties.setdefault("delivery_mode", 2 if publication.kept else 1)
        return publish_frames(exchange, key, body, **properties)

    def barrier(self, settled: list[Token]) -> bytes:
        """A publish to the end that once it is confirmed what was settled before it is on disk."""
        self._sent += 1
        self._waiting.append((self._sent, settled))
        return publish_frames("", "barrier", b"barrier", delivery_mode=2)

    async def send(self, *data: bytes) -> None:
        await self.client.stream.send_all(b"".join(data))

    async def call(self, method: m.Method, answer: type) -> m.Method:
        """Ask, and take in whatever comes before the answer."""
        await self.client.send(method)
        return await self.expect(answer)

    async def expect(self, answer: type) -> m.Method:
        while not isinstance(command := await self.client.next(), answer):
            self.take(command)
        return command

    async def receive(self) -> None:
        """Take in what comes next, and all that came with it."""
        self.take(await self.client.next())
        while self.client.waiting:
            self.take(self.client.waiting.popleft()[1])

    def take(self, command: object) -> None:
        match command:
            case Delivery(method=m.BasicReturn()):
                self.returned += 1
            case Delivery():
                self.deliveries.append(command)
            case m.BasicAck():
                self._confirm(command.delivery_tag, multiple=command.multiple)
            case Acks():
                for tag in command.tags:
                    self._confirm(tag, multiple=False)
            case m.BasicNack():
                raise Failed(f"a publish was refused: {command}")
            case m.ConnectionBlocked() | m.ConnectionUnblocked():
                pass  # the disk fails; and works again
            case m.ConnectionClose(reply_code=320):
                raise Closed  # the broker is being stopped
            case _:
                raise Failed(f"came {command}")

    def _confirm(self, tag: int, *, multiple: bool) -> None:
        while self._waiting and self._waiting[0][0] <= tag:
            number, what = self._waiting.popleft()
            if number != tag and not multiple:
                raise Failed(f"confirm {tag} came, {number} was next")
            if isinstance(what, Publication):
                what.confirmed = True
            else:
                self.model.gone.update(what)

    def waiting(self) -> int:
        """How many publishes are not confirmed."""
        return len(self._waiting)
