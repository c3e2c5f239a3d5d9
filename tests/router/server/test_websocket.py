"""AMQP and STOMP over WebSocket: over memory streams, with a clock that does not wait."""

from itertools import pairwise

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.router.queue.delivery import DRAIN_BYTES
from leveret.router.server.broker_lifecycle import close_clients
from leveret.router.server.client_tasks import LINGER
from leveret.router.server.http import HttpSite, serve_http
from leveret.router.settings import Amqp, Settings, Websocket
from leveret.router.settings import Server as ServerSettings
from tests.router.server.client import Client, publish_frames
from tests.router.server.server import Peer
from tests.router.server.web import OPENING, Browser, Page, make_site, open_page

pytestmark = pytest.mark.usefixtures("logged")

HIGH = 1 << 18
IDLE = 500.0
SETTINGS = Websocket()
INTERVAL, PATIENCE = SETTINGS.ping_interval / 1000, SETTINGS.ping_timeout / 1000
STUCK = SETTINGS.send_timeout / 1000


@pytest.fixture
def settings() -> Settings:
    return Settings(
        amqp=Amqp(max_connections=3),
        websocket=Websocket(idle_timeout=int(IDLE * 1000), max_message_size=1 << 20),
        server=ServerSettings(outbox_high=HIGH, outbox_low=1 << 16),
    )


@pytest.fixture
def site(server) -> HttpSite:
    return make_site(server)


@pytest.fixture
def connect(site, nursery):
    def run(pair=trio.testing.memory_stream_pair) -> trio.abc.Stream:
        mine, its = pair()
        nursery.start_soon(serve_http, its, Peer(), site)
        return mine

    return run


@pytest.fixture
def page(connect):
    async def run(pair=trio.testing.memory_stream_pair, **headers: str) -> Page:
        return await open_page(connect(pair), **headers)

    return run


async def ended(page: Page) -> tuple[int | None, float]:
    """With which code the WebSocket ends, and after how many seconds."""
    start = trio.current_time()
    while await page.receive_some():
        pass
    return page.code, trio.current_time() - start


# -- AMQP ----------------------------------------------------------------------------------------------------


async def test_amqp_is_spoken(autojump_clock, page, server):
    client = await Client(await page()).login()
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await client.publish("q", bytes(200_000))
    await client.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    assert await client.delivered() == bytes(200_000)
    await client.call(m.ConnectionClose(), m.ConnectionCloseOk, channel=0)
    assert await client.ended()
    assert client.stream.code == 1000
    assert not server.broker.clients


async def test_frames_may_span_and_share_messages(autojump_clock, page):
    client = await Client(await page()).login()
    frames = (
        method_frame(1, m.QueueDeclare("q")) + publish_frames("q", b"body") + method_frame(1, m.BasicGet("q"))
    )
    for octet in frames:
        await client.stream.send_all(bytes([octet]))
    await client.stream.send_all(frames + frames)
    for _ in range(3):
        await client.expect(m.QueueDeclareOk)
        assert await client.delivered() == b"body"


async def test_messages_may_be_fragmented_with_pings_between(autojump_clock, page):
    stream = await page()
    client = await Client(stream).login()
    declare = method_frame(1, m.QueueDeclare("q"))
    await stream.send(BytesMessage(declare[:5], message_finished=False))
    await stream.send(Ping(b"x"))
    await stream.send(BytesMessage(declare[5:]))
    await client.expect(m.QueueDeclareOk)
    assert stream.pongs == 1


async def test_bytes_behind_the_opening_are_read(autojump_clock, connect):
    stream = connect()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in OPENING.items())
    opening = f"GET /ws/amqp HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()
    early = Page(stream)
    await stream.send_all(opening + early.wire.send(BytesMessage(PROTOCOL_HEADER)))
    browser = Browser(stream)
    assert (await browser.answer_to_upgrade()).status == 101
    early.wire.receive_data(browser.wire.trailing_data[0])
    await Client(early).expect(m.ConnectionStart)


# -- the end -------------------------------------------------------------------------------------------------


