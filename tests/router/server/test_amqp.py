import gc

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Delivery
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.amqp import commands
from leveret.router.amqp.connection import AmqpConnection
from leveret.router.queue.delivery import DRAIN_BYTES
from leveret.router.queue.queue import Queue
from leveret.router.server import client_tasks as serving
from leveret.router.server.broker_lifecycle import close_clients
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.session.deliveries import Deliveries
from leveret.router.session.session import Session
from leveret.router.settings import Server as ServerSettings
from tests.router.server.client import Client, publish_frames, start_ok

HIGH = ServerSettings().outbox_high
lockstep = trio.testing.lockstep_stream_pair


def living(*kinds: type) -> int:
    """How many objects of these kinds there are, in cycles or not."""
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@pytest.fixture
def young_only():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def events(logged, level: str | None = None) -> list[str]:
    return [each["event"] for each in logged if level in (None, each["log_level"])]


async def declare(client: Client, queue: str, *, exclusive: bool = False) -> None:
    await client.call(m.QueueDeclare(queue, exclusive=exclusive), m.QueueDeclareOk)


# -- the end, from either side -------------------------------------------------------------------------------


async def test_connection_is_over_once_the_client_closed_it(autojump_clock, server, logged):
    client, over = server.connect()
    await client.login()
    await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
    assert await client.ended()
    await client.stream.aclose()
    await over.wait()
    assert not server.broker.clients
    assert [
        (each["event"], each["peer"], each["user"], each["vhost"], each["client"]) for each in logged
    ] == [
        (event, "test:1", "guest", "/", "tests")
        for event in ("connection opened", "connection closed by client")
    ]


@pytest.mark.parametrize(("closes", "batches"), [(True, 0), (False, 1)])
async def test_closed_connection_ends_without_a_batch(autojump_clock, server, monkeypatch, closes, batches):
    names, begin = [], server.driver.begin
    monkeypatch.setattr(server.driver, "begin", lambda what="": names.append(what) or begin(what))
    client, over = server.connect()
    await client.login()
    if closes:
        await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
    await client.stream.aclose()
    await over.wait()
    assert not server.broker.clients
    assert names.count("the end of test:1") == batches


async def test_everything_written_before_the_close_is_sent(autojump_clock, server):
    client, _ = server.connect()
    await client.login()
    await client.call(m.ConfirmSelect(), m.ConfirmSelectOk)
    await declare(client, "q")
    body = bytes(3 * HIGH)
    await client.publish("q", body)
    await client.expect(m.BasicAck)
    get, close = method_frame(1, m.BasicGet("q")), method_frame(0, m.ConnectionClose())
    await client.stream.send_all(get + publish_frames("q") + close)
    got = [await client.next() for _ in range(3)]
    assert [type(each) for each in got] == [Delivery, m.BasicAck, m.ConnectionCloseOk]
    assert got[0].message.body == body
    assert await client.ended()


async def test_commands_behind_connection_close_are_not_answered(autojump_clock, server):
    client, _ = server.connect()
    await client.login()
    close, declare_q = method_frame(0, m.ConnectionClose()), method_frame(1, m.QueueDeclare("q"))
    await client.stream.send_all(close + declare_q + close)
    await client.expect(m.ConnectionCloseOk)
    assert await client.ended()
    assert not server.broker.vhosts["/"].queues


async def test_commands_behind_a_refused_login_are_not_answered(autojump_clock, server, logged):
    client, _ = server.connect()
    await client.stream.send_all(PROTOCOL_HEADER)
    await client.expect(m.ConnectionStart)
    await client.send(
        start_ok(password="wrong"), m.ConnectionTuneOk(1, 131072, 0), m.ConnectionOpen("/"), channel=0
    )
    assert (await client.expect(m.ConnectionClose)).reply_code == 403
    await client.send(m.ConnectionCloseOk(), channel=0)
    assert await client.ended()
    assert "error" not in [each["log_level"] for each in logged]


