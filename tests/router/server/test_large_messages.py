"""Large messages over sockets: they are read into their own buffer, and are messages as all others."""

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.message import Message
from leveret.router.server.amqp import serve_amqp
from leveret.router.server.socket_peer import SocketPeer
from tests.router.server.client import Client, publish_frames

FRAME = 131_072 - 8


@pytest.fixture
async def connect(nursery, server):
    """A function that connects a client through a pair of sockets."""

    async def client():
        here, there = trio.socket.socketpair()
        peer = SocketPeer("test", True, here, direct=True)
        nursery.start_soon(serve_amqp, trio.SocketStream(here), peer, server.driver, server.offer)
        return await Client(trio.SocketStream(there)).login()

    yield client
    nursery.cancel_scope.cancel()


def queue(server, name="q"):
    return server.broker.vhosts["/"].queues[name]


@pytest.fixture(autouse=True)
def full_frames(monkeypatch):
    monkeypatch.setattr("tests.router.server.client.FRAME", FRAME)


def body(number, size):
    return number.to_bytes(4, "big") * (size // 4)


@pytest.mark.parametrize("kind", ["classic", "stream"])
@pytest.mark.parametrize("size", [1 << 18, 1 << 20, 5 << 20, 9 << 20])
async def test_large_messages_are_delivered_as_they_were_published(server, connect, size, kind):
    publisher, consumer = await connect(), await connect()
    arguments = {"x-queue-type": kind}
    declare = m.QueueDeclare("q", durable=True, arguments=arguments)
    await consumer.call(declare, m.QueueDeclareOk)
    await consumer.call(m.BasicQos(prefetch_count=10), m.BasicQosOk)
    offset = {"x-stream-offset": "first"} if kind == "stream" else {}
    await consumer.call(m.BasicConsume("q", "c", arguments=offset), m.BasicConsumeOk)
    await publisher.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    for number in range(3):
        await publisher.stream.send_all(publish_frames("q", body(number, size)))
        await publisher.expect(m.BasicAck)
    for number in range(3):
        delivery = await consumer.expect(Delivery)
        assert delivery.message.body == body(number, size)
        await consumer.send(m.BasicAck(delivery.method.delivery_tag))
    assert server.broker.incoming.held == 0


async def test_a_large_message_is_read_into_its_own_buffer(server, connect):
    client = await connect()
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await client.stream.send_all(publish_frames("q", body(1, 4 << 20)))
    assert await client.count("q") == 1
    (entry,) = queue(server).ready
    message: Message = entry.message
    assert isinstance(message.frames, bytearray)
    assert isinstance(message.body, bytes)
    assert isinstance(message.raw_properties, bytes)
    assert message.body == body(1, 4 << 20)
    assert Message.from_frames(message.route, bytes(message.frames)).body == message.body


async def test_a_client_that_goes_in_the_middle_of_a_large_message_leaves_nothing(server, connect):
    client, other = await connect(), await connect()
    await client.stream.send_all(publish_frames("q", bytes(1 << 20))[: 1 << 19])
    while server.broker.incoming.held < 1 << 20:  # the buffer counts as a whole
        await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    await other.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    while len(server.broker.clients) > 1:
        await trio.testing.wait_all_tasks_blocked()
    assert server.broker.incoming.held == 0


async def test_each_part_of_a_large_message_counts_as_a_sign_of_life(server, connect):
    client = await connect()
    (connection,) = server.broker.clients
    whole, traffic = publish_frames("q", bytes(4 << 20)), connection.outbox.traffic
    seen = []
    for start in range(0, 3 << 20, 1 << 20):
        before = traffic.received
        await client.stream.send_all(whole[start : start + (1 << 20)])
        while traffic.received < before + (1 << 20):
            await trio.testing.wait_all_tasks_blocked()
        seen.append(connection.last_received)
        await trio.sleep(0.002)  # the broker's clock has milliseconds
    assert connection.incomplete
    assert seen == sorted(set(seen))


async def test_an_alarm_stops_reading_a_large_message(server, connect):
    client = await connect()
    whole = publish_frames("q", bytes(4 << 20))
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await client.stream.send_all(whole[: 1 << 19])
    server.broker.alarms.set("memory", raised=True)
    with trio.move_on_after(0.3) as scope:
        await client.stream.send_all(whole[1 << 19 :])
    assert scope.cancelled_caught, "the rest does not fit in the buffers of the sockets"
    assert isinstance(await client.next(), m.ConnectionBlocked)
