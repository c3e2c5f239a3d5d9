"""The client against a broker in the same Trio loop, and against one that is written out step by step."""

from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.router.client import connection as module
from leveret.router.client.address import Address
from leveret.router.client.channel import PublishOutcome
from leveret.router.client.connection import on_stream
from leveret.router.client.errors import CannotConnect, ChannelEnded, ConnectionEnded, ConsumerEnded
from leveret.router.settings import Settings
from tests.router.server.client import Client
from tests.router.server.server import Server

PLAIN = encode_properties(Properties())


@pytest.fixture
async def server(nursery):
    return Server(Settings(), nursery)


@asynccontextmanager
async def connected(server, **address):
    mine, its = trio.testing.memory_stream_pair()
    over = server.serve(its)
    async with on_stream(mine, Address(**address), name="test") as connection:
        yield connection
    await over.wait()


@asynccontextmanager
async def channel_of(server):
    async with connected(server) as connection:
        yield await connection.channel()


async def declare(channel, name="", **properties):
    return (await channel.call(m.QueueDeclare(name, **properties), m.QueueDeclareOk)).queue


# -- against leveret -----------------------------------------------------------------------------------------


async def test_what_is_published_is_delivered_in_order(server):
    async with channel_of(server) as channel:
        queue = await declare(channel, exclusive=True)
        await channel.consume(queue, prefetch=10)
        for number in range(50):
            channel.publish("", queue, encode_properties(Properties(message_id=str(number))), b"x" * number)
        for number in range(50):
            found = await channel.delivery()
            assert (found.message.body, found.message.properties.message_id) == (b"x" * number, str(number))
            channel.ack(found.method.delivery_tag)


async def test_a_body_larger_than_a_frame_comes_back_whole(server):
    body = bytes(range(256)) * 2048
    async with channel_of(server) as channel:
        queue = await declare(channel, exclusive=True)
        channel.publish("", queue, PLAIN, body)
        assert (await channel.get(queue, no_ack=True)).message.body == body
        assert await channel.get(queue) is None


async def test_a_publish_is_confirmed_returned_or_refused(server):
    async with channel_of(server) as channel:
        await channel.select_confirms()
        queue = await declare(
            channel, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        assert await channel.publish_alone("", queue, PLAIN, b"1") is PublishOutcome.CONFIRMED
        assert await channel.publish_alone("", "nowhere", PLAIN, b"2") is PublishOutcome.RETURNED
        assert await channel.publish_alone("", queue, PLAIN, b"3") is PublishOutcome.REFUSED
        assert (channel.unconfirmed, channel.refused) == (0, 1)


async def test_a_refusal_ends_the_channel_and_nothing_else(server):
    async with connected(server) as connection:
        refused, other = await connection.channel(), await connection.channel()
        for _ in range(2):
            with pytest.raises(ChannelEnded, match="NOT_FOUND - no queue 'none' in vhost '/'") as caught:
                await declare(refused, "none", passive=True)
            assert caught.value.code == 404
        assert await declare(other, exclusive=True)


async def test_a_deleted_queue_ends_its_consumer(server):
    async with connected(server) as connection:
        channel, other = await connection.channel(), await connection.channel()
        queue = await declare(channel)
        await channel.consume(queue)
        channel.publish("", queue, PLAIN, b"last")
        await trio.testing.wait_all_tasks_blocked()
        await other.call(m.QueueDelete(queue), m.QueueDeleteOk)
        assert (await channel.delivery()).message.body == b"last"
        with pytest.raises(ConsumerEnded):
            await channel.delivery()


async def test_a_reply_to_a_cancelled_call_is_dropped(server):
    async with channel_of(server) as channel:
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.call(m.QueueDeclare("first"), m.QueueDeclareOk)
        assert await declare(channel, "second") == "second"


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ({"password": "wrong"}, 403, "ACCESS_REFUSED - Login was refused"),
        ({"vhost": "none"}, 530, "NOT_ALLOWED - vhost none not found"),
    ],
)
async def test_a_refused_login_raises_the_reason(server, address, code, said):
    with pytest.raises(ConnectionEnded, match=said) as caught:
        async with connected(server, **address):
            pass
    assert caught.value.code == code