async def test_a_client_of_another_protocol_gets_the_expected_one(autojump_clock, server):
    client, over = server.connect()
    await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with trio.fail_after(1):
        assert await client.stream.receive_some() == PROTOCOL_HEADER
        assert await client.stream.receive_some() == b""
    await client.stream.aclose()
    await over.wait()


@pytest.mark.parametrize("sent", [0, 1, 7, 8, 9, 30])
async def test_client_gone_in_the_middle_of_a_frame(autojump_clock, server, logged, sent):
    client, over = server.connect()
    other, _ = server.connect()
    await client.login()
    await other.login()
    await declare(client, "mine", exclusive=True)
    await declare(client, "q")
    await client.publish("q", b"held")
    await client.call(m.BasicConsume("q", "c"), m.BasicConsumeOk)
    await client.delivered()
    await client.stream.send_all(publish_frames("q")[:sent])
    await client.stream.aclose()
    await over.wait()
    assert list(server.broker.vhosts["/"].queues) == ["q"]
    assert await other.count("q") == 1, "what the client held is back"
    assert events(logged, "warning") == ["connection lost"]


async def test_reset_while_writing_is_no_error(autojump_clock, server, logged):
    there, here = trio.testing.memory_stream_one_way_pair()
    broken, closed = trio.testing.memory_stream_one_way_pair()
    await closed.aclose()
    over = server.serve(trio.StapledStream(broken, here))
    await there.send_all(PROTOCOL_HEADER)
    await over.wait()
    assert events(logged, "error") == []
    assert not server.broker.clients


async def test_client_that_does_not_read_cannot_keep_a_finished_connection(autojump_clock, server):
    client, over = server.connect(lockstep)
    await client.login()
    await client.send(m.QueueDeclare("q"))
    await client.send(m.ConnectionClose(), channel=0)
    with trio.fail_after(serving.LINGER + 1):
        await over.wait()


async def test_client_that_hangs_on_cannot_keep_a_finished_connection(autojump_clock, server):
    client, over = server.connect()
    await client.login()
    await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
    with trio.fail_after(serving.LINGER + 1):
        await over.wait()


async def test_held_messages_come_back_at_once_when_a_client_hangs_up(autojump_clock, server):
    client, _ = server.connect()
    other, _ = server.connect()
    await other.login()
    await client.login()
    await declare(client, "q")
    await client.publish("q")
    await client.call(m.BasicConsume("q", "c"), m.BasicConsumeOk)
    await client.delivered()
    before = trio.current_time()
    await client.stream.send_eof()
    await trio.testing.wait_all_tasks_blocked()
    assert await other.count("q") == 1
    assert trio.current_time() - before < 1


# -- deadlines -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", PROTOCOL_HEADER[:3], PROTOCOL_HEADER])
async def test_unfinished_handshake_ends_after_its_time(autojump_clock, server, logged, sent):
    client, over = server.connect()
    start = trio.current_time()
    await client.stream.send_all(sent)
    if sent == PROTOCOL_HEADER:
        await client.expect(m.ConnectionStart)
    assert await client.ended()
    timeout = server.broker.settings.amqp.handshake_timeout / 1000
    assert trio.current_time() - start == pytest.approx(timeout, abs=0.1)
    assert not server.broker.clients
    await over.wait()
    assert events(logged) == ["connection closed"]


async def test_dripping_handshake_ends_after_its_time(autojump_clock, server):
    client, _ = server.connect()
    start = trio.current_time()

    async def drip() -> None:
        for octet in method_frame(0, start_ok()) * 100:
            await client.stream.send_all(bytes([octet]))
            await trio.sleep(1)

    with pytest.raises(trio.BrokenResourceError):
        await drip()
    assert trio.current_time() - start < 20


async def test_silent_client_ends_after_two_heartbeats(autojump_clock, server, logged):
    client, _ = server.connect()
    await client.login(heartbeat=10)
    start = trio.current_time()
    assert await client.ended()
    assert trio.current_time() - start == pytest.approx(20, abs=5.1)
    assert events(logged, "warning") == ["connection closed"]


