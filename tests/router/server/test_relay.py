"""Relayed connections: every listener, the client's own address, the end of either side, refusals."""

import base64
import json
import socket
import struct
from contextlib import suppress

import pytest
import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.relay_handshake import (
    CHALLENGE,
    HELLO,
    MAGIC,
    RelayedClient,
    RelayedHandshake,
    RelayingHandshake,
)
from leveret.router.server import gateway as gateways
from leveret.router.server import relay as relays
from leveret.router.server.gateway import NOT_ACTIVE
from leveret.router.session.transport import ConnectionEnds
from leveret.router.settings import Settings, Tls
from tests.router.server.certificates import certificate_files, client_context
from tests.router.server.client import Client, start_ok
from tests.router.server.relaying import SECRET, Brokers, Member, until
from tests.router.server.web import Browser, open_page

APP = {"user": "app", "password": "app"}
BASIC = "Basic " + base64.b64encode(b"app:app").decode()
STOMP_LOGIN = b"CONNECT\naccept-version:1.2\nlogin:app\npasscode:app\nhost:/\n\n\0"


@pytest.fixture
async def brokers(settings, nursery) -> Brokers:
    return await Brokers(settings, nursery).start()


async def connections(member: Member) -> list[dict]:
    """The connections that the management API shows, through this broker."""
    browser = Browser(await member.connect("http"))
    answer = await browser.ask("/api/connections", Authorization=BASIC)
    assert answer.status == 200
    await browser.stream.aclose()
    return json.loads(answer.body)


async def test_message_published_through_the_standby_is_consumed_at_the_owner(brokers):
    through = await (await brokers.standby.client()).login(**APP)
    direct = await (await brokers.owner.client()).login(**APP)
    await through.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await direct.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    await through.publish("q", b"hello")
    assert await direct.delivered() == b"hello"
    assert brokers.standby.gateway.relay.connections == 1
    await through.close()
    await direct.close()


async def test_owner_shows_the_client_and_the_broker_that_accepted_it(brokers):
    client = await (await brokers.standby.client()).login(**APP)
    host, port = client.stream.socket.getsockname()
    for member in (brokers.owner, brokers.standby):
        (shown,) = await connections(member)
        assert (shown["peer_host"], shown["peer_port"]) == (host, port)
        assert shown["port"] == brokers.standby.port("amqp")
        assert shown["name"] == f"{host}:{port} -> 127.0.0.1:{brokers.standby.port('amqp')}"


async def test_guest_may_log_in_at_the_owner_and_not_through_the_standby(brokers):
    await (await brokers.owner.client()).login()
    client = await brokers.standby.client()
    await client.stream.send_all(b"AMQP\x00\x00\x09\x01")
    await client.expect(m.ConnectionStart)
    close = await client.call(start_ok(), m.ConnectionClose, channel=0)
    assert close.reply_code == 403
    guest = "Basic " + base64.b64encode(b"guest:guest").decode()
    for member, status in ((brokers.owner, 200), (brokers.standby, 401)):
        browser = Browser(await member.connect("http"))
        assert (await browser.ask("/api/overview", Authorization=guest)).status == status


async def test_stomp_is_relayed(brokers):
    stream = await brokers.standby.connect("stomp")
    await stream.send_all(STOMP_LOGIN)
    assert (await stream.receive_some()).startswith(b"CONNECTED\n")


@pytest.mark.parametrize(
    ("listener", "path", "protocol"),
    [("http", "/ws/stomp", "v12.stomp"), ("web_stomp", "/ws", "v12.stomp"), ("http", "/ws/amqp", "amqp")],
)
async def test_websocket_is_relayed(brokers, listener, path, protocol):
    stream = await brokers.standby.connect(listener)
    page = await open_page(stream, path, Sec_WebSocket_Protocol=protocol)
    if protocol == "amqp":
        await Client(page).login(**APP)
        return
    await page.send_all(STOMP_LOGIN)
    assert (await page.receive_some()).startswith(b"CONNECTED\n")


