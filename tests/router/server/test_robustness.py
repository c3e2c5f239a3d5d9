"""Hostile and broken clients on real sockets, beside a pair of clients that must not notice."""

import gc
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.amqp.connection import AmqpConnection
from leveret.router.queue.delivery import DRAIN_BYTES
from leveret.router.queue.queue import Queue
from leveret.router.server import client_tasks as serving
from leveret.router.session.session import Session
from leveret.router.settings import Amqp, Settings
from leveret.router.settings import Server as ServerSettings
from tests.router.server.client import Client, Closed, frame, publish_frames, start_ok
from tests.router.server.server import Server

pytestmark = pytest.mark.usefixtures("logged")

BOUND = 2.0  # seconds a message of the good clients may take, on a machine that others use too
SEED = 20_240_229
GONE = (Closed, trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@pytest.fixture
def settings() -> Settings:
    return Settings(
        amqp=Amqp(handshake_timeout=1000),
        server=ServerSettings(outbox_high=1 << 18, outbox_low=1 << 16, shutdown_timeout=200),
    )


@pytest.fixture
async def port(server: Server) -> int:
    return await server.listen()


@dataclass
class Pair:
    """What a publisher with confirms and a consumer that acknowledges saw."""

    confirmed: int = 0
    consumed: int = 0
    slowest: float = 0.0


async def connect(port: int) -> Client:
    return Client(await trio.open_tcp_stream("127.0.0.1", port))


@asynccontextmanager
async def good_clients(port: int) -> AsyncIterator[Pair]:
    """Publish and consume one message after the other during the block; none may be lost or late."""
    seen = Pair()
    consumer, publisher = await (await connect(port)).login(), await (await connect(port)).login()
    await consumer.call(m.QueueDeclare("good"), m.QueueDeclareOk)
    await consumer.call(m.BasicConsume("good", "c"), m.BasicConsumeOk)
    await publisher.call(m.ConfirmSelect(), m.ConfirmSelectOk)

    async def run() -> None:
        while True:
            start = trio.current_time()
            body = seen.confirmed.to_bytes(4, "big")
            with trio.CancelScope(shield=True), trio.fail_after(30):
                await publisher.publish("good", body)
                delivery = await consumer.expect(Delivery)
                await consumer.send(m.BasicAck(delivery.method.delivery_tag))
                await publisher.expect(m.BasicAck)
            assert delivery.message.body == body
            seen.confirmed += 1
            seen.consumed += 1
            seen.slowest = max(seen.slowest, trio.current_time() - start)
            await trio.sleep(0.002)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield seen
        nursery.cancel_scope.cancel()
    assert await consumer.count("good") == 0
    assert seen.confirmed == seen.consumed > 0
    assert seen.slowest < BOUND
    await publisher.close()
    await consumer.close()


def memory() -> int:
    """The most memory this process has used so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def living(*kinds: type) -> int:
    """How many objects of these kinds there are."""
    gc.collect()
    return sum(isinstance(each, kinds) for each in gc.get_objects())


# -- what is no AMQP -----------------------------------------------------------------------------------------


def garbage() -> list[bytes]:
    """Random bytes, and handshakes that are cut, damaged or absurd."""
    source = random.Random(SEED)
    login = method_frame(0, start_ok())
    tuned = login + method_frame(0, m.ConnectionTuneOk(2047, 131072, 0))
    opened = tuned + method_frame(0, m.ConnectionOpen("/")) + method_frame(1, m.ChannelOpen())
    streams = [source.randbytes(source.randrange(1, 5000)) for _ in range(50)]
    for whole in (PROTOCOL_HEADER + login, PROTOCOL_HEADER + tuned, PROTOCOL_HEADER + opened):
        streams += [whole[: source.randrange(len(whole))] for _ in range(20)]
        for _ in range(40):
            damaged = bytearray(whole)
            damaged[source.randrange(8, len(whole))] = source.randrange(256)
            streams.append(bytes(damaged))
    for start in (PROTOCOL_HEADER, PROTOCOL_HEADER + opened):
        streams += [start + source.randbytes(source.randrange(1, 5000)) for _ in range(20)]
        for size in (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 131073, 0):
            streams += [
                start + struct.pack(">BHI", kind, 1, size) + bytes(1000) for kind in (0, 1, 2, 3, 8, 255)
            ]
    for body_size in (2**64 - 1, 2**63, 2**32, 16777217):
        header = frame(2, 1, struct.pack(">HHQH", 60, 0, body_size, 0))
        streams.append(
            PROTOCOL_HEADER + opened + method_frame(1, m.BasicPublish("", "q")) + header + bytes(99)
        )
    return streams


async def test_garbage_ends_its_own_connection_only(server, port, logged):
    async def throw(data: bytes) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            with suppress(*GONE):
                await stream.send_all(data)
                await stream.send_eof()
                while await stream.receive_some():
                    pass

    async with good_clients(port):
        for data in garbage():
            await throw(data)
        await server.serves_only(2)
    assert [each for each in logged if each["log_level"] == "error"] == []


async def test_frames_after_the_login_that_make_no_sense(server, port, logged):
    """Well-formed frames of random content: each is refused or done, and none is the broker's failure."""
    source = random.Random(SEED)
    known = [(60, each) for each in range(0, 130, 10)] + [(50, each) for each in range(0, 60, 10)]
    known += [(40, each) for each in range(0, 60, 10)] + [(20, each) for each in range(0, 50, 10)]
    known += [(85, 10), (90, 10), (90, 20), (90, 30), (10, 40), (10, 70), (30, 10), (60, 999)]

    async with good_clients(port):
        for _ in range(300):
            client = await (await connect(port)).login()
            with suppress(*GONE):
                for _ in range(10):
                    class_id, method_id = source.choice(known)
                    payload = struct.pack(">HH", class_id, method_id) + source.randbytes(source.randrange(60))
                    kind = source.choice((1, 1, 1, 1, 2, 3))
                    await client.stream.send_all(frame(kind, source.choice((0, 1, 1, 1)), payload))
            await client.stream.aclose()
        await server.serves_only(2)
    assert [each for each in logged if each["log_level"] == "error"] == []


# -- those who are slow or silent ----------------------------------------------------------------------------


async def test_a_flood_of_silent_connections_ends_with_the_time_for_handshakes(server, port):
    async with good_clients(port):
        before = memory()
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(1000)]
        start = trio.current_time()
        for stream in streams:
            assert await stream.receive_some() == b""
        assert trio.current_time() - start < 30
        for stream in streams:
            await stream.aclose()
        await server.serves_only(2)
        assert memory() - before < 100 << 20, "both ends of them"


