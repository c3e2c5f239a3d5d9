"""Logging in, heart-beats, alarms, and how a connection ends."""

import pytest

from leveret.protocol.errors import ConnectionForced
from leveret.protocol.stomp.frames import HEARTBEAT, VERSIONS, Frame
from leveret.router.broker.alarms import MEMORY
from leveret.router.settings import Settings, Stomp


def logged(client):
    return [(level, event) for level, event, _ in client.log.lines]


# -- login ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_spoken(dial, version):
    client = dial().open(version)
    headers = client.connected.headers
    assert (headers["version"], headers["heart-beat"]) == (version, "0,0")
    assert headers["server"] == "RabbitMQ/3.13.7"
    assert headers["session"].startswith("session-")
    assert logged(client) == [("info", "connection opened")]


def test_stomp_is_another_name_of_connect(dial):
    client = dial()
    client.send("STOMP", login="guest", passcode="guest", accept_version="1.1,1.2")
    assert client.take("CONNECTED").headers["version"] == "1.2"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"login": "guest", "passcode": "no"}, ("Bad CONNECT", "Access refused for user 'guest'\n")),
        ({"login": "guest", "passcode": ""}, ("Bad CONNECT", "Access refused for user 'guest'\n")),
        ({"login": "bob", "passcode": "guest"}, ("Bad CONNECT", "Access refused for user 'bob'\n")),
        ({"passcode": "no"}, ("Bad CONNECT", "Access refused for user 'guest'\n")),
        (
            {"login": "guest", "passcode": "guest", "host": "nope"},
            ("Bad CONNECT", "Virtual host 'nope' access denied"),
        ),
        (
            {"login": "guest", "passcode": "guest", "accept-version": "2.0"},
            ("Version mismatch", "Supported versions are 1.0,1.1,1.2\n"),
        ),
        (
            {"login": "guest", "passcode": "guest", "accept-version": "1.2", "heart-beat": "x"},
            ("Invalid header", "heart-beat must be two numbers of ms, not 'x'"),
        ),
    ],
)
def test_a_refused_login_gets_an_error_and_ends_the_connection(dial, headers, error):
    client = dial()
    client.send("CONNECT", **headers)
    assert client.error() == error


@pytest.mark.parametrize(
    ("headers", "user", "mechanism"),
    [
        ({}, "ada", "EXTERNAL"),
        ({"passcode": "guest"}, "ada", "EXTERNAL"),
        ({"login": "guest", "passcode": "guest"}, "guest", "PLAIN"),
    ],
)
def test_a_certificate_is_the_login_of_a_client_without_a_user_name(world, dial, headers, user, mechanism):
    world.user("ada")
    client = dial(proven_user="ada")
    client.send("CONNECT", **headers)
    assert client.take("CONNECTED")
    assert (client.connection.user.name, client.connection.mechanism) == (user, mechanism)


def test_a_certificate_of_an_unknown_user_is_refused(dial):
    client = dial(proven_user="ada")
    client.send("CONNECT")
    assert client.error() == ("Bad CONNECT", "Access refused for user 'ada'\n")


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT\nlogin:guest\npasscode HUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:guest\nHUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:guest\\HUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:HUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:\xffHUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:HUSH\0",
        b"CONNECT\nlogin:guest\npasscode:HUSH\nhost:nope\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:HUSH" + b"x" * 9000 + b"\n\n\0",
        b"STOMP\nlogin:guest\npasscode:guest\\HUSH\n\n\0",
        b"SEND\nlogin:guest\npasscode:HUSH\n\n\0",
        b"CONNECT\nlogin:guest\npasscode:guest\n\n\0CONNECT\npasscode:HUSH\n\n\0",
    ],
    ids=str,
)
def test_a_passcode_is_neither_logged_nor_sent_back(dial, data):
    client = dial()
    client.send_raw(data.replace(b"HUSH", "§hush".encode()))
    assert client.outbox.closed
    assert [line for line in client.log.lines if line[0] == "warning"]
    heard = b"".join(client.outbox.data).decode() + repr(client.log.lines)
    assert "§" not in heard
    assert "hush" not in heard


def test_guest_may_log_in_from_this_machine_only(dial):
    client = dial(loopback=False)
    client.send("CONNECT", login="guest", passcode="guest")
    assert client.error() == ("Bad CONNECT", "Access refused for user 'guest'\n")
    assert ("warning", "login refused") in logged(client)


def test_a_user_needs_a_permission_in_the_virtual_host(world, dial):
    world.user("bob", vhost="")
    client = dial()
    client.send("CONNECT", login="bob", passcode="guest", host="/")
    assert client.error() == ("Bad CONNECT", "Virtual host '/' access denied")


