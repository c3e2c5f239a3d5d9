"""From the protocol header to an open virtual host, and everything that ends it before."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.table import encode_table
from tests.protocol.amqp.frames import frame, header
from tests.router.amqp.client import CAPABILITIES, publish

pytestmark = pytest.mark.playbook

CAPABLE = {"capabilities": CAPABILITIES}
REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism {}. "
    "For details see the broker logfile."
)
GUEST = b"\0guest\0guest"


def amqplain(**entries):
    return encode_table(entries)[4:]


# -- protocol header -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"AMQP\0\0\x08\0",
        b"AMQP\0\0\x09\0",
        b"AMQP\x01\x01\x09\x09",
        b"AMQP\0\x01\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
def test_another_protocol_is_answered_with_the_right_header(dial, header):
    client = dial()
    client.send_raw(header)
    assert client.transport.receive() == PROTOCOL_HEADER
    assert client.transport.receive() == b""
    assert client.transport.hung_up()


def test_the_header_of_0_9_is_taken_too(dial):
    client = dial()
    client.send_raw(b"AMQP\x01\x01\0\x09")
    assert (client.take(m.ConnectionStart, channel=0).version_major) == 0


def test_a_header_may_come_in_pieces(dial):
    client = dial()
    client.send_raw(PROTOCOL_HEADER[:3])
    client.send_raw(PROTOCOL_HEADER[3:])
    client.take(m.ConnectionStart, channel=0)


# -- what the server offers ----------------------------------------------------------------------------------


def test_start_offers_what_rabbitmq_does(dial):
    start = dial().start()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert (start.mechanisms, start.locales) == (b"PLAIN AMQPLAIN", b"en_US")
    properties = start.server_properties
    assert properties["capabilities"] == {
        "publisher_confirms": True,
        "exchange_exchange_bindings": True,
        "basic.nack": True,
        "consumer_cancel_notify": True,
        "connection.blocked": True,
        "consumer_priorities": True,
        "authentication_failure_close": True,
        "per_consumer_qos": True,
        "direct_reply_to": True,
    }
    names = ("cluster_name", "information", "platform", "product", "version")
    assert all(isinstance(properties[name], str) for name in names)
    assert list(properties) == sorted(properties)


@pytest.mark.parametrize("value", [5, None, {"a": 1}, "x" * 256])
def test_cluster_name_that_is_no_short_text_leaves_the_name_of_the_node(world, value):
    world.broker.global_parameters["cluster_name"] = value
    assert world.client().start().server_properties["cluster_name"] == world.broker.node_name


def test_a_changed_cluster_name_is_sent_to_the_next_connection(world):
    assert world.client().start().server_properties["cluster_name"] == world.broker.node_name
    world.broker.global_parameters["cluster_name"] = "hutch"
    assert world.client().start().server_properties["cluster_name"] == "hutch"


def test_connections_share_what_they_are_offered(world):
    first, second = (world.client().transport.connection.wire.offer for _ in range(2))
    assert first is second


def test_product_and_version_are_settings(world):
    properties = world.client().start().server_properties
    assert (properties["product"], properties["version"]) == ("RabbitMQ", "3.13.7")
    assert (properties["implementation"], properties["implementation_version"]) == ("leveret", "0.0.1")


def test_tune_offers_rabbitmqs_defaults(dial):
    client = dial()
    client.login()
    assert client.tune() == m.ConnectionTune(2047, 131072, 60)


# -- login ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [("PLAIN", GUEST), ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="guest"))],
    ids=["PLAIN", "AMQPLAIN"],
)
@pytest.mark.parametrize("locale", ["en_US", "xx", ""])
def test_login(dial, mechanism, response, locale):
    client = dial()
    client.start()
    client.send(m.ConnectionStartOk({}, mechanism, response, locale), channel=0)
    client.tune()
    client.call(m.ConnectionOpen("/"), channel=0)


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0guest\0wrong"),
        ("PLAIN", b"\0guest\0"),
        ("PLAIN", b"\0nobody\0guest"),
        ("PLAIN", b"\0\xff\0\xff"),
        ("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="wrong")),
    ],
    ids=repr,
)
def test_a_wrong_login_is_reported_to_clients_with_the_capability(dial, mechanism, response):
    client = dial()
    client.start()
    client.send(m.ConnectionStartOk(CAPABLE, mechanism, response), channel=0)
    client.expect(m.ConnectionClose(403, REFUSED.format(mechanism)), channel=0)


def test_a_refused_login_ends_with_the_answer(world):
    client = world.client()
    client.login(password="wrong")
    client.take(m.ConnectionClose, channel=0)
    assert not client.transport.hung_up()
    client.send(m.ConnectionCloseOk(), channel=0)
    client.expect_end()


@pytest.mark.parametrize(
    "value", [{}, {"authentication_failure_close": "true"}, {"authentication_failure_close": 1}]
)
def test_a_wrong_login_is_not_reported_to_clients_without_the_capability(world, value):
    client = world.client()
    client.login(password="wrong", capabilities=value)
    client.expect_end()


def test_guest_comes_from_this_machine_only(world):
    client = world.client(loopback=False)
    client.login()
    client.expect(m.ConnectionClose(403, REFUSED.format("PLAIN")), channel=0)


# -- silence -------------------------------------------------------------------------------------------------
# RabbitMQ waits three seconds before it hangs up; leveret hangs up at once.

STARTING = [
    m.ConnectionStartOk(CAPABLE, "PLAIN", b"guest\0guest"),
    m.ConnectionStartOk(CAPABLE, "PLAIN", b"x\0guest\0guest"),
    m.ConnectionStartOk(CAPABLE, "PLAIN", b"\0guest\0guest\0"),
    m.ConnectionStartOk(CAPABLE, "PLAIN", b"guest"),
    m.ConnectionStartOk(CAPABLE, "plain", GUEST),
    m.ConnectionStartOk(CAPABLE, "EXTERNAL", GUEST),
    m.ConnectionStartOk(CAPABLE, "AMQPLAIN", amqplain(LOGIN="guest")),
    m.ConnectionStartOk(CAPABLE, "AMQPLAIN", b"\5LOGINQ"),
    m.ConnectionTuneOk(1, 4096, 0),
    m.ConnectionOpen("/"),
    m.ConnectionClose(),
    m.ConnectionCloseOk(),
    m.ChannelOpen(),
]
RAW = [
    frame(9, 0, b""),
    frame(1, 0, b"\0\x0a\0\x0b\0"),
    frame(1, 0, b"\0\x63\0\x63"),
    frame(3, 0, bytes(9000))[:7],
    method_frame(1, m.ChannelOpen()),
    method_frame(1, m.BasicPublish()),
    header(1, 1),
]


@pytest.mark.parametrize(
    "stream",
    [*(method_frame(0, method) for method in STARTING), *RAW],
    ids=[*map(str, STARTING), *map(repr, RAW)],
)
def test_what_is_wrong_before_the_login_ends_the_connection_without_a_word(dial, stream):
    client = dial()
    client.start()
    client.send_raw(stream)
    client.expect_silence()


@pytest.mark.parametrize(
    "method", [m.ConnectionStartOk(CAPABLE, "PLAIN", GUEST), m.ConnectionOpen("/")], ids=str
)
def test_what_is_wrong_before_the_tuning_ends_the_connection_without_a_word(dial, method):
    client = dial()
    client.login()
    client.take(m.ConnectionTune, channel=0)
    client.send(method, channel=0)
    client.expect_silence()


TUNINGS = [(0, 4096), (2048, 4096), (1, 0), (1, 4095), (1, 131073)]


@pytest.mark.parametrize(("channel_max", "frame_max"), TUNINGS)
def test_a_tuning_beyond_the_offer_ends_the_connection_without_a_word(dial, channel_max, frame_max):
    client = dial()
    client.login()
    client.tune(channel_max=channel_max, frame_max=frame_max)
    client.expect_silence()


@pytest.mark.parametrize(("channel_max", "frame_max"), [(1, 4096), (2047, 131072)])
@pytest.mark.parametrize("heartbeat", [0, 1, 65535])
def test_a_tuning_within_the_offer(connect, channel_max, frame_max, heartbeat):
    connect(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)


@pytest.mark.parametrize("stream", [method_frame(0, method) for method in STARTING] + RAW, ids=repr)
def test_silence_is_followed_by_hanging_up(world, stream):
    client = world.client()
    client.start()
    client.send_raw(stream)
    client.expect_end()


# -- open ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nope", ""])
def test_an_unknown_virtual_host_is_refused(dial, name):
    client = dial()
    client.login()
    client.tune()
    client.send(m.ConnectionOpen(name), channel=0)
    client.expect(m.ConnectionClose(530, f"NOT_ALLOWED - vhost {name} not found", 10, 40), channel=0)


def test_a_virtual_host_without_permissions_is_refused(world):
    world.user("noperm", vhost="")
    client = world.client()
    client.login(user="noperm")
    client.tune()
    client.send(m.ConnectionOpen("/"), channel=0)
    text = "NOT_ALLOWED - access to vhost '/' refused for user 'noperm'"
    client.expect(m.ConnectionClose(530, text, 10, 40), channel=0)


@pytest.mark.parametrize(
    "method",
    [
        m.ConnectionStartOk(),
        m.ConnectionTuneOk(1, 4096, 0),
        m.ConnectionClose(),
        m.ConnectionCloseOk(),
        m.BasicQos(),
    ],
    ids=str,
)
def test_another_method_than_open_is_refused(dial, method):
    client = dial()
    client.login()
    client.tune()
    client.send(method, channel=0)
    text = "CHANNEL_ERROR - unexpected method in connection state opening"
    client.expect(m.ConnectionClose(504, text, method.CLASS_ID, method.METHOD_ID), channel=0)


def test_a_channel_before_open_is_refused(dial):
    client = dial()
    client.login()
    client.tune()
    client.send(m.ChannelOpen())
    text = "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>"
    client.expect(m.ConnectionClose(505, text), channel=0)


def test_a_handshake_in_one_piece(dial):
    client = dial()
    client.send_raw(
        PROTOCOL_HEADER
        + frame(8, 0, b"")
        + method_frame(0, m.ConnectionStartOk({}, "PLAIN", GUEST))
        + method_frame(0, m.ConnectionTuneOk(1, 131072, 0))
        + method_frame(0, m.ConnectionOpen("/"))
        + method_frame(1, m.ChannelOpen())
        + method_frame(1, m.QueueDeclare("q"))
        + publish("q", bytes(100_000)).frames(1)
        + method_frame(1, m.QueuePurge("q"))
    )
    for kind in (m.ConnectionStart, m.ConnectionTune, m.ConnectionOpenOk):
        client.take(kind, channel=0)
    client.expect(m.ChannelOpenOk(), m.QueueDeclareOk("q", 0, 0), m.QueuePurgeOk(1))


@pytest.mark.parametrize("step", ["nothing", "header", "start-ok", "tune-ok", "refused"])
def test_a_client_that_does_not_continue_the_handshake_is_dropped(world, step):
    client = world.client()
    if step == "header":
        client.start()
    elif step == "start-ok":
        client.login()
        client.take(m.ConnectionTune, channel=0)
    elif step == "tune-ok":
        client.login()
        client.tune()
    elif step == "refused":
        client.login(password="wrong")
        client.take(m.ConnectionClose, channel=0)
    wait = (
        world.settings.server.shutdown_timeout if step == "refused" else world.settings.amqp.handshake_timeout
    )
    world.advance(wait - 1)
    assert not client.transport.hung_up()
    world.advance(1)
    client.expect_end()


def test_a_client_that_has_opened_its_virtual_host_is_not_dropped(world):
    client = world.connect()
    world.advance(100 * world.settings.amqp.handshake_timeout)
    client.call(m.QueueDeclare("q"))