async def test_client_that_sends_heartbeats_stays(autojump_clock, server, nursery):
    client, _ = server.connect()
    await client.login(heartbeat=10)
    with trio.move_on_after(300):
        await client.beat(10)
    assert await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)


async def test_client_that_is_not_read_from_is_not_silent(autojump_clock, server, logged):
    client, over = server.connect(lockstep)
    await client.login(heartbeat=10)
    (connection,) = server.broker.clients
    connection.outbox.write(bytes(2 * HIGH))
    with trio.move_on_after(50):
        await client.beat(5)  # the first is taken, the others are not
    assert not over.is_set()
    assert connection in server.broker.clients


async def test_client_that_takes_nothing_for_too_long_is_let_go(autojump_clock, server, logged):
    client, over = server.connect(lockstep)
    await client.login()
    (connection,) = server.broker.clients
    connection.outbox.write(bytes(2 * HIGH))
    start = trio.current_time()
    await over.wait()
    patience = server.broker.settings.server.send_timeout / 1000
    assert trio.current_time() - start == pytest.approx(patience, abs=0.1)
    assert connection not in server.broker.clients
    assert "the client does not read its data" in [line.get("error") for line in logged]


async def test_close_that_is_not_answered_ends_after_its_time(autojump_clock, server, logged):
    client, over = server.connect()
    await client.login()
    start = trio.current_time()
    await client.send(m.ChannelOpen())
    assert (await client.expect(m.ConnectionClose)).reply_code == 504
    assert await client.ended()
    timeout = server.broker.settings.server.shutdown_timeout / 1000
    assert trio.current_time() - start == pytest.approx(timeout, abs=0.1)
    assert events(logged, "warning") == ["connection closed"]
    await over.wait()


# -- the broker's own failures -------------------------------------------------------------------------------


async def test_failure_of_the_broker_ends_that_connection_only(autojump_clock, server, logged, monkeypatch):
    def fail(channel, method):
        raise RuntimeError("a bug")

    monkeypatch.setitem(commands.HANDLERS, m.BasicQos, fail)
    client, over = server.connect()
    other, _ = server.connect()
    await client.login()
    await other.login()
    await declare(client, "mine", exclusive=True)
    close = await client.call(m.BasicQos(), m.ConnectionClose)
    assert (close.reply_code, close.reply_text[:17]) == (541, "INTERNAL_ERROR - ")
    await client.send(m.ConnectionCloseOk(), channel=0)
    assert await client.ended()
    await client.stream.aclose()
    await over.wait()
    await declare(other, "q")
    assert list(server.broker.vhosts["/"].queues) == ["q"]
    (error,) = [each for each in logged if each["log_level"] == "error"]
    assert (error["event"], str(error["exc_info"])) == ("connection failed", "a bug")
    assert error["peer"] == "test:1"


async def test_failure_in_the_midst_of_ending_a_connection_reaches_no_other(
    autojump_clock, server, logged, monkeypatch
):
    client, over = server.connect()
    await client.login()
    (connection,) = server.broker.clients
    other, _ = server.connect()
    await other.login()

    def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(connection.channels.open[1].session, "close", fail)
    await client.stream.aclose()
    await over.wait()
    await declare(other, "q")
    assert events(logged, "error") == ["connection failed"]