async def test_http_requests_are_relayed_one_after_another_on_one_connection(brokers):
    browser = Browser(await brokers.standby.connect("http"))
    for _ in range(3):
        answer = await browser.ask("/api/vhosts", Authorization=BASIC)
        assert [each["name"] for each in json.loads(answer.body)] == ["/"]


async def test_standby_answers_health_checks_itself(brokers):
    async def ask(member: Member, path: str) -> tuple[int, dict]:
        answer = await Browser(await member.connect("http")).ask(path)
        return answer.status, json.loads(answer.body)

    assert await ask(brokers.standby, "/health") == (200, {"status": "ok", "role": "standby"})
    assert (await ask(brokers.standby, "/health/active"))[0] == 503
    status, content = await ask(brokers.standby, "/ready")
    assert (status, content["status"]) == (503, "failed")
    assert "standby" in content["reasons"][0]
    assert (await ask(brokers.owner, "/health"))[0] == 200
    assert (await ask(brokers.owner, "/ready"))[0] == 200


async def test_health_check_ends_its_connection_so_that_the_next_request_is_relayed(brokers):
    browser = Browser(await brokers.standby.connect("http"))
    answer = await browser.ask("/health")
    assert "close" in answer.headers["connection"]
    assert await browser.stream.receive_some() == b""


async def test_metrics_of_a_standby_are_its_own(brokers):
    relayed = await (await brokers.standby.client()).login(**APP)
    answer = await Browser(await brokers.standby.connect("http")).ask("/metrics")
    assert b"leveret_cluster_active 0.0\n" in answer.body
    assert b"leveret_cluster_relayed_connections 1.0\n" in answer.body
    await relayed.close()


async def test_tls_ends_at_the_standby_and_its_certificate_counts_at_the_owner(nursery, tmp_path):
    tls = Tls(**certificate_files(tmp_path), login_from="common_name")
    brokers = await Brokers(Settings(tls=tls), nursery).start()
    context = client_context("app")
    stream = await trio.open_ssl_over_tcp_stream(
        "127.0.0.1", brokers.standby.port("amqps"), ssl_context=context
    )
    client = Client(stream)
    await stream.send_all(PROTOCOL_HEADER)
    assert b"EXTERNAL" in (await client.expect(m.ConnectionStart)).mechanisms
    external = m.ConnectionStartOk(start_ok().client_properties, "EXTERNAL", b"", "en_US")
    await client.call(external, m.ConnectionTune, channel=0)
    await client.send(m.ConnectionTuneOk(1, 131072, 0), channel=0)
    await client.call(m.ConnectionOpen("/"), m.ConnectionOpenOk, channel=0)
    (shown,) = await connections(brokers.standby)
    assert (shown["user"], shown["ssl"], shown["auth_mechanism"]) == ("app", True, "EXTERNAL")
    assert shown["peer_cert_subject"].startswith("CN=app,")
    await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
    assert await client.ended()
    browser = Browser(
        await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", brokers.standby.port("https"), ssl_context=client_context()
        )
    )
    assert (await browser.ask("/api/vhosts", Authorization=BASIC)).status == 200


async def test_large_message_arrives_whole(brokers):
    body = bytes(range(256)) * 40_000
    through = await (await brokers.standby.client()).login(**APP)
    await through.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(through.publish, "q", body)
        consumer = await (await brokers.standby.client()).login(**APP)
        await consumer.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
        assert await consumer.delivered() == body


async def test_client_that_half_closes_gets_its_replies(brokers):
    stream = await brokers.standby.connect("http")
    await stream.send_all(
        b"GET /api/vhosts HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\n\r\n" % BASIC.encode()
    )
    await stream.send_eof()
    received = b""
    while data := await stream.receive_some():
        received += data
    assert received.startswith(b"HTTP/1.1 200 ")


