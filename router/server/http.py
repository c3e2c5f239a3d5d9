"""One HTTP client: reads requests, has the routes answer them, sends the answers, one after another.

Owns how long each of that may take, and the one exception boundary of such a connection. A request that asks
for a WebSocket leaves the connection to whoever speaks there.
"""

from dataclasses import dataclass, field, replace
from email.utils import formatdate

import structlog
import trio

from protocol.http import HttpConnection, HttpError, Limits, Request, Response
from router.server.amqp import BROKEN, LINGER
from router.server.driver import Driver
from router.server.listeners import Places
from router.server.peer import Peer
from router.web.guard import check_host, check_origin
from router.web.routes import Route, Routes

PIECE = 1 << 16  # bytes of an answer that a client must take in one request_timeout
BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods whose body means nothing
ALWAYS = (("Server", "leveret"), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))


@dataclass
class Site:
    """All that is served over HTTP, whatever the listener. ``stop`` ends connections once they are idle."""

    driver: Driver
    routes: Routes
    places: Places
    stopping: bool = False
    idle: set[trio.CancelScope] = field(default_factory=set)

    def stop(self) -> None:
        """The broker stops: who asks nothing is let go at once, others when they are answered."""
        self.stopping = True
        for scope in self.idle:
            scope.cancel()


async def serve_http(stream: trio.abc.HalfCloseableStream, peer: Peer, site: Site) -> None:
    """Serve one client until either side is done. Nothing that goes wrong here reaches another connection."""
    log = structlog.get_logger().bind(peer=peer.name)
    try:
        async with stream:
            with site.places.take() as taken:
                if not taken:
                    log.warning("connection refused", reason=f"{site.places.most} HTTP connections are open")
                    return
                await _Conversation(stream, peer, site).run()
    except* (*BROKEN, trio.TooSlowError) as group:
        log.debug("connection broken", error=str(group.exceptions[0]))
    except* Exception as group:
        log.error("connection failed", exc_info=group)


class _Conversation:
    """One connection's requests and answers."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, peer: Peer, site: Site) -> None:
        broker = site.driver.broker
        self._stream = stream
        self._peer = peer
        self._site = site
        self._settings = broker.settings.http
        self._read_size = broker.settings.server.read_size
        self._patience = self._settings.request_timeout / 1000  # seconds
        self._wire = HttpConnection(
            Limits(self._settings.max_header_size), self._screen, loopback=peer.loopback
        )
        self._route: Route | None = None
        self._log = structlog.get_logger().bind(peer=peer.name)

    async def run(self) -> None:
        """Answer requests until the connection is to be closed, then close it so that none is lost."""
        while not self._wire.finished:
            method = "GET"
            try:
                request = await self._next_request()
                if request is None:
                    return
                method = request.method
                response = self._answer(request)
            except HttpError as error:
                self._log.debug("request refused", status=error.status, reason=error.text)
                response = error.response
            await self._send(response, method)
        await self._stream.send_eof()
        with trio.move_on_after(LINGER):
            while await self._stream.receive_some():
                pass

    def _screen(self, request: Request) -> int:
        """Refuse what nobody answers, and who may not ask, before a body is read; say how large it may be."""
        if self._peer.local:
            check_host(request, self._settings.hosts)
        check_origin(request, self._settings.origins)
        self._route = self._site.routes.find(request)
        small = request.method in BODILESS
        return self._settings.max_header_size if small else self._settings.max_body_size

    async def _next_request(self) -> Request | None:
        """The next request; None when there is none, or it took too long to begin. HttpError in its midst."""
        wire, begun = self._wire, False
        with trio.move_on_after(self._settings.idle_timeout / 1000) as scope:
            self._site.idle.add(scope)
            if self._site.stopping:
                scope.cancel()
            try:
                while (request := wire.next_request()) is None and not wire.finished:
                    if not (begun or wire.idle):
                        begun = True
                        scope.deadline = trio.current_time() + self._patience
                        self._site.idle.discard(scope)
                    if (answer := wire.take_continue()) is not None:
                        await self._stream.send_all(answer)
                    wire.receive(bytes(await self._stream.receive_some(self._read_size)))
                return request
            finally:
                self._site.idle.discard(scope)
        if begun:
            raise HttpError(408)
        return None

    def _answer(self, request: Request) -> Response:
        """What the route answers, as a batch of its own. What fails there is logged, and told as a 500."""
        assert self._route is not None
        driver = self._site.driver
        driver.begin()
        try:
            response = self._route(request)
        except HttpError as error:
            response = error.response
        except Exception as error:
            self._log.error("request failed", method=request.method, path=request.path, exc_info=error)
            response = HttpError(500, "the broker failed; its log says why").response
        finally:
            driver.end()
        self._log.debug("request", method=request.method, path=request.path, status=response.status)
        return response

    async def _send(self, response: Response, method: str) -> None:
        """Send an answer; a client that takes none of it for too long is let go."""
        date = ("Date", formatdate(self._site.driver.broker.wall, usegmt=True))
        response = replace(response, headers=(date, *ALWAYS, *response.headers))
        data = self._wire.respond(response, method, close=self._site.stopping)
        for start in range(0, len(data), PIECE):
            with trio.fail_after(self._patience):
                await self._stream.send_all(data[start : start + PIECE])
