"""One HTTP client: reads requests, has the routes answer them, sends the answers, one after another.

Owns how long each of that may take, and the one exception boundary of such a connection. A request that asks
for a WebSocket leaves the connection to whoever speaks there.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TypeVar

import structlog
import trio

from protocol.http import HttpConnection, HttpError, Limits, Request, Response
from protocol.websocket import Opening, accept
from router.server.driver import Driver
from router.server.listeners import Places
from router.server.peer import Peer
from router.server.serving import BROKEN, LINGER
from router.server.websocket import GOING_AWAY, Service, Upgrade, WebSocketStream, serve_websocket
from router.web.guard import check_host, check_origin
from router.web.routes import Route, Routes
from router.web.steps import Step, Steps, Wait

GLIMPSE = 1  # seconds that a client which is one too many has to ask something
PIECE = 1 << 16  # bytes of an answer that a client must take in one request_timeout
BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods whose body means nothing
T = TypeVar("T")
ALWAYS = (
    ("Server", "leveret"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


@dataclass
class Site:
    """All that is served over HTTP, whatever the listener. ``services`` has what is spoken over WebSocket, by
    path; ``places`` are for requests: a WebSocket takes one of its service's instead.
    """

    driver: Driver
    routes: Routes
    places: Places
    services: Mapping[str, Service] = field(default_factory=dict)
    stopping: bool = False
    idle: set[trio.CancelScope] = field(default_factory=set)
    sockets: set[WebSocketStream] = field(default_factory=set)

    def stop(self) -> None:
        """The broker stops: who asks nothing is let go at once, others when they are answered. WebSockets are
        ended by what is spoken there.
        """
        self.stopping = True
        for scope in self.idle:
            scope.cancel()
        for socket in self.sockets:
            socket.close_code = GOING_AWAY


async def serve_http(stream: trio.abc.HalfCloseableStream, peer: Peer, site: Site) -> None:
    """Serve one client until either side is done. Nothing that goes wrong here reaches another connection."""
    log = structlog.get_logger().bind(peer=peer.name)
    try:
        async with stream:
            with site.places.take() as taken:
                conversation = _Conversation(stream, peer, site)
                upgrade = await (conversation.run() if taken else conversation.refuse())
            if upgrade is not None:
                settings = site.driver.broker.settings
                await serve_websocket(stream, peer, upgrade, settings, site.sockets)
    except* (*BROKEN, trio.TooSlowError) as group:
        log.debug("connection broken", error=str(group.exceptions[0]))
    except* Exception as group:
        log.error("connection failed", exc_info=group)


class _Conversation:
    """One connection's requests and answers."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, peer: Peer, site: Site) -> None:
        self._broker = broker = site.driver.broker
        self._stream = stream
        self._peer = peer
        self._site = site
        self._read_size = broker.settings.server.read_size
        self._leisure = broker.settings.http.idle_timeout / 1000  # seconds
        self._patience = broker.settings.http.request_timeout / 1000
        limits = Limits(broker.settings.http.max_header_size)
        self._wire = HttpConnection(limits, self._screen, loopback=peer.loopback, host=peer.ends.peer[0])
        # What the request that is being read is for.
        self._route: Route | None = None
        self._service: Service | None = None
        self._opening: Opening | None = None
        self._proof: Steps[None] | None = None
        self._heard = False  # whether the next request has begun to come already
        self._log = structlog.get_logger().bind(peer=peer.name)

    async def refuse(self) -> None:
        """Answer that there are too many. What has been asked is not looked at; an answer that comes before
        it has been sent may be lost.
        """
        reason = f"{self._site.places.most} HTTP connections are open"
        self._log.warning("connection refused", reason=reason)
        with trio.move_on_after(GLIMPSE):
            await self._stream.receive_some(self._read_size)
        await self._send(HttpError(503, reason, (("Retry-After", "1"),)).response, last=True)

    async def run(self) -> Upgrade | None:
        """Answer requests until the connection is to be closed, then close it so that none is lost; or until
        one is for a WebSocket.
        """
        while not self._wire.finished:
            try:
                request = await self._next_request()
                if request is None:
                    return None
                if self._service is not None and self._opening is not None:
                    return self._upgrade(self._service, self._opening, request)
                response = await self._answer(request)
            except HttpError as error:
                self._log.debug("request refused", status=error.status, reason=error.text)
                response = error.response
            await self._send(response)
        with trio.move_on_after(LINGER):
            await self._stream.send_eof()
            while await self._stream.receive_some():
                pass
        return None

    def _upgrade(self, service: Service, opening: Opening, request: Request) -> Upgrade:
        """Agree to a WebSocket. Raises HttpError when there are too many."""
        if service.places.full:
            raise HttpError(503, f"{service.places.most} connections are open", (("Retry-After", "1"),))
        return Upgrade(service, opening, request.loopback, *self._wire.switch(opening.headers))

    def _screen(self, request: Request) -> int:
        """Refuse what nobody answers, and who may not ask, before a body is read; say how large it may be."""
        settings, self._proof = self._broker.settings, None
        if self._peer.local:
            check_host(request, settings.http.hosts)
        check_origin(request, settings.http.origins)
        self._service = service = self._site.services.get(request.path)
        if service is not None:
            self._opening = accept(request, service.protocols, compression=settings.websocket.compression)
            return 0
        self._route = self._site.routes.find(request)
        self._route.screen(request)
        self._proof = self._route.prove(request)
        return settings.http.max_header_size if request.method in BODILESS else settings.http.max_body_size

    async def _next_request(self) -> Request | None:
        """The next request; None when there is none, or it took too long to begin. HttpError in its midst."""
        wire, begun = self._wire, False
        with trio.move_on_after(self._leisure) as scope:
            self._site.idle.add(scope)
            if self._site.stopping:
                scope.cancel()
            try:
                while (request := wire.next_request()) is None and not wire.finished:
                    if not (begun or wire.idle):
                        begun = True
                        scope.deadline = trio.current_time() + self._patience
                        self._site.idle.discard(scope)
                    proof, self._proof = self._proof, None
                    if proof is not None:
                        await self._finish(proof)
                    if (answer := wire.take_continue()) is not None:
                        await self._stream.send_all(answer)
                    wire.receive(bytes(await self._stream.receive_some(self._read_size)))
                return request
            finally:
                self._site.idle.discard(scope)
        if begun:
            raise HttpError(408)
        return None

    async def _answer(self, request: Request) -> Response:
        """What the route answers, each step a batch of its own. What fails is logged, and told as a 500."""
        assert self._route is not None
        self._heard = False
        try:
            with self._batch():
                answer = self._route(request)
            if isinstance(answer, Response):
                response = answer
            else:
                response = await self._finish(answer)
        except HttpError as error:
            response = error.response
        except BROKEN:
            raise
        except Exception as error:
            self._log.error("request failed", method=request.method, path=request.path, exc_info=error)
            response = HttpError(500, "the broker failed; its log says why").response
        self._log.debug("request", method=request.method, path=request.path, status=response.status)
        return response

    async def _finish(self, steps: Steps[T]) -> T:
        """Take the steps of an answer, waiting in between for what they say."""
        with closing(steps):
            while True:
                try:
                    with self._batch():
                        step = next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
                await self._wait(step)

    async def _wait(self, step: Step) -> None:
        """Wait for what a step says; no longer than the patience lasts, if it is for something to happen.

        A client that hangs up while time passes ends it: nobody would read the answer.
        """
        if not isinstance(step, Wait):
            if not step or self._heard:
                await trio.sleep(step)
                return
            with trio.move_on_after(step):
                await self._listen()
        elif not step.done:
            event = trio.Event()
            step.notify = event.set
            with trio.move_on_after(self._patience):
                await event.wait()

    async def _listen(self) -> None:
        """Notice that the client hangs up; of a request that comes already no more is read than once."""
        data = bytes(await self._stream.receive_some(self._read_size))
        if not data:
            raise trio.BrokenResourceError("the client hung up before it was answered")
        self._wire.receive(data)
        self._heard = True
        await trio.sleep_forever()

    @contextmanager
    def _batch(self) -> Iterator[None]:
        """Let what is done in the block be a batch."""
        self._site.driver.begin()
        try:
            yield
        finally:
            self._site.driver.end()

    async def _send(self, response: Response, *, last: bool = False) -> None:
        """Send an answer; a client that takes none of it for too long is let go."""
        date = ("Date", formatdate(self._broker.wall, usegmt=True))
        response = replace(response, headers=(date, *ALWAYS, *response.headers))
        data = self._wire.respond(response, close=last or self._site.stopping)
        for start in range(0, len(data), PIECE):
            with trio.fail_after(self._patience):
                await self._stream.send_all(data[start : start + PIECE])