async def test_dripping_clients_are_ended_by_the_time_for_handshakes(server, port, monkeypatch):
    monkeypatch.setattr(serving, "LINGER", 0.1)

    async def drip(client: Client) -> None:
        with suppress(*GONE):
            for octet in PROTOCOL_HEADER + method_frame(0, start_ok()) * 10:
                await client.stream.send_all(bytes([octet]))
                await trio.sleep(0.01)
            pytest.fail("nobody ended it")

    async with good_clients(port), trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(drip, await connect(port))


async def test_consumer_that_never_reads_while_its_queue_fills(server, port, settings):
    async with good_clients(port):
        slow, publisher = await (await connect(port)).login(), await (await connect(port)).login()
        slow.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        await slow.call(m.QueueDeclare("slow"), m.QueueDeclareOk)
        await slow.call(m.BasicConsume("slow", no_ack=True), m.BasicConsumeOk)
        for _ in range(40):
            await publisher.stream.send_all(publish_frames("slow", bytes(10_000)) * 50)
        ready = await publisher.count("slow")
        assert ready > 1000
        limit = settings.server.outbox_high + DRAIN_BYTES + (1 << 18)
        assert max(client.outbox.size for client in server.broker.clients) < limit
        for _ in range(2000):
            assert len(await slow.delivered()) == 10_000


