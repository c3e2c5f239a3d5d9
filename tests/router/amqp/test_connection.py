"""An open connection: what ends it and how, heartbeats, and what it leaves behind."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import encode_method, method_frame
from leveret.protocol.errors import ConnectionForced
from tests.protocol.amqp.frames import body, frame, header
from tests.router.amqp.client import Content, publish

pytestmark = pytest.mark.playbook

HEARTBEAT = frame(8, 0, b"")
EXPECTED_METHOD = "UNEXPECTED_FRAME - expected method frame, got non method frame instead"
EXPECTED_HEADER = (
    "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"
)
EXPECTED_BODY = "UNEXPECTED_FRAME - expected content body, got non content body frame instead"
PUBLISH = method_frame(1, m.BasicPublish("", "q"))

FAULTS = [
    (header(0, 1), 505, "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>", (0, 0)),
    (frame(8, 1, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", (0, 0)),
    (frame(8, 7, b""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", (0, 0)),
    (frame(8, 0, b"abc"), 501, 'FRAME_ERROR - type 8, all octets = <<"abc">>: unknown_frame', (0, 0)),
    (frame(9, 1, b"abcd"), 501, 'FRAME_ERROR - type 9, all octets = <<"abcd">>: unknown_frame', (0, 0)),
    (frame(1, 1, b"\0\x32"), 501, "FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame", (0, 0)),
    (frame(2, 1, b"\0\x3c"), 501, "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame", (0, 0)),
    (
        frame(3, 1, bytes(131073))[:7],
        501,
        "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}",
        (0, 0),
    ),
    (frame(1, 1, b"\0\x32\0\x0a\0\0\5ab"), 501, "FRAME_ERROR - cannot decode <<0,0,5,97,98>>", (50, 10)),
    (
        frame(1, 1, encode_method(m.BasicGet("q")) + b"\0"),
        501,
        "FRAME_ERROR - cannot decode <<0,0,1,113,0,0>>",
        (60, 70),
    ),
    (method_frame(1, m.QueueDeclare("\udcff")), 501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0)),
    (header(1, 5), 505, EXPECTED_METHOD, (0, 0)),
    (body(1, b"x"), 505, EXPECTED_METHOD, (0, 0)),
    (PUBLISH + header(1, 0) + frame(3, 1, b""), 505, EXPECTED_METHOD, (0, 0)),
    (PUBLISH + PUBLISH, 505, EXPECTED_HEADER, (60, 40)),
    (PUBLISH + body(1, b"x"), 505, EXPECTED_HEADER, (60, 40)),
    (PUBLISH + header(1, 1, weight=1), 505, EXPECTED_HEADER, (60, 40)),
    (
        PUBLISH + header(1, 1, class_id=50),
        505,
        "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
        (60, 40),
    ),
    (PUBLISH + header(1, 5) + PUBLISH, 505, EXPECTED_BODY, (60, 40)),
    (PUBLISH + header(1, 5) + header(1, 5), 505, EXPECTED_BODY, (60, 40)),
    (method_frame(1, m.BasicDeliver()) + PUBLISH, 505, EXPECTED_HEADER, (60, 60)),
]
# Where RabbitMQ crashes (541, or no frame at all), waits for ever, or wraps its text over lines.
CLEARER = [
    (PUBLISH + header(1, 5) + body(1, b"123456"), 505, EXPECTED_BODY, (60, 40)),
    (frame(1, 1, b"\0\x3c\0\xc8"), 540, "NOT_IMPLEMENTED - unknown method 200 of class 60", (0, 0)),
    (frame(1, 0, b"\0\x63\0\x63"), 540, "NOT_IMPLEMENTED - unknown method 99 of class 99", (0, 0)),
    (PUBLISH + header(1, 0, b"\x80\0"), 502, "SYNTAX_ERROR - truncated message properties", (60, 40)),
    (
        PUBLISH + header(1, 0, b"\0\0\0"),
        502,
        "SYNTAX_ERROR - message properties do not match their flags",
        (60, 40),
    ),
    (PUBLISH + header(1, 0, b"\x20\0\0\0\0\3\1aQ"), 502, "SYNTAX_ERROR - unknown field type b'Q'", (60, 40)),
    (
        frame(1, 1, b"\0\x32\0\x0a", end=0),
        501,
        "FRAME_ERROR - type 1, all octets = <<0,50,0,10>>: {invalid_frame_end_marker,0}",
        (0, 0),
    ),
]


def refused(client, stream, close):
    """Send what ends the connection, answer the close, and see that it is over."""
    client.send_raw(stream)
    client.expect(close, channel=0)
    client.send(m.ConnectionCloseOk(), channel=0)
    client.expect_end()


@pytest.mark.parametrize(("stream", "code", "text", "ids"), FAULTS)
def test_a_fault_ends_the_connection(connect, stream, code, text, ids):
    client = connect()
    client.send_raw(stream)
    client.expect(m.ConnectionClose(code, text, *ids), channel=0)


@pytest.mark.parametrize(("stream", "code", "text", "ids"), FAULTS[:7] + FAULTS[8:] + CLEARER)
def test_a_close_after_a_fault_is_answered(world, stream, code, text, ids):
    refused(world.connect(), stream, m.ConnectionClose(code, text, *ids))


@pytest.mark.parametrize(
    "method",
    [
        m.ConnectionOpen("/"),
        m.ConnectionStartOk(),
        m.ConnectionTuneOk(1, 4096, 0),
        m.ConnectionCloseOk(),
        m.ChannelOpen(),
        m.ChannelClose(),
        m.BasicAck(1),
        m.BasicPublish(),
    ],
    ids=str,
)
def test_what_does_not_belong_to_the_connection_ends_it(connect, method):
    client = connect()
    client.send(method, channel=0)
    text = "CHANNEL_ERROR - unexpected method in connection state running"
    client.expect(m.ConnectionClose(504, text, method.CLASS_ID, method.METHOD_ID), channel=0)


def test_the_secret_may_be_updated(connect):
    connect().call(m.ConnectionUpdateSecret(b"new", "because"), channel=0)


def test_close_is_answered_and_nothing_behind_it_done(connect):
    client = connect()
    client.do(m.QueueDeclare("q"))
    client.send_raw(
        method_frame(0, m.ConnectionClose(200, "bye"))
        + publish("q", b"late").frames(1)
        + method_frame(1, m.QueueDelete("q"))
        + method_frame(9, m.BasicAck(1))
    )
    client.expect(m.ConnectionCloseOk(), channel=0)
    client.expect_silence()
    assert connect().call(m.QueueDeclare("q", passive=True)).message_count == 0


def test_a_fault_behind_a_close_is_not_answered(world):
    client = world.connect()
    client.send_raw(method_frame(0, m.ConnectionClose(200, "bye")) + frame(9, 1, b"abcd"))
    client.expect(m.ConnectionCloseOk(), channel=0)
    client.expect_end()
    assert [event for level, event, _ in client.transport.log.lines if level == "warning"] == []


def test_commands_before_a_fault_are_done(connect):
    client = connect()
    client.send_raw(method_frame(1, m.QueueDeclare("q")) + publish("q", b"x").frames(1) + frame(9, 0, b""))
    client.expect(m.QueueDeclareOk("q", 0, 0))
    client.take(m.ConnectionClose, channel=0)
    assert connect().call(m.QueueDeclare("q", passive=True)).message_count == 1


def test_both_sides_may_close_at_once(connect):
    client = connect()
    client.send_raw(frame(9, 0, b"") + method_frame(0, m.ConnectionClose()))
    client.take(m.ConnectionClose, channel=0)
    client.send_raw(HEARTBEAT)
    client.expect(m.ConnectionCloseOk(), channel=0)


def test_while_closing_all_but_the_answer_is_ignored(world):
    client = world.connect()
    client.send_raw(frame(9, 0, b""))
    client.take(m.ConnectionClose, channel=0)
    client.send_raw(
        publish("q", bytes(50_000)).frames(1)
        + frame(9, 5, b"")
        + HEARTBEAT
        + method_frame(2, m.ChannelOpen())
    )
    client.send(m.BasicPublish(), m.BasicGet("q"))
    client.expect_silence()
    client.send(m.ConnectionCloseOk(), channel=0)
    client.expect_end()


def test_an_unanswered_close_ends_after_a_while(world):
    client = world.connect(heartbeat=1)
    client.send_raw(frame(9, 0, b""))
    client.take(m.ConnectionClose, channel=0)
    world.advance(world.settings.server.shutdown_timeout - 1)
    assert not client.transport.hung_up()
    world.advance(1)
    client.expect_end()


def test_the_broker_may_close(world):
    client = world.connect()
    client.transport.connection.end(ConnectionForced("because"))
    client.expect(m.ConnectionClose(320, "CONNECTION_FORCED - because"), channel=0)
    client.transport.connection.end(ConnectionForced("once more"))
    client.expect_silence()


# -- what is left behind -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["closed", "lost", "fault"])
def test_the_end_gives_back_what_was_held_and_deletes_exclusive_queues(world, how):
    client, other = world.connect(), world.connect()
    client.do(
        m.QueueDeclare("q"), m.QueueDeclare("q2", exclusive=True), publish("q", b"x"), m.BasicConsume("q")
    )
    client.take(Content)
    if how == "closed":
        client.call(m.ConnectionClose(), channel=0)
    elif how == "lost":
        client.transport.connection.lost()
    else:
        client.send_raw(frame(9, 0, b""))
    assert other.call(m.QueueDeclare("q", passive=True)) == m.QueueDeclareOk("q", 1, 0)
    other.send(m.QueueDeclare("q2", passive=True))
    other.expect(m.ChannelClose(404, "NOT_FOUND - no queue 'q2' in vhost '/'", 50, 10))


# -- heartbeats ----------------------------------------------------------------------------------------------


def heartbeats(client):
    """How many heartbeats were sent since the last look."""
    return client.transport.receive().count(HEARTBEAT)


def test_heartbeats_are_sent_twice_an_interval_where_nothing_else_is(world):
    client = world.connect(heartbeat=10)
    for _ in range(4):
        client.send_raw(HEARTBEAT)
        world.advance(5000)
        assert heartbeats(client) == 1
    client.send_raw(HEARTBEAT)
    for _ in range(5):
        world.advance(2500)
        client.call(m.BasicQos())
    assert heartbeats(client) == 0


def test_a_silent_client_is_dropped_without_a_frame(world):
    client = world.connect(heartbeat=10)
    world.advance(19_999)
    assert not client.transport.hung_up()
    world.advance(5_001)
    assert heartbeats(client) in (3, 4)
    assert client.transport.hung_up()


@pytest.mark.parametrize(
    "sign", [HEARTBEAT, method_frame(1, m.BasicQos())[:1]], ids=["heartbeat", "any byte"]
)
def test_a_client_that_says_anything_is_kept(world, sign):
    client = world.connect(heartbeat=10)
    if len(sign) == 1:
        whole = publish("q", bytes(100)).frames(1)
        signs = [whole[at : at + 1] for at in range(20)]
    else:
        signs = [sign] * 20
    for each in signs:
        world.advance(19_000)
        client.send_raw(each)
    assert not client.transport.hung_up()


def test_without_heartbeats_nothing_is_sent_and_no_client_dropped(world):
    client = world.connect(heartbeat=0)
    world.advance(10_000_000)
    assert heartbeats(client) == 0
    assert not client.transport.hung_up()


# -- permissions ---------------------------------------------------------------------------------------------

NO = "ACCESS_REFUSED - access to {} in vhost '/' refused for user 'noperm'"
DEAD = m.QueueDeclare("mine", arguments={"x-dead-letter-exchange": "dlx"})
ALTERNATE = m.ExchangeDeclare("mine", arguments={"alternate-exchange": "ae"})


@pytest.mark.parametrize(
    ("rights", "command", "what"),
    [
        ({}, m.QueueDeclare("zz"), "queue 'zz'"),
        ({}, m.QueueDelete("zz"), "queue 'zz'"),
        ({}, m.QueuePurge("zz"), "queue 'zz'"),
        ({}, m.BasicGet("zz"), "queue 'zz'"),
        ({}, m.BasicConsume("zz"), "queue 'zz'"),
        ({}, m.ExchangeDeclare("zx"), "exchange 'zx'"),
        ({}, m.ExchangeDelete("zx"), "exchange 'zx'"),
        ({}, publish("q"), "exchange 'amq.default'"),
        ({}, publish(exchange="zx"), "exchange 'zx'"),
        ({}, m.QueueBind("zz", "zx"), "queue 'zz'"),
        ({"write": "zz"}, m.QueueBind("zz", "zx"), "exchange 'zx'"),
        ({}, m.QueueUnbind("zz", "zx"), "queue 'zz'"),
        ({}, m.ExchangeBind("zd", "zs"), "exchange 'zd'"),
        ({"write": "zd"}, m.ExchangeBind("zd", "zs"), "exchange 'zs'"),
        ({}, DEAD, "queue 'mine'"),
        ({"configure": "mine"}, DEAD, "queue 'mine'"),
        ({"configure": "mine", "read": "mine"}, DEAD, "exchange 'dlx'"),
        ({"configure": "mine"}, ALTERNATE, "exchange 'mine'"),
        ({"configure": "mine", "read": "mine"}, ALTERNATE, "exchange 'ae'"),
    ],
)
def test_rights_are_asked_for_before_existence(world, rights, command, what):
    world.user("noperm", **rights)
    client = world.connect(login={"user": "noperm"})
    client.send(command)
    method = command.method if isinstance(command, Content) else command
    client.expect(m.ChannelClose(403, NO.format(what), method.CLASS_ID, method.METHOD_ID))


def test_a_made_up_name_needs_the_right_to_it(world):
    world.user("noperm", configure="^mine$")
    client = world.connect(login={"user": "noperm"})
    client.send(m.QueueDeclare(""))
    assert client.take(m.ChannelClose).reply_text.startswith("ACCESS_REFUSED - access to queue 'amq.gen-")


def test_passive_declares_need_no_rights(world):
    world.connect().do(m.QueueDeclare("q"))
    world.user("noperm")
    world.connect(login={"user": "noperm"}).do(
        m.QueueDeclare("q", passive=True), m.ExchangeDeclare("amq.direct", passive=True)
    )


def test_the_default_exchange_is_written_to_as_amq_default(world):
    world.user("noperm", write=r"^amq\.default$")
    client = world.connect(login={"user": "noperm"})
    client.send(publish("q", mandatory=True))
    client.take_content(m.BasicReturn)


def test_a_message_over_the_limit_closes_the_channel(world):
    world = type(world)(max_message_size=10)
    client = world.connect()
    client.do(m.QueueDeclare("q"), publish("q", bytes(10)))
    client.send(publish("q", bytes(11)))
    text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10"
    client.expect(m.ChannelClose(406, text, 60, 40))


@pytest.mark.parametrize("operation", ["publish", "bind", "unbind"])
def test_topic_permissions(world, operation):
    user = world.user("noperm", write=".*", read=".*")
    user.permit_topic("/", "amq.topic", write="^a", read="^a")
    client = world.connect(login={"user": "noperm"})
    command = {
        "publish": publish("x.y", exchange="amq.topic"),
        "bind": m.QueueBind("q", "amq.topic", "x.y"),
        "unbind": m.QueueUnbind("q", "amq.topic", "x.y"),
    }[operation]
    client.send(command)
    what = "topic 'x.y' in exchange 'amq.topic'"
    assert client.take(m.ChannelClose).reply_text == NO.format(what)


def test_gets_wait_while_the_client_does_not_read_what_it_got(world):
    client = world.connect()
    client.send(m.QueueDeclare("q"), *(publish("q", body) for body in (b"0", b"1", b"2")))
    client.expect(m.QueueDeclareOk("q"))
    transport, queue = client.transport, world.vhost.queues["q"]
    transport.outbox.full = True
    client.send(*[m.BasicGet("q", no_ack=True)] * 3, m.BasicQos())
    assert len(queue.ready) == 2
    transport.outbox.full = False
    transport.connection.drained()
    assert len(queue.ready) == 0
    for tag, text in enumerate((b"0", b"1", b"2"), start=1):
        client.expect(Content(m.BasicGetOk(tag, False, "", "q", 3 - tag), text))
    client.expect(m.BasicQosOk())


def test_a_finished_connection_keeps_no_part_of_a_message(world):
    client = world.connect()
    client.send_raw(method_frame(1, m.BasicPublish("", "q")) + header(1, 1000) + body(1, b"x" * 999))
    connection = client.transport.connection
    connection.lost()
    assert connection.finished
    assert not connection.wire.reader._partial