async def test_page_that_closes_is_answered_and_its_messages_come_back(autojump_clock, page, server):
    client = await Client(await page()).login()
    other = await Client(await page()).login()
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await client.publish("q")
    await client.call(m.BasicConsume("q"), m.BasicConsumeOk)
    await client.delivered()
    await client.stream.send(CloseConnection(1001))
    assert await ended(client.stream) == (1001, pytest.approx(0, abs=0.1))
    assert not await client.stream.stream.receive_some()
    assert await other.count("q") == 1


async def test_page_that_vanishes_is_gone(autojump_clock, page, server):
    client = await Client(await page()).login()
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert not server.broker.clients


@pytest.mark.parametrize(
    ("event", "code"),
    [(TextMessage("AMQP"), 1003), (BytesMessage(HEARTBEAT * (1 << 18)), 1009), (b"\xc2\x80\0\0\0\0", 1002)],
)
async def test_fault_of_a_page_closes_it_with_the_reason(autojump_clock, page, server, event, code):
    stream = (await Client(await page()).login()).stream
    if isinstance(event, bytes):
        await stream.stream.send_all(event)
    else:
        await stream.send(event)
    await stream.stream.send_all(bytes(100_000))
    assert (await ended(stream))[0] == code
    await trio.testing.wait_all_tasks_blocked()
    assert not server.broker.clients


async def test_stopping_closes_websockets_with_1001(autojump_clock, page, server, site):
    client = await Client(await page()).login()
    close_clients(server.driver)
    site.stop()
    await client.expect(m.ConnectionClose)
    await client.send(m.ConnectionCloseOk(), channel=0)
    assert (await ended(client.stream))[0] == 1001


async def test_unfinished_login_ends_after_its_time(autojump_clock, page, server):
    code, after = await ended(await page())
    assert code == 1000
    assert after == pytest.approx(server.broker.settings.amqp.handshake_timeout / 1000, abs=0.1)


# -- time ----------------------------------------------------------------------------------------------------


async def test_page_that_answers_pings_stays_until_it_is_idle_for_too_long(autojump_clock, page):
    client = await Client(await page()).login()
    code, after = await ended(client.stream)
    assert (code, client.stream.reason) == (1001, "idle for too long")
    assert IDLE <= after <= IDLE + INTERVAL
    assert client.stream.pings >= IDLE / (INTERVAL + PATIENCE)


async def test_page_that_answers_no_ping_is_let_go(autojump_clock, page, server):
    client = await Client(await page()).login()
    client.stream.deaf = True
    code, after = await ended(client.stream)
    assert code == 1011
    assert INTERVAL + PATIENCE <= after <= INTERVAL + 2 * PATIENCE


async def test_publisher_that_is_not_read_from_is_not_silent(autojump_clock, page, server):
    client = await Client(await page()).login()
    await client.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    server.broker.alarms.set("memory", raised=True)
    await client.publish("q")
    await trio.sleep(3 * (INTERVAL + PATIENCE))
    assert server.broker.clients
    server.broker.alarms.set("memory", raised=False)
    server.driver.end()
    await client.expect(m.ConnectionBlocked)
    await client.expect(m.ConnectionUnblocked)
    assert await client.count("q") == 1


# -- pages that do not read ----------------------------------------------------------------------------------


async def fill(server, page, body: bytes = bytes(30_000), count: int = 100) -> tuple[Client, Client]:
    """A page that consumes without acknowledging and does not read, and the publisher of what it gets."""
    slow = await Client(await page(trio.testing.lockstep_stream_pair)).login()
    quick, _ = server.connect()
    await quick.login()
    await quick.call(m.QueueDeclare("q"), m.QueueDeclareOk)
    await slow.call(m.BasicConsume("q", no_ack=True), m.BasicConsumeOk)
    for _ in range(count):
        await quick.publish("q", body)
    await quick.count("q")
    return slow, quick


async def test_page_that_does_not_read_costs_no_more_than_its_mark(autojump_clock, page, server):
    slow, quick = await fill(server, page)
    sizes = [connection.outbox.size for connection in server.broker.clients]
    assert max(sizes) < HIGH + DRAIN_BYTES + 30_000
    assert await quick.count("q") > 50
    for _ in range(100):
        assert await slow.delivered() == bytes(30_000)