async def test_failure_when_there_is_room_again_is_that_connections_own(
    autojump_clock, server, logged, monkeypatch
):
    client, _ = server.connect()
    await client.login()
    (connection,) = server.broker.clients
    other, _ = server.connect()
    await other.login()

    broken, wake = connection.channels.open[1].session.deliveries, Deliveries.wake

    def fail(deliveries: Deliveries) -> None:
        if deliveries is broken:
            raise RuntimeError("a bug")
        wake(deliveries)

    monkeypatch.setattr(Deliveries, "wake", fail)
    connection.outbox.write(method_frame(1, m.BasicAck()) * (HIGH // 20))
    while isinstance(command := await client.next(), m.BasicAck):
        pass
    assert isinstance(command, m.ConnectionClose)
    assert command.reply_code == 541
    await declare(other, "q")


# -- clients that do not read --------------------------------------------------------------------------------


async def test_reading_pauses_while_answers_are_not_read_and_goes_on_after(autojump_clock, server):
    client, _ = server.connect(lockstep)
    await client.login()
    (connection,) = server.broker.clients
    await client.stream.send_all(publish_frames("q"))
    requests = method_frame(1, m.QueueDeclare("q" * 200)) * 400
    sent = 0
    with trio.move_on_after(10):
        while True:
            await client.stream.send_all(requests)
            sent += 400
    answer = len(method_frame(1, m.QueueDeclareOk("q" * 200)))
    assert HIGH < connection.outbox.size < HIGH + 400 * answer * 2
    for _ in range(sent):
        await client.expect(m.QueueDeclareOk)
    await trio.testing.wait_all_tasks_blocked()  # it goes on reading in a turn of its own
    await client.call(m.QueueDeclare("p"), m.QueueDeclareOk)


async def test_consumer_that_does_not_read_costs_no_more_than_its_mark(autojump_clock, server):
    """Neither memory, nor the time of others; once it reads it gets everything, in order."""
    slow, _ = server.connect(lockstep)
    await slow.login()
    (connection,) = server.broker.clients
    quick, _ = server.connect()
    await quick.login()
    await declare(quick, "q")
    await declare(quick, "other")
    await quick.call(m.BasicConsume("other", no_ack=True), m.BasicConsumeOk)
    await slow.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    count, body = 400, bytes(30_000)
    for number in range(count):
        await quick.publish("q", number.to_bytes(4, "big") + body)
        await quick.publish("other", b"quick")
        assert await quick.delivered() == b"quick"
    assert connection.outbox.size < HIGH + DRAIN_BYTES + len(body)
    assert await quick.count("q") > count / 2
    for number in range(count):
        assert (await slow.delivered())[:4] == number.to_bytes(4, "big")


async def test_consumers_of_many_channels_share_one_mark(autojump_clock, server):
    slow, _ = server.connect(lockstep)
    channels = range(1, 101)
    await slow.login(channels=channels)
    (connection,) = server.broker.clients
    quick, _ = server.connect()
    await quick.login()
    for number in channels:
        await declare(quick, f"q{number}")
        await slow.call(m.BasicConsume(f"q{number}", no_ack=True), m.BasicConsumeOk, channel=number)
    for number in channels:
        for _ in range(10):
            await quick.publish(f"q{number}", bytes(10_000))
    await quick.count("q1")
    assert connection.outbox.size < HIGH + 20_000


# -- refusals before anything was spoken ---------------------------------------------------------------------


async def test_stopping_closes_open_connections_and_drops_handshakes(autojump_clock, server):
    inside, _ = server.connect()
    half, _ = server.connect()
    await inside.login()
    await half.stream.send_all(PROTOCOL_HEADER)
    await half.expect(m.ConnectionStart)
    close_clients(server.driver)
    assert await half.ended()
    close = await inside.expect(m.ConnectionClose)
    assert (close.reply_code, close.reply_text) == (
        320,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
    )


async def test_nothing_is_left_of_connections_once_their_deadlines_are_past(
    autojump_clock, server, young_only
):
    """Not even cycles, for the broker never looks for old ones."""
    before = living(AmqpConnection, Session, Queue, BufferedOutbox)
    for index in range(20):
        client, over = server.connect()
        await client.login(heartbeat=60)
        await declare(client, "mine", exclusive=True)
        await client.call(m.BasicConsume("mine", "c"), m.BasicConsumeOk)
        await client.publish("mine")
        await client.delivered()
        if index % 2:
            await client.close()
        await client.stream.aclose()
        await over.wait()
    await trio.sleep(3600)
    assert server.broker.timers.next_deadline() is None
    del client, over
    assert living(AmqpConnection, Session, Queue, BufferedOutbox) == before
