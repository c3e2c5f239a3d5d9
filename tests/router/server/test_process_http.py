"""HTTP as ``leveret serve`` offers it."""

import pytest
import trio
from wsproto.events import BytesMessage, TextMessage

from tests.router.server.process import leveret
from tests.router.server.web import OPENING, Browser, open_page


async def test_broker_announces_serves_and_stops(tmp_path):
    async with leveret(tmp_path, "--amqp", "none", "--http", "127.0.0.1:0") as broker:
        port = int(broker.announced.rstrip().removeprefix("leveret is listening: http://127.0.0.1:"))
        browser = Browser(await trio.open_tcp_stream("127.0.0.1", port))
        assert (await browser.ask("/health")).status == 200
        assert (await browser.ask("/ready")).status == 200
        with trio.fail_after(2):
            assert await broker.stop() == 0
        assert await browser.ended()


@pytest.mark.parametrize(("kind", "message"), [("text", TextMessage), ("binary", BytesMessage)])
async def test_stomp_has_a_websocket_port_of_its_own(tmp_path, kind, message):
    flags = ["--amqp=none", "--web-stomp=127.0.0.1:0", f"--set=stomp.web_messages={kind}"]
    async with leveret(tmp_path, *flags) as broker:
        assert broker.announced.startswith("leveret is listening: ws://127.0.0.1:")
        assert broker.announced.endswith("/ws\n")
        port = int(broker.announced.split(":")[-1].partition("/")[0])
        browser = Browser(await trio.open_tcp_stream("127.0.0.1", port))
        assert (await browser.ask("/health")).status == 404
        assert (await browser.ask("/ws/amqp", **OPENING)).status == 404
        page = await open_page(browser.stream, "/ws", Sec_WebSocket_Protocol="v12.stomp")
        await page.send_all(b"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\n\n\0")
        page.wire.receive_data(await page.stream.receive_some(65536))
        (event,) = page.wire.events()
        assert isinstance(event, message)
        assert await broker.stop() == 0


async def test_busy_http_port_names_its_flag(tmp_path):
    async with leveret(tmp_path, "--amqp", "none", "--http", "127.0.0.1:0") as broker:
        address = broker.announced.rstrip().rpartition("/")[2]
        (tmp_path / "second").mkdir()
        async with leveret(tmp_path / "second", "--amqp", "none", "--http", address) as second:
            assert await second.ended() == 1
    assert second.log.startswith(f"leveret: cannot listen on {address}: the port is in use; ")
    assert "--http" in second.log


async def test_idle_connections_make_way(tmp_path):
    flags = ("--amqp", "none", "--http", "127.0.0.1:0", "--set", "http.max_connections=100")
    async with leveret(tmp_path, *flags) as broker:
        port = int(broker.announced.rstrip().rpartition(":")[2])
        idle = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(110)]
        for path in ("/health", "/ready", "/"):
            assert (await Browser(await trio.open_tcp_stream("127.0.0.1", port)).ask(path)).status == 200
        await open_page(await trio.open_tcp_stream("127.0.0.1", port))
        assert await idle[0].receive_some() == b""
    assert "Traceback" not in broker.log