@pytest.mark.parametrize("headers", [{}, {"login": "guest"}, {"passcode": "guest"}])
def test_a_client_without_a_login_is_guest_as_in_rabbitmq(dial, headers):
    client = dial()
    client.send("CONNECT", **headers)
    assert client.take("CONNECTED")
    assert client.connection.user.name == "guest"
    far = dial(loopback=False)
    far.send("CONNECT")
    assert far.error() == ("Bad CONNECT", "Access refused for user 'guest'\n")


def test_a_client_without_a_login_is_refused_without_a_default_user(world, dial):
    world.broker.settings = Settings(stomp=Stomp(default_user=""))
    client = dial()
    client.send("CONNECT")
    assert client.error() == (
        "Bad CONNECT",
        "Access refused: there is no header 'login', and no default user\n",
    )


def test_the_settings_can_name_a_default_user_and_virtual_host(world, dial):
    world.broker.settings = Settings(
        stomp=Stomp(default_user="bob", default_pass="guest", default_vhost="other")
    )
    world.broker.add_vhost("other")
    world.user("bob", vhost="other")
    client = dial()
    client.send("CONNECT")
    client.take("CONNECTED")
    assert (client.connection.user.name, client.connection.vhost.name) == ("bob", "other")


@pytest.mark.parametrize("command", ["SEND", "ACK", "DISCONNECT", "NONSENSE"])
def test_nothing_comes_before_the_login(dial, command):
    client = dial()
    client.send(command, destination="/queue/q")
    assert client.error() == ("Illegal command", "You must log in using CONNECT first")


def test_a_second_login_is_refused(connect):
    client = connect()
    client.send("CONNECT", login="guest", passcode="guest")
    assert client.error() == ("Illegal command", "You are logged in already")


def test_frames_behind_the_login_are_read_as_its_version_says(dial):
    client = dial()
    client.version = "1.0"
    client.send_raw(
        b"CONNECT\nlogin:guest\npasscode:guest\n\n\0SUBSCRIBE\ndestination:/queue/a\\b\nreceipt:1\n\n\0"
    )
    assert [frame.command for frame in client.received()] == ["CONNECTED", "RECEIPT"]
    assert list(client.world.vhost.queues) == ["a\\b"]


def test_a_client_that_does_not_log_in_in_time_gets_an_error_and_is_dropped(world, dial):
    client = dial()
    world.advance(9_999)
    assert not client.outbox.closed
    world.advance(1)
    assert client.error() == ("Login timeout", "You did not log in within 10000 ms\n")
    assert logged(client) == [("warning", "connection closed")]


def test_large_frames_are_refused_before_the_login_only(dial, connect):
    client = dial()
    client.send_raw(b"CONNECT\nlogin:" + b"x" * 9000)
    assert client.error() == ("Frame too large", "Command and headers may have 8192 bytes together")
    client = connect()
    client.publish("x", long="y" * 9000, receipt="1")
    assert client.receipts() == ["1"]


# -- heart-beats ---------------------------------------------------------------------------------------------


def test_the_broker_sends_heartbeats_when_it_is_silent(world, connect):
    client = connect(heart_beat="0,2000")
    assert client.connected.headers["heart-beat"] == "2000,0"
    world.advance(999)
    assert client.outbox.data == []
    world.advance(5001)
    assert set(client.outbox.data) == {HEARTBEAT}
    assert len(client.outbox.data) >= 5


def test_a_client_that_misses_heartbeats_is_dropped(world, connect):
    client = connect(heart_beat="2000,0")
    assert client.connected.headers["heart-beat"] == "0,2000"
    for _ in range(4):
        world.advance(3000)
        client.send_raw(b"\n")
    assert not client.outbox.closed
    world.advance(4000)
    assert client.outbox.closed
    assert client.received() == []


def test_without_heartbeats_nothing_is_sent_or_missed(world, connect):
    client = connect()
    world.advance(10**7)
    assert client.outbox.data == []
    assert not client.outbox.closed


# -- alarms --------------------------------------------------------------------------------------------------


def alarm(world, *, raised):
    world.broker.alarms.set(MEMORY, raised=raised)


def test_a_publisher_is_not_read_from_during_an_alarm(world, connect):
    client, consumer = connect(heart_beat="2000,0"), connect()
    alarm(world, raised=True)
    consumer.subscribe()
    assert not consumer.outbox.paused
    client.publish("1", receipt="1")
    assert client.outbox.paused
    assert client.receipts() == ["1"]
    world.advance(60_000)
    assert not client.outbox.closed  # a client that is not read from has no chance to send heart-beats
    alarm(world, raised=False)
    assert not client.outbox.paused
    world.advance(4_000)
    assert client.outbox.closed


