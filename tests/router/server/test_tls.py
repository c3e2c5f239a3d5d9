"""TLS: over memory streams, and AMQP and HTTP over it as ``leveret serve`` offers them."""

import re
import ssl
from functools import partial

import pytest
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.router.server.tls import (
    HANDSHAKE_STEPS,
    HANDSHAKES,
    PIECE,
    ListenerTls,
    TlsError,
    TlsStream,
    certified_user,
    make_context,
)
from leveret.router.settings import Tls
from tests.router.server.certificates import AUTHORITY, STRANGER, certificate_files, client_context
from tests.router.server.client import Client, Closed, start_ok
from tests.router.server.process import Leveret, leveret
from tests.router.server.web import Browser, open_page


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """The broker's certificate, and who signs those of clients."""
    return certificate_files(tmp_path)


# -- the stream ----------------------------------------------------------------------------------------------


@pytest.fixture
async def pair(files, nursery) -> tuple[trio.SSLStream, TlsStream]:
    """A client and the server's end, after the handshake."""
    mine, its = trio.testing.memory_stream_pair()
    settings = Tls(certificate=files["certificate"], key=files["key"])
    server = ListenerTls(settings).secure(its)
    client = trio.SSLStream(mine, client_context(), server_hostname="localhost")
    async with trio.open_nursery() as handshakes:
        handshakes.start_soon(server.do_handshake)
        handshakes.start_soon(client.do_handshake)
    return client, server


async def test_bytes_go_both_ways(pair):
    client, server = pair
    await client.send_all(b"ping")
    assert await server.receive_some() == b"ping"
    await server.send_all(b"pong")
    assert await client.receive_some() == b"pong"


@pytest.mark.parametrize(("size", "pieces"), [(0, 0), (1, 1), (PIECE, 1), (PIECE + 1, 2), (5 * PIECE, 5)])
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
async def test_much_data_is_encrypted_and_sent_in_pieces(pair, size, pieces, form):
    client, server = pair
    sent, received = [], bytearray()

    pipe = server._transport.send_stream
    deliver = pipe.send_all_hook

    async def note() -> None:
        sent.append(1)
        await deliver()

    pipe.send_all_hook = note
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    async with trio.open_nursery() as sending:
        sending.start_soon(server.send_all, form(data))
        while len(received) < size:
            received += await client.receive_some()
    assert received == data
    assert len(sent) == pieces


async def test_half_close_is_a_regular_end_for_the_client(pair):
    client, server = pair
    await server.send_all(b"last")
    await server.send_eof()
    assert await client.receive_some() == b"last"
    assert await client.receive_some() == b""


async def test_reader_waits_for_the_client_to_go_after_the_half_close(autojump_clock, pair, nursery):
    client, server = pair
    ended = []

    async def read() -> None:
        ended.append(await server.receive_some())

    nursery.start_soon(read)
    await trio.testing.wait_all_tasks_blocked()
    await server.send_eof()
    await trio.testing.wait_all_tasks_blocked()
    await client.send_all(b"still sent")
    await trio.testing.wait_all_tasks_blocked()
    assert ended == []
    await client.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert ended == [b""]


async def test_end_without_close_notify_is_an_end(pair):
    client, server = pair
    await client.transport_stream.aclose()
    assert await server.receive_some() == b""


async def test_close_says_so_and_closes_what_is_below(pair):
    client, server = pair
    await server.aclose()
    assert await client.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await client.transport_stream.send_all(b"x")


async def test_other_tasks_run_between_the_steps_of_many_handshakes(files):
    """Each answer to a client's first record needs a signature, which takes 3 ms with RSA-4096."""
    tls = ListenerTls(Tls(certificate=files["certificate"], key=files["key"]))
    context = client_context()
    clients = 10 * HANDSHAKE_STEPS
    answers = 0  # clients that got one
    most = 0  # answers between two turns of another task

    async def count_first_answer(sending, pump) -> None:
        nonlocal answers
        answers += 1
        sending.send_all_hook = pump
        await pump()

    async with trio.open_nursery() as handshakes:
        for _ in range(clients):
            mine, its = trio.testing.memory_stream_pair()
            sending = its.send_stream
            sending.send_all_hook = partial(count_first_answer, sending, sending.send_all_hook)
            client = trio.SSLStream(mine, context, server_hostname="localhost")
            handshakes.start_soon(client.do_handshake)
            handshakes.start_soon(tls.secure(its).do_handshake)
        while handshakes.child_tasks:
            before = answers
            await trio.lowlevel.checkpoint()
            most = max(most, answers - before)
    assert answers == clients
    assert 0 < most <= 2 * HANDSHAKE_STEPS  # Trio shuffles tasks: two passes may lie between two turns


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"certificate": ""}, "tls.certificate"),
        ({"certificate": "/nonexistent.pem"}, "/nonexistent.pem"),
        ({"key": "/nonexistent.key"}, "/nonexistent.key"),
        ({"client_ca": "/nonexistent.ca"}, "tls.client_ca /nonexistent.ca"),
        ({"client_ca": "", "require_client_certificate": True}, "needs tls.client_ca"),
        ({"client_ca": "", "login_from": "common_name"}, "tls.login_from needs tls.client_ca"),
    ],
)
def test_wrong_settings_are_named(files, changes, part):
    with pytest.raises(TlsError) as caught:
        make_context(Tls(**(files | changes)))
    assert part in str(caught.value)


