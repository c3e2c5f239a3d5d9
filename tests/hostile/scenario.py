"""Scenarios, and their tools: clients of the broker, its ports, its API."""

import base64
import json
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.router.server.client import Client, publish_frames
from tests.router.server.process import Leveret
from tests.router.server.web import Answer, Browser

TURN = 0.03  # processor seconds: some turns take a look of the garbage collector more than their budget
PIECE = 500  # methods that are sent before their answers are read


def basic(user: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


GUEST = basic("guest", "guest")


@dataclass
class Attack:
    """One run of a scenario against ``broker``, in a virtual host of its own; ``scale`` 1 is full size.

    ``paused`` is the time for which the scenario suspended the broker process, in seconds.
    """

    broker: Leveret
    scale: float
    vhost: str
    paused: float = 0.0

    @property
    def full(self) -> bool:
        return self.scale == 1

    def many(self, count: int) -> int:
        """Scale a number of things."""
        return max(1, int(count * self.scale))

    async def tcp(self, scheme: str) -> trio.SocketStream:
        """Connect to the listener of ``scheme``: amqp, amqps, stomp or http."""
        found = re.search(rf"\b{scheme}://127\.0\.0\.1:(\d+)", self.broker.announced)
        assert found is not None, self.broker.announced
        return await trio.open_tcp_stream("127.0.0.1", int(found[1]))

    async def client(self, channels: int = 1, *, user: str = "guest", heartbeat: int = 0) -> Client:
        """An AMQP client in the scenario's virtual host. The password of other users is their name."""
        return await Client(await self.tcp("amqp")).login(
            user=user, password=user, heartbeat=heartbeat, channels=range(1, channels + 1), vhost=self.vhost
        )

    async def stomp(self) -> trio.SocketStream:
        """A STOMP client that has logged in."""
        stream = await self.tcp("stomp")
        head = f"CONNECT\naccept-version:1.2\nhost:{self.vhost}\nlogin:guest\npasscode:guest\n\n\0"
        await stream.send_all(head.encode())
        assert (await stream.receive_some()).startswith(b"CONNECTED")
        return stream

    async def answer(
        self, path: str, method: str = "GET", body: bytes = b"", *, authorization: str = GUEST
    ) -> Answer:
        """Send a request on a connection of its own and return the response."""
        async with await self.tcp("http") as stream:
            return await Browser(stream).ask(path, method, body, authorization=authorization)

    async def ask(
        self, path: str, method: str = "GET", body: object = None, *, refused: bool = False
    ) -> bytes:
        """Return the body of the API's response. It must be a success, or may be 4xx with ``refused``.
        ``body`` is encoded as JSON unless it is bytes already.
        """
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        answer = await self.answer(path, method, body)
        good = answer.status < 300 or (refused and 400 <= answer.status < 500)
        assert good, (method, path, answer.status, answer.body[:500])
        return answer.body

    async def add_user(self, name: str, tags: str = "management") -> None:
        """Add a user without permissions, whose password is its name."""
        await self.ask(f"/api/users/{name}", "PUT", {"password": name, "tags": tags})

    async def longest_turn(self) -> tuple[float, float]:
        """The broker's longest turns of the last minute or two, in seconds and in processor seconds."""
        # The text of a scrape is shared for a second with those who ask the same: another one ends that.
        await self.ask("/metrics/detailed?family=connection_churn_metrics")
        text = (await self.ask("/metrics")).decode()
        found = re.findall(r"^leveret_loop_longest_turn(?:_cpu)?_seconds (\S+)$", text, re.MULTILINE)
        seconds, cpu_seconds = map(float, found)
        return seconds, cpu_seconds

    async def pause_broker(self, seconds: float) -> None:
        """Stop the broker's process for so long, as a suspended machine would."""
        began = trio.current_time()
        self.broker.process.send_signal(signal.SIGSTOP)
        try:
            await trio.sleep(seconds)
        finally:
            self.broker.process.send_signal(signal.SIGCONT)
            self.paused += trio.current_time() - began


@dataclass(frozen=True)
class Scenario:
    """An input: ``run`` sends it. Its docstring's first line says what it does at full size.

    ``short`` is the scale of the short form, ``memory`` the most resident memory of the broker in MiB,
    ``turn`` the most processor seconds of a turn of the broker's loop in the short form.
    """

    family: str
    run: Callable[[Attack], Awaitable[None]]
    short: float
    memory: int
    turn: float = TURN

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def summary(self) -> str:
        return (self.run.__doc__ or "").partition("\n")[0]


class Family:
    """Scenarios of one kind of work, in the order of their definition."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scenarios: list[Scenario] = []

    def scenario(
        self, *, short: float = 1 / 50, memory: int = 400, turn: float = TURN
    ) -> Callable[[Callable[[Attack], Awaitable[None]]], Callable[[Attack], Awaitable[None]]]:
        """Add a scenario; see ``Scenario`` for the parameters."""

        def add(run: Callable[[Attack], Awaitable[None]]) -> Callable[[Attack], Awaitable[None]]:
            self.scenarios.append(Scenario(self.name, run, short, memory, turn))
            return run

        return add


async def send_all(client: Client, *methods: m.Method, answers: int = 0, channel: int = 1) -> None:
    """Send many methods at once and read that many answers."""
    await client.send(*methods, channel=channel)
    for _ in range(answers):
        await accepted(client)


async def accepted(client: Client) -> None:
    """Read the next answer, which must not be a refusal."""
    answer = await client.next()
    assert not isinstance(answer, m.ChannelClose | m.ConnectionClose), answer


async def call_all(client: Client, methods: list[m.Method]) -> None:
    """Send methods that each have one answer, some at a time, and read the answers."""
    for start in range(0, len(methods), PIECE):
        piece = methods[start : start + PIECE]
        await send_all(client, *piece, answers=len(piece))


async def flood(client: Client, methods: list[m.Method]) -> None:
    """Send all methods in one write while their answers are read: each has one."""
    data = b"".join(method_frame(1, method) for method in methods)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.stream.send_all, data)
        for _ in methods:
            await accepted(client)


async def declare(client: Client, count: int, arguments: dict[str, object], *, bind: str = "") -> None:
    """Declare queues q0, q1, ... and bind each to the exchange ``bind``, if there is one."""
    names = [f"q{number}" for number in range(count)]
    await call_all(client, [m.QueueDeclare(name, arguments=arguments) for name in names])
    if bind:
        await call_all(client, [m.QueueBind(name, bind) for name in names])


async def publish_many(client: Client, frames: bytes, count: int) -> None:
    """Send the frames of a small message ``count`` times, in large writes."""
    for start in range(0, count, 1000):
        await client.stream.send_all(frames * min(1000, count - start))


async def fill(client: Client, queue: str, count: int) -> None:
    """Publish many small messages and wait until all are there."""
    await publish_many(client, publish_frames(queue), count)
    while await client.count(queue) < count:
        pass


async def held(attack: Attack, count: int) -> Client:
    """A client that holds so many unacknowledged messages of q0."""
    client = await attack.client()
    await declare(client, 1, {})
    await fill(client, "q0", count)
    await client.call(m.BasicConsume("q0", "c"), m.BasicConsumeOk)
    for _ in range(count):
        await client.next()
    await client.call(m.BasicCancel("c"), m.BasicCancelOk)
    return client


async def served(client: Client) -> None:
    """Wait until the broker has handled everything that the client sent; answers before that are skipped."""
    await client.send(m.BasicQos(0, 0, False))
    while not isinstance(await client.next(), m.BasicQosOk):
        pass


@asynccontextmanager
async def many_streams(attack: Attack, scheme: str, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections that have sent nothing yet; closed at the end of the block."""
    streams: list[trio.SocketStream] = []
    try:
        for _ in range(count):
            streams.append(await attack.tcp(scheme))
        yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything that the broker still sends before it ends the connection, with or without a reset."""
    data = bytearray()
    try:
        while piece := await stream.receive_some(65536):
            data += piece
    except trio.BrokenResourceError:
        pass
    return bytes(data)