async def test_an_error_in_the_block_comes_out_as_it_is_and_the_connection_closes(server, logged_out):
    with pytest.raises(KeyError):
        async with connected(server):
            raise KeyError
    await server.serves_only(0)


@pytest.fixture
def logged_out(server):
    yield
    assert not server.broker.clients


# -- against a broker of a few steps -------------------------------------------------------------------------


class Scripted:
    """The broker's end of a connection, played by the test."""

    def __init__(self):
        self.mine, its = trio.testing.memory_stream_pair()
        self.peer = Client(its)

    async def welcome(self, heartbeat=0):
        peer = self.peer
        assert await peer.stream.receive_some(8) == b"AMQP\x00\x00\x09\x01"
        self.start = await peer.call(m.ConnectionStart(), m.ConnectionStartOk, channel=0)
        self.tuned = await peer.call(m.ConnectionTune(0, 0, heartbeat), m.ConnectionTuneOk, channel=0)
        await peer.expect(m.ConnectionOpen)
        await peer.send(m.ConnectionOpenOk(), channel=0)

    async def open_channel(self):
        await self.peer.expect(m.ChannelOpen)
        await self.peer.send(m.ChannelOpenOk())


@asynccontextmanager
async def scripted(nursery, *, heartbeat=0, notice=lambda text: None):
    broker = Scripted()
    nursery.start_soon(broker.welcome, heartbeat)
    async with on_stream(broker.mine, Address(), name="test", notice=notice) as connection:
        yield broker, connection
        nursery.start_soon(goodbye, broker)


async def goodbye(broker):
    await broker.peer.expect(m.ConnectionClose)
    await broker.peer.send(m.ConnectionCloseOk(), channel=0)


async def test_what_the_client_says_of_itself(nursery):
    async with scripted(nursery) as (broker, _):
        said = broker.start
        assert (said.mechanism, said.response) == ("PLAIN", b"\0guest\0guest")
        assert said.client_properties["connection_name"] == "test"
        assert said.client_properties["capabilities"]["consumer_cancel_notify"] is True
        assert broker.tuned == m.ConnectionTuneOk(65535, 131072, 60)


async def test_a_lost_connection_wakes_all_waiting_tasks(nursery):
    async def run():
        async with scripted(nursery) as (broker, connection):
            nursery.start_soon(broker.open_channel)
            channel = await connection.channel()
            await broker.peer.stream.aclose()
            await channel.delivery()

    with pytest.raises(ConnectionEnded, match="the connection was lost"):
        await run()


async def test_the_broker_says_why_it_closes_and_is_answered(nursery, autojump_clock):
    async def run():
        async with scripted(nursery) as (broker, connection):
            nursery.start_soon(broker.open_channel)
            channel = await connection.channel()
            await broker.peer.send(m.ConnectionClose(320, "CONNECTION_FORCED - bye"), channel=0)
            nursery.start_soon(broker.peer.expect, m.ConnectionCloseOk)
            await channel.delivery()

    with pytest.raises(ConnectionEnded, match="CONNECTION_FORCED - bye"):
        await run()


async def test_multiple_confirms_and_refusals_count_each_message(nursery):
    async with scripted(nursery) as (broker, connection):
        nursery.start_soon(broker.open_channel)
        channel = await connection.channel()

        async def answer():
            await broker.peer.expect(m.ConfirmSelect)
            await broker.peer.send(m.ConfirmSelectOk())

        nursery.start_soon(answer)
        await channel.select_confirms()
        for _ in range(6):
            channel.publish("", "q", PLAIN, b"")
        await broker.peer.send(m.BasicNack(5), m.BasicAck(2, multiple=True), m.BasicNack(4, multiple=True))
        await channel.until(lambda: channel.unconfirmed == 1)
        assert channel.refused == 3
        await broker.peer.send(m.BasicAck(6))
        await channel.until(lambda: not channel.unconfirmed)
        broker.peer.waiting.clear()
        for _ in range(6):
            await broker.peer.next()