async def test_connection_ends_at_both_sides_when_either_disconnects(brokers):
    client = await (await brokers.standby.client()).login(**APP)
    assert len(brokers.owner.broker.clients) == 1
    await client.stream.aclose()
    await until(lambda: not brokers.owner.broker.clients)
    await until(lambda: not brokers.standby.gateway.relay.connections)
    client = await (await brokers.standby.client()).login(**APP)
    brokers.owner.driver.begin("a test")
    for each in list(brokers.owner.broker.clients):
        each.lost()
    brokers.owner.driver.end()
    with trio.fail_after(20):
        while not await client.ended():
            pass


async def test_relayed_clients_are_disconnected_when_another_broker_becomes_active(brokers):
    client = await (await brokers.standby.client()).login(**APP)
    brokers.standby.gateway.follow(brokers.owner.active(epoch=2))
    with trio.fail_after(5), suppress(trio.BrokenResourceError):
        assert await client.ended()
    await until(lambda: not brokers.standby.gateway.relay.connections)
    await (await brokers.standby.client()).login(**APP)


async def test_clients_wait_for_the_active_broker(brokers, nursery):
    brokers.standby.gateway.follow(None)
    client = await brokers.standby.client()
    logged_in = trio.Event()

    async def log_in() -> None:
        await client.login(**APP)
        logged_in.set()

    nursery.start_soon(log_in)
    with trio.move_on_after(0.1):
        await logged_in.wait()
    assert not logged_in.is_set()
    brokers.standby.gateway.follow(brokers.owner.active())
    with trio.fail_after(5):
        await logged_in.wait()


@pytest.mark.parametrize("listener", ["amqp", "http"])
async def test_waiting_client_is_served_here_when_this_broker_becomes_active(brokers, nursery, listener):
    brokers.standby.gateway.follow(None)
    stream = await brokers.standby.connect(listener)
    browser, done = Browser(stream), trio.Event()

    async def use() -> None:
        if listener == "amqp":
            await Client(stream).login(**APP)
        else:
            assert (await browser.ask("/api/vhosts", Authorization=BASIC)).status == 200
        done.set()

    nursery.start_soon(use)
    with trio.move_on_after(0.1):
        await done.wait()
    brokers.standby.activate()
    with trio.fail_after(5):
        await done.wait()
    assert len(brokers.owner.broker.clients) == 0


@pytest.mark.parametrize(
    ("listener", "wanted"),
    [
        ("amqp", NOT_ACTIVE.encode()),
        ("stomp", b"ERROR\n"),
        ("http", b"HTTP/1.1 503 "),
        ("web_stomp", b"HTTP/1.1 503 "),
    ],
)
async def test_client_learns_that_no_broker_is_active(brokers, monkeypatch, logged, listener, wanted):
    monkeypatch.setattr(gateways, "WAIT", 0.1)
    brokers.standby.gateway.follow(None)
    stream = await brokers.standby.connect(listener)
    await stream.send_all(
        b"GET /api/overview HTTP/1.1\r\nHost: localhost\r\n\r\n" if listener == "http" else b""
    )
    received = b""
    with trio.fail_after(5):
        while wanted not in received:
            data = await stream.receive_some()
            assert data, received
            received += data
    assert [each["reason"] for each in logged if each["event"] == "connection refused"] == [NOT_ACTIVE]


async def test_standby_neither_relays_nor_serves_a_relayed_client(brokers, monkeypatch, logged):
    """Two brokers that take each other for the active one send no client in a circle."""
    monkeypatch.setattr(gateways, "WAIT", 0.1)
    brokers.owner.gateway.follow(brokers.standby.active())
    stream = await brokers.standby.connect("stomp")
    assert (await stream.receive_some()).startswith(b"ERROR\n")
    (line, *_) = [each for each in logged if each["event"] == "cannot relay"]
    assert "not the active broker" in line["reason"]


