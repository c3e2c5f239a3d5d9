"""A connection that sends whatever it is given, beside pages that nothing of it may concern."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog
import trio
import trio.testing

from leveret.protocol.amqp import methods as m
from leveret.protocol.stomp.frames import Frame, FrameLimits, FrameReader
from leveret.router.management.api import table
from leveret.router.management.call import ApiContext
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.latency import LatencyRecorder
from leveret.router.management.statistics.rates import Sampler
from leveret.router.server.http import serve_http
from leveret.router.settings import Settings
from tests.router.management.api import FakeNode
from tests.router.server.client import Client
from tests.router.server.server import Peer, Server
from tests.router.server.web import Page, make_site, open_page

PATIENCE = 3600  # seconds of a clock that does not wait
PIECES = 3

Begin = Callable[[trio.StapledStream], Awaitable[None]]


def beside(sent: bytes, begin: Begin, settings: Settings, *, cut: bool) -> None:
    """A client of the HTTP listener begins and then sends this, while one page speaks AMQP and another STOMP.

    It comes to an end when the client has sent all, or hangs up with ``cut``; the pages are served before and
    after, and nothing is logged as an error.
    """
    run = partial(_run, sent, begin, settings, cut=cut)
    with structlog.testing.capture_logs() as logged:
        trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not [each for each in logged if each["log_level"] in ("error", "critical")], logged


async def _run(sent: bytes, begin: Begin, settings: Settings, *, cut: bool) -> None:
    async with trio.open_nursery() as nursery:
        server = Server(settings, nursery)
        broker = server.broker
        context = ApiContext(broker, FakeNode(), Sampler(broker), BrokerStatistics(broker, LatencyRecorder))
        site = make_site(server, table(context))

        def connect() -> tuple[trio.StapledStream, trio.Event]:
            mine, its = trio.testing.memory_stream_pair()
            over = trio.Event()

            async def serve() -> None:
                await serve_http(its, Peer(), site)
                over.set()

            nursery.start_soon(serve)
            return mine, over

        pages = Pages()
        await pages.log_in(connect()[0], connect()[0])
        stream, over = connect()
        await begin(stream)
        step = len(sent) // PIECES + 1
        for at in range(0, len(sent), step):
            with suppress(trio.BrokenResourceError):  # it has been given up
                await stream.send_all(sent[at : at + step])
            await pages.are_served()
        await (stream.aclose() if cut else stream.send_eof())
        with trio.fail_after(PATIENCE):
            await over.wait()
        await pages.are_served()
        assert len(broker.clients) == len(("amqp", "stomp"))
        nursery.cancel_scope.cancel()


class StompPage:
    """A client of STOMP 1.2 over WebSocket."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._reader = FrameReader(FrameLimits())

    async def log_in(self) -> None:
        connect = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0"
        assert (await self.ask(connect)).command == "CONNECTED"

    async def ask(self, sent: bytes) -> Frame:
        """Send this, and return the frame that comes."""
        await self._page.send_all(sent)
        while (found := self._reader.next_frame()) is None:
            data = await self._page.receive_some()
            assert data, f"the WebSocket ended with {self._page.code}"
            self._reader.feed(data)
        return found


class Pages:
    """A page that speaks AMQP and one that speaks STOMP."""

    async def log_in(self, amqp: trio.StapledStream, stomp: trio.StapledStream) -> None:
        self._amqp = await Client(await open_page(amqp)).login()
        await self._amqp.call(m.QueueDeclare("bystander", exclusive=True), m.QueueDeclareOk)
        self._stomp = StompPage(await open_page(stomp, "/ws/stomp", Sec_WebSocket_Protocol="v12.stomp"))
        await self._stomp.log_in()

    async def are_served(self) -> None:
        await self._amqp.call(m.QueueDeclare("bystander", passive=True), m.QueueDeclareOk)
        asked = b"SEND\ndestination:/topic/bystander\nreceipt:r\n\nx\0"
        assert await self._stomp.ask(asked) == Frame("RECEIPT", {"receipt-id": "r"})