async def test_page_that_does_not_read_for_too_long_is_let_go(autojump_clock, page, server):
    slow, _ = await fill(server, page)
    await trio.sleep(STUCK + PATIENCE + LINGER + 1)
    assert len(server.broker.clients) == 1
    with pytest.raises((trio.BrokenResourceError, AssertionError)):
        assert (await ended(slow.stream))[0] not in (None, 1006)


async def test_page_that_does_not_even_take_a_ping_is_let_go(autojump_clock, page, server):
    await Client(await page(trio.testing.lockstep_stream_pair)).login()
    await trio.sleep(INTERVAL + STUCK + PATIENCE + LINGER + 1)
    assert not server.broker.clients


async def test_page_that_reads_again_gets_the_reason_of_its_close(autojump_clock, page, server):
    slow, _ = await fill(server, page)
    await trio.sleep(STUCK + 1)
    code, _ = await ended(slow.stream)
    assert (code, slow.stream.reason) == (1008, "data was not read")


# -- who may come in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Upgrade": "h2c"}, 426),
        ({"Sec_WebSocket_Protocol": "mqtt"}, 400),
    ],
)
async def test_opening_is_refused_and_the_connection_goes_on(autojump_clock, connect, headers, status):
    browser = Browser(connect())
    assert (await browser.ask("/ws/amqp", **(OPENING | headers))).status == status
    assert (await browser.ask("/health")).status == 200


@pytest.mark.parametrize("path", ["/ws", "/ws/amqp/"])
async def test_nothing_is_spoken_elsewhere(autojump_clock, connect, path):
    assert (await Browser(connect()).ask(path, **OPENING)).status == 404


async def test_page_of_this_machine_may_connect(autojump_clock, page):
    await Client(await page(Origin="http://localhost:3000")).login()


async def test_pages_beyond_the_most_connections_are_refused(autojump_clock, page, connect):
    pages = [await page() for _ in range(3)]
    for each in pages:
        await Client(each).login()
    assert (await Browser(connect()).ask("/ws/amqp", **OPENING)).status == 503
    await pages[0].aclose()
    await trio.testing.wait_all_tasks_blocked()
    await page()