def test_invalid_certificate_files_are_explained(files, tmp_path):
    other, text = str(tmp_path / "other"), str(tmp_path / "text")
    AUTHORITY.issue_cert("localhost").private_key_pem.write_to_path(other)
    (tmp_path / "text").write_text("nothing of the sort")
    with pytest.raises(TlsError, match="the key does not belong to the certificate"):
        make_context(Tls(**files | {"key": other}))
    for changes in ({"certificate": text}, {"key": text}, {"client_ca": text}):
        with pytest.raises(TlsError, match="no usable PEM data"):
            make_context(Tls(**files | changes))


def test_old_versions_are_not_spoken(files):
    assert make_context(Tls(**files)).minimum_version == ssl.TLSVersion.TLSv1_2


SUBJECT = (
    (("countryName", "US"),),
    (("organizationName", "Hare, Inc"),),
    (("organizationalUnitName", " #1"), ("userId", "7")),
    (("commonName", "ada"),),
)


@pytest.mark.parametrize(
    ("certificate", "login_from", "user"),
    [
        ({"subject": SUBJECT}, "common_name", "ada"),
        ({"subject": SUBJECT}, "distinguished_name", r"CN=ada,OU=\ #1+UID=7,O=Hare\, Inc,C=US"),
        ({"subject": SUBJECT}, "none", None),
        ({"subject": (*SUBJECT, (("commonName", "eve"),))}, "common_name", "ada,eve"),
        ({"subject": SUBJECT[:1]}, "common_name", None),
        ({"subject": ()}, "distinguished_name", None),
        (None, "common_name", None),
    ],
)
def test_user_of_a_certificate(certificate, login_from, user):
    assert certified_user(certificate, login_from) == user


# -- the process ---------------------------------------------------------------------------------------------


def flags(files: dict[str, str], **settings: str) -> list[str]:
    """Listen with TLS only."""
    listen = ["--amqp", "none", "--amqps", "127.0.0.1:0", "--https", "127.0.0.1:0"]
    return listen + [f"--set=tls.{key}={value}" for key, value in (files | settings).items()]


STOMP_LOGIN = b"CONNECT\naccept-version:1.2\n\n\0"


async def connect(broker: Leveret, scheme: str, context: ssl.SSLContext) -> trio.SSLStream:
    port = int(re.search(rf"\b{scheme}://127.0.0.1:(\d+)", broker.announced)[1])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    await stream.do_handshake()
    return stream


async def test_amqp_http_and_websocket_are_spoken_over_tls(tmp_path, files):
    async with leveret(tmp_path, *flags(files)) as broker:
        client = await Client(await connect(broker, "amqps", client_context())).login()
        await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
        assert await client.ended()
        browser = Browser(await connect(broker, "https", client_context()))
        assert (await browser.ask("/health")).status == 200
        page = await open_page(await connect(broker, "https", client_context()), Origin="https://localhost")
        assert await Client(page).login()
        assert await broker.stop() == 0
    assert "Traceback" not in broker.log


async def test_other_protocol_at_a_port_with_tls_is_no_trouble(tmp_path, files):
    async with leveret(tmp_path, *flags(files), "--set=tls.handshake_timeout=100") as broker:
        port = int(broker.announced.partition("amqps://127.0.0.1:")[2].partition(",")[0])
        for said in (PROTOCOL_HEADER, b""):
            plain = Client(await trio.open_tcp_stream("127.0.0.1", port))
            await plain.stream.send_all(said)
            while await plain.stream.receive_some():
                pass
        await Client(await connect(broker, "amqps", client_context())).login()
    assert broker.log.count("TLS handshake failed") == 2
    assert "it timed out" in broker.log