async def test_broker_of_another_cluster_gets_nothing_of_a_client(brokers, monkeypatch, logged):
    monkeypatch.setattr(gateways, "WAIT", 0.1)
    brokers.owner.gateway.secret = b"another secret"
    stream = await brokers.standby.connect("stomp")
    await stream.send_all(STOMP_LOGIN)
    assert (await stream.receive_some()).startswith(b"ERROR\n")
    (line, *_) = [each for each in logged if each["event"] == "cannot relay"]
    assert "secret" in line["reason"]


async def test_broker_without_a_secret_accepts_no_relayed_clients(brokers, monkeypatch, logged):
    """Anyone could prove to know an empty secret."""
    monkeypatch.setattr(gateways, "WAIT", 0.1)
    brokers.owner.gateway.secret = brokers.standby.gateway.secret = b""
    stream = await brokers.standby.connect("stomp")
    assert (await stream.receive_some()).startswith(b"ERROR\n")
    assert "not the active broker" in logged[0]["reason"]


async def test_active_broker_that_cannot_be_reached_is_named(brokers, monkeypatch, logged):
    monkeypatch.setattr(gateways, "WAIT", 0.1)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    brokers.standby.gateway.follow(ActiveBroker("c", 3, "127.0.0.1", port))
    stream = await brokers.standby.connect("stomp")
    assert (await stream.receive_some()).startswith(b"ERROR\n")
    (line, *_) = [each for each in logged if each["event"] == "cannot relay"]
    assert f"c at 127.0.0.1:{port}" in line["reason"]
    assert "refused" in line["reason"].lower()


CLIENT = RelayedClient("amqp", ConnectionEnds(("192.0.2.7", 4000), ("192.0.2.1", 5672)), local=False)


async def introduce(owner: Member, secret: bytes) -> trio.SocketStream:
    """A relayed connection, after its preface."""
    stream = await owner.connect()
    handshake = RelayingHandshake(secret)
    await stream.send_all(handshake.hello())
    challenge = await stream.receive_some(CHALLENGE)
    handshake._secret = SECRET  # so that it takes the challenge
    identity = handshake.identity(challenge, CLIENT)
    if secret != SECRET:
        identity = identity[:-1] + b"!"
    await stream.send_all(identity)
    return stream


async def test_right_preface_is_accepted_and_its_client_is_shown(brokers):
    client = await Client(await introduce(brokers.owner, SECRET)).login(**APP)
    (shown,) = await connections(brokers.owner)
    assert (shown["peer_host"], shown["peer_port"], shown["host"]) == ("192.0.2.7", 4000, "192.0.2.1")
    await client.close()


@pytest.mark.parametrize(
    "sent",
    [
        MAGIC[:1],
        MAGIC,
        MAGIC + b"\x01",
        b"\x8c" * HELLO,
        MAGIC + b"\x02" + bytes(16),
        b"\x8cAMQP\x00\x00\x09\x01" + bytes(99),
    ],
)
async def test_wrong_preface_ends_its_connection_alone(brokers, logged, sent):
    other = await (await brokers.owner.client()).login(**APP)
    stream = await brokers.owner.connect()
    with trio.fail_after(5), suppress(trio.BrokenResourceError):  # bytes were left unread
        await stream.send_all(sent)
        await stream.send_eof()
        while await stream.receive_some():
            pass
    assert [each["event"] for each in logged] == ["connection opened", "relayed connection refused"]
    await other.call(m.QueueDeclare("q"), m.QueueDeclareOk)


async def test_replayed_preface_is_refused(brokers, logged):
    stream = await brokers.owner.connect()
    handshake = RelayingHandshake(SECRET)
    hello = handshake.hello()
    await stream.send_all(hello)
    identity = handshake.identity(await stream.receive_some(CHALLENGE), CLIENT)
    await stream.aclose()
    again = await brokers.owner.connect()
    await again.send_all(hello)
    await again.receive_some(CHALLENGE)
    await again.send_all(identity)
    with trio.fail_after(5):
        assert await again.receive_some() == b""
    assert any("replay" in str(each.get("reason")) for each in logged)


