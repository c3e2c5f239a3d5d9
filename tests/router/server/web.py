"""An HTTP client for the tests of the server, on any Trio stream."""

from dataclasses import dataclass

import h11
import trio
import trio.testing

from router.server.http import Site
from router.server.listeners import Places
from router.server.peer import Peer
from router.web.pages import pages
from router.web.routes import Routes, Table
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

    async def ask(self, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        """Send a request and read its answer."""
        sent = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            sent["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        await self.stream.send_all(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return await self.answer(method)

    async def ended(self) -> bool:
        """Whether the stream ends here."""
        return not await self.stream.receive_some()


def make_site(server: Server, *tables: Table) -> Site:
    """The pages of a broker, and other tables."""
    places = Places(server.broker.settings.http.max_connections)
    return Site(server.driver, Routes(pages(server.broker), *tables), places)


def make_peer(*, local: bool = True) -> Peer:
    return Peer("test:1", True, None, local)