async def test_openings_that_began_before_the_last_place_was_taken_are_refused(autojump_clock, page, connect):
    late = [Browser(connect()) for _ in range(2)]
    head = "GET /ws/amqp HTTP/1.1\r\nHost: localhost\r\n" + "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in OPENING.items()
    )
    for each in late:
        await each.stream.send_all(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()
    pages = [await page() for _ in range(3)]
    for each in pages:
        await Client(each).login()
    for each in late:
        await each.stream.send_all(b"0\r\n\r\n")
        assert (await each.answer()).status == 503
    assert len(pages) == 3


async def test_pages_that_do_not_log_in_make_way(autojump_clock, page):
    pages = [await page() for _ in range(4)]
    assert await pages[0].receive_some() == b""
    for each in pages[1:]:
        await Client(each).login()


async def test_a_page_takes_no_place_of_requests(autojump_clock, page, site):
    await page()
    assert site.places.taken == 0


# -- STOMP ---------------------------------------------------------------------------------------------------

CONNECT = "CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0"
SUBSCRIBE = "SUBSCRIBE\nid:0\ndestination:/queue/q\nreceipt:r\n\n\0"
RECEIPT = b"RECEIPT\nreceipt-id:r\n\n\0\n"


async def stomp_page(connect, pair=trio.testing.memory_stream_pair) -> Page:
    return await open_page(connect(pair), "/ws/stomp", Sec_WebSocket_Protocol="v12.stomp")


async def stomp_subscriber(connect, pair=trio.testing.memory_stream_pair) -> Page:
    page = await stomp_page(connect, pair)
    await page.send(TextMessage(CONNECT))
    assert b"\nversion:1.2\n" in await page.receive_some()
    await page.send(TextMessage(SUBSCRIBE))
    assert await page.receive_some() == RECEIPT
    return page


async def test_stomp_is_spoken_in_text_messages(autojump_clock, connect, server):
    page = await stomp_subscriber(connect)
    await page.send(TextMessage("SEND\ndestination:/queue/q\n\nhello\0"))
    assert (await page.receive_some()).endswith(b"\n\nhello\0\n")
    await page.send(TextMessage("DISCONNECT\n\n\0"))
    assert await page.receive_some() == b""
    assert page.code == 1000


async def test_stomp_frames_may_span_and_share_messages_of_either_kind(autojump_clock, connect):
    page = await stomp_page(connect)
    text = CONNECT + SUBSCRIBE + "SEND\ndestination:/queue/q\n\né𝄞\0\n"
    cuts = [0, 3, 20, len(CONNECT) + 5, len(text) - 4, len(text)]
    for index, (start, end) in enumerate(pairwise(cuts)):
        part = text[start:end]
        await page.send(BytesMessage(part.encode()) if index % 2 else TextMessage(part))
    received = b""
    while not received.endswith(b"\0\n") or b"MESSAGE" not in received:
        received += await page.receive_some()
    assert received.endswith("\n\né𝄞\0\n".encode())


async def test_stomp_fragments_may_have_pings_between_and_end_within_a_character(autojump_clock, connect):
    page = await stomp_subscriber(connect)
    frame = "SEND\ndestination:/queue/q\n\né\0".encode()
    cut = frame.index("é".encode()) + 1
    await page.send(BytesMessage(frame[:cut], message_finished=False))
    await page.send(Ping(b"x"))
    await page.send(BytesMessage(frame[cut:]))
    assert (await page.receive_some()).endswith("\n\né\0\n".encode())
    assert page.pongs == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x81\x82\0\0\0\0\xce\xff", 1007, id="6.3 text that is not UTF-8"),
        pytest.param(b"\xc1\x81\0\0\0\0x", 1002, id="3.7 reserved bit"),
        pytest.param(b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126), 1002, id="2.5 ping of 126"),
        pytest.param(b"\x80\x81\0\0\0\0x", 1002, id="5.9 continuation of nothing"),
    ],
)
async def test_fault_of_a_stomp_page_gets_an_error_and_keeps_its_messages(
    autojump_clock, connect, server, data, code
):
    page = await stomp_subscriber(connect)
    await page.send(TextMessage("SEND\ndestination:/queue/other\nreceipt:r\n\nkept\0"))
    assert await page.receive_some() == RECEIPT
    await page.stream.send_all(data)
    assert (await ended(page))[0] == code
    await page.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert not server.broker.clients
    other, _ = server.connect()
    await other.login()
    assert await other.count("other") == 1


async def test_stomp_error_is_read_before_the_close(autojump_clock, connect):
    page = await stomp_subscriber(connect)
    await page.send(TextMessage("SEND\ndestination:/nowhere/at/all\n\n\0"))
    assert (await page.receive_some()).startswith(b"ERROR\nmessage:Unknown destination\n")
    assert (await ended(page))[0] == 1000


async def test_stomp_page_that_does_not_log_in_gets_an_error_before_the_close(autojump_clock, connect):
    page = await stomp_page(connect)
    start = trio.current_time()
    data = await page.receive_some()
    assert data.startswith(b"ERROR\nmessage:Login timeout\n")
    assert trio.current_time() - start == pytest.approx(Amqp().handshake_timeout / 1000, abs=0.1)
    assert (await ended(page))[0] == 1000


async def test_stomp_page_that_does_not_read_is_paused_and_then_let_go(autojump_clock, connect, server):
    slow = await stomp_subscriber(connect, trio.testing.lockstep_stream_pair)
    quick, _ = server.connect()
    await quick.login()
    for _ in range(100):
        await quick.publish("q", bytes(30_000))
    assert await quick.count("q") > 50
    assert max(client.outbox.size for client in server.broker.clients) < HIGH + DRAIN_BYTES + 60_000
    await trio.sleep(STUCK + 1)
    code, _ = await ended(slow)
    assert (code, slow.reason) == (1008, "data was not read")