def test_a_body_that_has_begun_to_arrive_is_a_publish(world, connect):
    client = connect()
    alarm(world, raised=True)
    client.send_raw(b"SEND\ndestination:/queue/q\ncontent-length:1000\n\nx")
    assert client.outbox.paused


def test_a_client_over_the_high_mark_gets_no_messages_until_it_reads(world, connect):
    client, publisher = connect(), connect()
    client.subscribe()
    client.outbox.full = True
    publisher.publish("1")
    assert client.bodies() == []
    client.outbox.full = False
    client.connection.drained()
    world.flush()
    assert client.bodies() == ["1"]


# -- the end -------------------------------------------------------------------------------------------------


def test_disconnect_is_answered_last(connect):
    client = connect()
    client.send_raw(
        client.packed("SEND", destination="/queue/q", receipt="1")
        + client.packed("DISCONNECT", receipt="2")
        + client.packed("SEND", destination="/queue/q", receipt="3")
    )
    assert client.receipts() == ["1", "2"]
    assert client.outbox.closed
    assert ("info", "connection closed by client") in logged(client)


def test_what_is_held_goes_back_when_a_client_leaves_or_is_lost(world, connect):
    for leave in (lambda client: client.send("DISCONNECT"), lambda client: client.connection.lost()):
        client = connect()
        client.publish("1")
        client.subscribe(ack="client")
        assert client.bodies() == ["1"]
        leave(client)
        world.flush()
        assert client.outbox.closed
        assert [entry.returns for entry in world.vhost.queues["q"].ready] == [1]
        world.vhost.queues["q"].purge()


def test_queues_of_a_connection_go_with_it(world, connect):
    client = connect()
    client.subscribe("/topic/a")
    client.subscribe("/queue/mine", id="2", exclusive="true")
    client.publish(reply_to="/temp-queue/x")
    assert len(world.vhost.queues) == 4
    client.connection.lost()
    assert list(world.vhost.queues) == ["q"]
    assert not world.broker.clients


def test_a_stopping_broker_sends_an_error_to_clients_that_have_logged_in(dial, connect):
    client, stranger = connect(), dial()
    for each in (client, stranger):
        each.connection.end(ConnectionForced("shutdown"))
    assert client.error() == ("connection_forced", "CONNECTION_FORCED - shutdown")
    assert (stranger.received(), stranger.outbox.closed) == ([], True)


def test_a_failure_of_the_broker_ends_the_connection_with_an_error(connect):
    client = connect()
    client.connection.crash(RuntimeError("x"))
    assert client.error() == ("internal_error", "INTERNAL_ERROR - internal error, see the broker's log")


def test_a_delivery_timeout_ends_the_connection(world, connect):
    client = connect()
    client.subscribe(ack="client", x_consumer_timeout="1000")
    client.publish("1")
    assert client.bodies() == ["1"]
    world.advance(60_000)
    message, detail = client.error()
    assert message == "precondition_failed"
    assert "Timeout value used: 1000 ms" in detail


@pytest.mark.parametrize(
    "data",
    [
        b"SEND\nno colon\n\n\0",
        b"SEND\ndestination:\\x\n\n\0",
        b"SEND\ndestination:/queue/q\ncontent-length:-1\n\n\0",
        b"SEND\ndestination:/queue/q\ncontent-length:1\n\nlonger\0",
        b"SEND\ndestination:/queue/q\ncontent-length:99999999999\n\n",
        b"SEND\na\0",
        b"x" * 100,
        b"AMQP\0\0\x09\x01",
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"SEND\n" + b"a:b\n" * 2000 + b"\n\0",
    ],
    ids=str,
)
def test_malformed_input_gets_one_error_and_affects_no_other_client(connect, data):
    other, client = connect(), connect()
    other.subscribe()
    client.send_raw(data + b"SEND\ndestination:/queue/q\n\nbehind\0")
    message, detail = client.error()
    assert message
    assert detail
    other.publish("1")
    assert other.bodies() == ["1"]


def test_what_stands_before_malformed_input_takes_effect(connect):
    client = connect()
    client.send_raw(client.packed("SEND", b"1", destination="/queue/q", receipt="1") + b"SEND\nx\n\n\0")
    assert [frame.command for frame in client.received()] == ["RECEIPT", "ERROR"]
    client = connect()
    client.subscribe()
    assert client.bodies() == ["1"]


def test_an_error_names_the_receipt_that_will_not_come(connect):
    client = connect()
    client.send("FOO", receipt="7")
    assert client.take("ERROR") == Frame(
        "ERROR",
        {
            "message": "Bad command",
            "content-type": "text/plain",
            "version": "1.0,1.1,1.2",
            "receipt-id": "7",
            "content-length": "34",
        },
        b'Could not interpret command "FOO"\n',
    )
