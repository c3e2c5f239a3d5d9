"""An HTTP client for the tests of the server, on any Trio stream."""

from dataclasses import dataclass
from functools import partial

import h11
import trio
import trio.testing
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from leveret.protocol.websocket import Text
from leveret.router.server.amqp import serve_amqp
from leveret.router.server.http import HttpSite
from leveret.router.server.places import Places
from leveret.router.server.request_bodies import BodyMemory
from leveret.router.server.response_memory import ResponseMemory
from leveret.router.server.stomp import serve_stomp
from leveret.router.server.websocket import Service
from leveret.router.web.pages import pages
from leveret.router.web.routes import HttpRoutes, Table
from tests.router.server.server import Server


@dataclass(frozen=True)
class Answer:
    """A response, with lower-case header names."""

    status: int
    headers: dict[str, str]
    body: bytes


class Browser:
    """Sends requests and reads answers; ``answer`` in the order in which they come."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.wire = h11.Connection(h11.CLIENT)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of this method whose bytes were sent already."""
        wire = self.wire
        if wire.our_state is h11.IDLE:
            wire.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
            wire.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                wire.receive_data(await self.stream.receive_some(65536))
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
                if isinstance(event, h11.InformationalResponse):
                    return Answer(status, headers, b"")
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                if wire.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    wire.start_next_cycle()
                return Answer(status, headers, body)
            else:
                raise AssertionError(f"{event} instead of an answer")

    async def answer_to_upgrade(self) -> Answer:
        """The answer to a request for a WebSocket, sent already."""
        headers = [("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
        self.wire.send(h11.Request(method="GET", target="/", headers=headers))
        self.wire.send(h11.EndOfMessage())
        return await self.answer()

    async def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Send a request and read its answer."""
        sent = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            sent["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        await self.stream.send_all(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return await (self.answer_to_upgrade() if "Upgrade" in headers else self.answer(method))

    async def ended(self) -> bool:
        """Whether the stream ends here."""
        return not await self.stream.receive_some()


class Page(trio.abc.Stream):
    """The client's end of an open WebSocket, as a stream; ``code`` and ``reason`` are those of its end.

    ``pongs`` counts the answers to pings; with ``deaf`` set, pings are not answered.
    """

    def __init__(self, stream: trio.abc.Stream, received: bytes = b"") -> None:
        self.stream = stream
        self.wire = Connection(ConnectionType.CLIENT, trailing_data=received)
        self.code: int | None = None
        self.reason: str | None = ""
        self.pongs = self.pings = 0
        self.deaf = False
        self._ready = b""

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.wire.send(event))

    async def send_all(self, data: bytes) -> None:
        """Send one message."""
        await self.send(BytesMessage(bytes(data)))

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The payload of the next messages; nothing at the end."""
        while not self._ready and self.code is None:
            for event in self.wire.events():
                await self._take(event)
            if not self._ready and self.code is None:
                data = await self.stream.receive_some(65536)
                self.wire.receive_data(bytes(data) or None)
        data, self._ready = self._ready, b""
        return data

    async def _take(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._ready += event.data
        elif isinstance(event, TextMessage):
            self._ready += event.data.encode()
        elif isinstance(event, Ping):
            self.pings += 1
            if not self.deaf:
                await self.send(event.response())
        elif isinstance(event, Pong):
            self.pongs += 1
        elif isinstance(event, CloseConnection):
            self.code, self.reason = event.code, event.reason

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()


STOMP_VERSIONS = ("v12.stomp", "v11.stomp", "v10.stomp")
OPENING = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Protocol": "amqp",
}


async def open_page(stream: trio.abc.Stream, path: str = "/ws/amqp", **headers: str) -> Page:
    """Open a WebSocket."""
    browser = Browser(stream)
    answer = await browser.ask(path, **(OPENING | headers))
    assert answer.status == 101, answer
    return Page(stream, browser.wire.trailing_data[0])


def make_site(server: Server, *tables: Table) -> HttpSite:
    """The pages of a broker, AMQP over WebSocket, and other tables."""
    settings = server.broker.settings
    serve = partial(serve_amqp, driver=server.driver, offer=server.offer)
    amqp = Service(("amqp",), serve, Places(settings.amqp.max_connections))
    places = Places(settings.http.max_connections)
    bodies = BodyMemory(settings.http.max_bodies_size)
    responses = ResponseMemory(settings.http.max_responses_size)
    stomp = Service(STOMP_VERSIONS, partial(serve_stomp, driver=server.driver), Places(0), Text.SENT)
    services = {"/ws/amqp": amqp, "/ws/stomp": stomp}
    routes = HttpRoutes(pages(server.broker), *tables)
    return HttpSite(server.driver, routes, places, bodies, responses, services)