async def test_alarms_are_reported(nursery):
    told = []
    async with scripted(nursery, notice=told.append) as (broker, connection):
        await broker.peer.send(m.ConnectionBlocked("low on memory"), channel=0)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.blocked == "low on memory"
        await broker.peer.send(m.ConnectionUnblocked(), channel=0)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.blocked is None
    assert told == [
        "the broker accepts no messages at the moment: low on memory",
        "the broker accepts messages again",
    ]


async def test_heartbeats_are_sent_when_nothing_else_is(nursery, autojump_clock):
    async with scripted(nursery, heartbeat=4) as (broker, _):
        assert broker.tuned.heartbeat == 4
        begin = trio.current_time()
        assert await broker.peer.stream.receive_some(100) == HEARTBEAT
        assert trio.current_time() - begin == 2


async def test_a_broker_that_misses_its_heartbeats_is_given_up(nursery, autojump_clock):
    async def run():
        async with scripted(nursery, heartbeat=4) as (broker, connection):
            nursery.start_soon(broker.open_channel)
            channel = await connection.channel()
            await channel.delivery()

    with pytest.raises(ConnectionEnded, match="no heartbeat for 8 s"):
        await run()
    assert trio.current_time() == 10


async def test_reading_stops_while_deliveries_wait(nursery, monkeypatch):
    monkeypatch.setattr(module, "TAKEN_LATE_COUNT", 3)
    monkeypatch.setattr(module, "READ", 64)
    async with scripted(nursery) as (broker, connection):
        nursery.start_soon(broker.open_channel)
        channel = await connection.channel()
        for number in range(20):
            frames = deliver(number)
            await broker.peer.stream.send_all(frames)
        await trio.testing.wait_all_tasks_blocked()
        taken = 0
        while channel.delivery_nowait() is not None:
            taken += 1
        assert taken < 8
        for _ in range(20 - taken):
            await channel.delivery()


def deliver(number):
    return method_frame(1, m.BasicDeliver("c", number + 1)) + pack_frames(1, PLAIN, b"%d" % number)


async def test_a_server_of_another_protocol_is_refused(nursery):
    mine, its = trio.testing.memory_stream_pair()
    await its.send_all(b"hello, who is there?")
    with pytest.raises(CannotConnect, match="does not answer as AMQP 0-9-1 does"):
        async with on_stream(mine, Address(), name="test"):
            pass


@pytest.mark.parametrize(
    ("answer", "spoken", "advice"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP", "5672"),
        (b"ERROR\nmessage:Wrong protocol\n\n\0", "STOMP", "5672"),
        (b"AMQP\x00\x01\x00\x00", "another version of AMQP", "5672"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "TLS", "amqps://"),
    ],
)
@pytest.mark.parametrize("size", [8, 100])
async def test_another_protocol_is_named(answer, spoken, advice, size):
    mine, its = trio.testing.memory_stream_pair()
    for start in range(0, len(answer), size):
        await its.send_all(answer[start : start + size])
    with pytest.raises(CannotConnect, match=f"the port speaks {spoken}, not AMQP 0-9-1") as caught:
        async with on_stream(mine, Address(), name="test"):
            pass
    assert advice in caught.value.advice


async def test_silence_is_given_up_on(autojump_clock):
    mine, _its = trio.testing.memory_stream_pair()
    with pytest.raises(CannotConnect, match="no answer within 30 s"):
        async with on_stream(mine, Address(), name="test"):
            pass