async def test_slow_preface_times_out(brokers, monkeypatch, logged):
    monkeypatch.setattr("leveret.router.server.relayed_clients.HANDSHAKE_TIMEOUT", 0.05)
    stream = await brokers.owner.connect()
    await stream.send_all(MAGIC)
    with trio.fail_after(5), suppress(trio.BrokenResourceError):
        assert await stream.receive_some() == b""
    assert logged[-1]["reason"] == "the handshake timed out"


async def test_client_that_is_slow_with_its_first_byte_is_served(brokers, monkeypatch):
    monkeypatch.setattr("leveret.router.server.relayed_clients.FIRST_BYTE_TIMEOUT", 0.01)
    client = await brokers.owner.client()
    await trio.sleep(0.05)
    await client.login(**APP)


async def test_client_that_does_not_read_holds_back_the_owner_and_is_disconnected(
    settings, nursery, monkeypatch
):
    brokers = await Brokers(settings, nursery).start()
    for member in (brokers.owner, brokers.standby):
        member.driver.send_timeouts.seconds = 0.5
    publisher = await (await brokers.owner.client()).login(**APP)
    await publisher.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    lazy = await (await brokers.standby.client()).login(**APP)
    await lazy.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    for _ in range(200):
        await publisher.publish("q", bytes(100_000))
    await until(lambda: not brokers.standby.gateway.relay.connections)
    await until(lambda: len(brokers.owner.broker.clients) == 1)
    await publisher.call(m.QueueDeclare("q", passive=True), m.QueueDeclareOk)


async def test_client_may_disconnect_while_the_owner_does_not_read(brokers, monkeypatch, nursery):
    """As during an alarm: the owner reads nothing from publishers."""
    monkeypatch.setattr(relays, "DISCONNECT_CHECK", 0.05)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    silent = trio.Event()

    async def accept_and_read_nothing(stream: trio.SocketStream) -> None:
        handshake = RelayedHandshake(SECRET, active=True)
        await stream.send_all(handshake.challenge(await stream.receive_some(HELLO)))
        silent.set()
        await trio.sleep_forever()

    nursery.start_soon(trio.serve_listeners, accept_and_read_nothing, listeners)
    port = listeners[0].socket.getsockname()[1]
    brokers.standby.gateway.follow(ActiveBroker("c", 3, "127.0.0.1", port))
    stream = await brokers.standby.connect("stomp")
    with trio.move_on_after(1):
        while True:
            await stream.send_all(bytes(1 << 20))
    assert silent.is_set()
    reset = struct.pack("ii", 1, 0)  # at once, although bytes are unsent
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    stream.socket.close()
    await until(lambda: not brokers.standby.gateway.relay.connections)


async def test_many_connections_are_relayed_at_a_time(brokers):
    clients = [await (await brokers.standby.client()).login(**APP) for _ in range(100)]
    await clients[0].call(m.QueueDeclare("q"), m.QueueDeclareOk)
    for number, client in enumerate(clients):
        await client.publish("q", b"%d" % number)
    consumer = clients[-1]
    await consumer.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    assert {await consumer.delivered() for _ in clients} == {b"%d" % number for number in range(100)}
    assert brokers.standby.gateway.relay.connections == 100


async def test_relayed_clients_count_under_their_own_addresses(brokers):
    """A flood of one client through a standby takes no places of another client's network."""
    stream = await introduce(brokers.owner, SECRET)
    await stream.send_all(b"AMQP\x00\x00\x09\x01")
    await stream.receive_some()
    places = brokers.owner.endpoints._clients
    assert places._counts == {"192.0.2.7": 1}
    await trio.aclose_forcefully(stream)