@pytest.mark.parametrize("context", [client_context(), client_context("guest", STRANGER)])
async def test_client_without_a_certificate_of_the_right_authority_is_turned_away(tmp_path, files, context):
    async with leveret(tmp_path, *flags(files, require_client_certificate="true")) as broker:
        client = Client(await connect(broker, "amqps", context))  # TLS 1.3: it learns of that later
        # Python 3.11.2 takes an end without close_notify for a regular one, later ones for a broken stream.
        with pytest.raises((trio.BrokenResourceError, Closed)):
            await client.login()
        await Client(await connect(broker, "amqps", client_context("guest"))).login()


async def start(broker: Leveret, user: str | None) -> tuple[Client, list[str]]:
    """A client with a certificate for this user, and the mechanisms that it is offered."""
    client = Client(await connect(broker, "amqps", client_context(user)))
    await client.stream.send_all(PROTOCOL_HEADER)
    return client, (await client.expect(m.ConnectionStart)).mechanisms.decode().split()


def external() -> m.ConnectionStartOk:
    properties = start_ok().client_properties
    return m.ConnectionStartOk(properties, "EXTERNAL", b"", "en_US")


async def test_certificate_proves_the_user(tmp_path, files):
    async with leveret(tmp_path, *flags(files, login_from="common_name")) as broker:
        client, mechanisms = await start(broker, "guest")
        assert mechanisms == ["PLAIN", "AMQPLAIN", "EXTERNAL"]
        await client.call(external(), m.ConnectionTune, channel=0)
        client, _ = await start(broker, "nobody")
        assert (await client.call(external(), m.ConnectionClose, channel=0)).reply_code == 403
        client, _ = await start(broker, "guest")
        await client.call(start_ok(), m.ConnectionTune, channel=0)
    assert "user='nobody'" in broker.log


async def test_stomp_is_spoken_over_tls_and_websocket_over_tls(tmp_path, files):
    listen = ["--stomps", "127.0.0.1:0", "--web-stomps", "127.0.0.1:0", "--set", "stomp.default_user="]
    async with leveret(tmp_path, *flags(files, login_from="common_name"), *listen) as broker:
        client = await connect(broker, "stomps", client_context("guest"))
        await client.send_all(STOMP_LOGIN)
        assert (await client.receive_some()).startswith(b"CONNECTED\n")
        stream = await connect(broker, "wss", client_context("guest"))
        page = await open_page(stream, "/ws", Sec_WebSocket_Protocol="v12.stomp")
        await page.send_all(STOMP_LOGIN)
        assert (await page.receive_some()).startswith(b"CONNECTED\n")
        stranger = await connect(broker, "stomps", client_context())
        await stranger.send_all(STOMP_LOGIN)
        assert b"there is no header 'login'" in await stranger.receive_some()
        assert await broker.stop() == 0
    assert "Traceback" not in broker.log


@pytest.mark.parametrize(("user", "login_from"), [(None, "common_name"), ("guest", "none")])
async def test_external_is_not_taken_where_nothing_was_proven(tmp_path, files, user, login_from):
    async with leveret(tmp_path, *flags(files, login_from=login_from)) as broker:
        client, mechanisms = await start(broker, user)
        assert mechanisms == ["PLAIN", "AMQPLAIN"]
        await client.send(external(), channel=0)
        assert await client.ended()


async def test_listening_with_tls_needs_a_certificate(tmp_path):
    async with leveret(tmp_path, "--amqp", "none", "--amqps", "127.0.0.1:0") as broker:
        assert await broker.ended() == 1
    assert broker.log.startswith("leveret: TLS needs a certificate")
    assert broker.log.count("\n") == 1


@pytest.mark.parametrize(
    ("scheme", "most", "settings"),
    [("amqps", 3, ["--set", "amqp.max_connections=3"]), ("https", HANDSHAKES, []), ("amqps", HANDSHAKES, [])],
)
async def test_those_in_the_handshake_of_tls_make_way_for_others(tmp_path, files, scheme, most, settings):
    async with leveret(tmp_path, *flags(files), *settings) as broker:
        port = int(re.search(rf"\b{scheme}://127.0.0.1:(\d+)", broker.announced)[1])
        flood = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(most)]
        for stream in flood[1:]:
            await stream.send_all(b"\x16\x03\x01")  # how a handshake begins
        with trio.fail_after(10):
            stream = await connect(broker, scheme, client_context())
            if scheme == "amqps":
                await Client(stream).login()
            else:
                assert (await Browser(stream).ask("/health")).status == 200
            assert await any_end(flood) == b""
        for stream in flood:
            await stream.aclose()


async def any_end(streams: list[trio.SocketStream]) -> bytes:
    """What the first of some streams brings that brings anything."""
    found: list[bytes] = []

    async def read(stream: trio.SocketStream) -> None:
        found.append(bytes(await stream.receive_some()))
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(read, stream)
    return found[0]