async def test_publisher_that_never_reads_its_confirms(server, port, settings):
    # The receive buffer keeps its default size: with a fixed one that is full, Linux from 6.17 on drops the
    # acknowledgements of what the publisher sends, so that both ends wait.
    async with good_clients(port):
        publisher = await (await connect(port)).login()
        await publisher.call(m.ConfirmSelect(), m.ConfirmSelectOk)
        await publisher.call(m.QueueDeclare("q"), m.QueueDeclareOk)
        # Every other message makes an answer that is larger than the question.
        asked = (publish_frames("q", b"") + method_frame(1, m.QueueDeclare("q", passive=True))) * 500
        paused = False
        while not paused:
            with trio.move_on_after(3) as scope:
                await publisher.stream.send_all(asked)
            paused = scope.cancelled_caught
        high = settings.server.outbox_high
        assert high < max(client.outbox.size for client in server.broker.clients) < 2 * high


# -- many of everything --------------------------------------------------------------------------------------


async def test_two_thousand_channels_of_one_connection(server, port):
    async with good_clients(port):
        numbers = range(1, 2001)
        client = await (await connect(port)).login(channels=())
        await client.stream.send_all(b"".join(method_frame(number, m.ChannelOpen()) for number in numbers))
        for _ in numbers:
            await client.expect(m.ChannelOpenOk)
        await client.call(m.QueueDeclare("many"), m.QueueDeclareOk)
        consume = m.BasicConsume("many", "c")
        await client.stream.send_all(b"".join(method_frame(number, consume) for number in numbers))
        for _ in numbers:
            await client.expect(m.BasicConsumeOk)
        await client.stream.send_all(publish_frames("many") * 4000)
        for _ in range(4000):
            await client.expect(Delivery)
        await client.close()
        await server.serves_only(2)
        assert len(server.broker.vhosts["/"].queues["many"].ready) == 4000


async def test_nothing_is_left_of_connections_that_came_and_went(server, port):
    """Neither tasks, timers, sessions nor queues."""

    async def come_and_go(index: int) -> None:
        client = await (await connect(port)).login(heartbeat=600)
        await client.call(m.QueueDeclare(f"mine{index}", exclusive=True), m.QueueDeclareOk)
        await client.call(m.BasicConsume(f"mine{index}", "c"), m.BasicConsumeOk)
        await client.publish(f"mine{index}")
        await client.expect(Delivery)
        if index % 2:
            await client.close()
        else:
            await client.stream.aclose()

    async def some(first: int) -> None:
        for index in range(first, first + 100):
            await come_and_go(index)

    await come_and_go(0)
    await server.serves_only(0)
    kinds = (AmqpConnection, Session, Queue)
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        for first in range(0, 2000, 100):
            nursery.start_soon(some, first)
    await server.serves_only(0)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living <= tasks
    vhost = server.broker.vhosts["/"]
    assert not server.broker.clients
    assert not vhost.queues
    assert len(vhost.exchanges) == 7
    # Of 6,000 in all: three for every two deadlines, of which 1,024 may be over before they are swept out.
    assert living(*kinds) < 1800


async def test_exclusive_queues_that_come_and_go(server, port):
    async with good_clients(port):
        client = await (await connect(port)).login()
        for number in range(1000):
            name = f"reply{number}"
            await client.stream.send_all(
                method_frame(1, m.QueueDeclare(name, exclusive=True, auto_delete=True))
                + method_frame(1, m.QueueBind(name, "amq.direct", name))
                + publish_frames(name, exchange="amq.direct")
                + method_frame(1, m.QueueDelete(name))
            )
            for kind in (m.QueueDeclareOk, m.QueueBindOk, m.QueueDeleteOk):
                await client.expect(kind)
        await client.close()
        await server.serves_only(2)
        vhost = server.broker.vhosts["/"]
        assert list(vhost.queues) == ["good"]
        assert not vhost.exchanges["amq.direct"].bindings
