"""HTTP as ``leveret serve`` offers it."""

import trio

from tests.router.server.process import leveret
from tests.router.server.web import Browser


async def test_broker_announces_serves_and_stops(tmp_path):
    async with leveret(tmp_path, "--amqp", "none", "--http", "127.0.0.1:0") as broker:
        port = int(broker.announced.rstrip().removeprefix("leveret is listening: http://127.0.0.1:"))
        browser = Browser(await trio.open_tcp_stream("127.0.0.1", port))
        assert (await browser.ask("/health")).status == 200
        with trio.fail_after(2):
            assert await broker.stop() == 0
        assert await browser.ended()


async def test_busy_http_port_names_its_flag(tmp_path):
    async with leveret(tmp_path, "--amqp", "none", "--http", "127.0.0.1:0") as broker:
        address = broker.announced.rstrip().rpartition("/")[2]
        (tmp_path / "second").mkdir()
        async with leveret(tmp_path / "second", "--amqp", "none", "--http", address) as second:
            assert await second.ended() == 1
    assert second.log.startswith(f"leveret: cannot listen on {address}: the port is in use; ")
    assert "--http" in second.log
