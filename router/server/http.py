"""One HTTP client: reads requests, has the routes answer them, sends the answers, one after another.

Owns how long each of that may take, and the one exception boundary of such a connection. A request that asks
for a WebSocket leaves the connection to whoever speaks there.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TypeVar

import structlog
import trio

from leveret.protocol.http import HttpConnection, HttpError, Limits, PendingRequest, Request, Response
from leveret.protocol.recognition import HTTP, FirstBytes, wrong_port
from leveret.protocol.websocket import Opening, accept
from leveret.router.server.client_tasks import BROKEN, GLANCE, LINGER
from leveret.router.server.driver import Driver
from leveret.router.server.places import Guest, Places
from leveret.router.server.request_bodies import BodyMemory, HeldBody
from leveret.router.server.socket_peer import Peer
from leveret.router.server.websocket import GOING_AWAY, Service, Upgrade, WebSocketStream, serve_websocket
from leveret.router.values.network_errors import explain
from leveret.router.web.origin_guard import check_host, check_origin
from leveret.router.web.response_steps import Step, Steps, Wait
from leveret.router.web.routes import Route, Routes

GLIMPSE = 1  # seconds that a client which is one too many has to ask something
PIECE = 1 << 16  # bytes of an answer that a client must take in one request_timeout
BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods whose body means nothing
VITAL = frozenset({"/health", "/ready"})  # paths that are answered when all places are taken
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
    path. ``bodies`` bounds the memory of requests, ``places`` are for connections; one that becomes a
    WebSocket takes one of its service's instead.
    ``elsewhere`` says where another protocol is spoken.
    """

    driver: Driver
    routes: Routes
    places: Places
    bodies: BodyMemory
    services: Mapping[str, Service] = field(default_factory=dict)
    elsewhere: Callable[[str], Iterable[str]] = lambda spoken: ()
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
            with trio.CancelScope() as scope:
                guest = peer.guest or Guest(peer.name, peer.ends.peer[0], scope.cancel)
                with site.places.take(guest) as taken:
                    conversation = _Conversation(stream, peer, guest, site)
                    upgrade = await (conversation.run() if taken else conversation.refuse())
                if upgrade is not None:
                    settings = site.driver.broker.settings
                    await serve_websocket(stream, replace(peer, guest=guest), upgrade, settings, site.sockets)
    except* (*BROKEN, trio.TooSlowError) as group:
        log.debug("connection broken", error=explain(group.exceptions[0]))
    except* Exception as group:
        site.driver.broker.failed(group)
        log.error("connection failed", exc_info=group)


class _Conversation:
    """One connection's requests and answers. What is known of a request is known to the methods that handle
    it and to nobody else: nothing of it is left when it has been answered.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, peer: Peer, guest: Guest, site: Site) -> None:
        self._broker = broker = site.driver.broker
        self._stream = stream
        self._peer = peer
        self._guest = guest
        self._site = site
        self._read_size = broker.settings.server.read_size
        self._leisure = broker.settings.http.idle_timeout / 1000  # seconds
        self._patience = broker.settings.http.request_timeout / 1000
        limits = Limits(broker.settings.http.max_header_size)
        self._wire = HttpConnection(limits, loopback=peer.loopback, host=peer.ends.peer[0])
        self._first_bytes = FirstBytes(HTTP)
        self._heard = False  # whether more was read while a request was being answered
        self._log = structlog.get_logger().bind(peer=peer.name)

    async def refuse(self) -> None:
        """Answer one request: that there are too many, unless it asks for the broker's health. An answer that
        comes before the request has been sent may be lost.
        """
        reason = f"{self._site.places.most} HTTP connections are open"
        error = HttpError(503, reason, (("Retry-After", "1"),))
        found = None
        with trio.move_on_after(GLIMPSE):
            found = await self._next_request()
        pending, due = found or (self._wire.interrupt(error), 0.0)
        request = pending.request
        answer: Response | Upgrade = error.response
        if request is not None and request.path in VITAL:
            answer = await self._answer(pending, due)
        else:
            self._log.warning("connection refused", reason=reason)
        if isinstance(answer, Response):
            await self._send(pending, answer, close=True)

    async def run(self) -> Upgrade | None:
        """Answer requests until the connection is to be closed, then close it so that no answer is lost; or
        until one is for a WebSocket. Each request gets one answer here, whatever becomes of it.
        """
        while (found := await self._next_request()) is not None:
            pending, due = found
            answer = await self._answer(pending, due)
            if isinstance(answer, Upgrade):
                return answer
            await self._send(pending, answer)
        if self._wire.finished:
            with trio.move_on_after(LINGER):
                await self._stream.send_eof()
                while await self._stream.receive_some():
                    pass
        return None

    async def _next_request(self) -> tuple[PendingRequest, float] | None:
        """The next request, and when all of it must have arrived; None when there is none, or it took too
        long to begin. One that took too long in its midst is refused already.
        """
        wire, due = self._wire, math.inf
        self._guest.wait()
        with trio.move_on_after(self._leisure) as scope:
            self._site.idle.add(scope)
            if self._site.stopping:
                scope.cancel()
            try:
                while (pending := wire.next_request()) is None:
                    if wire.finished:
                        return None
                    if due == math.inf and not wire.idle:
                        due = scope.deadline = trio.current_time() + self._patience
                        self._site.idle.discard(scope)
                    data = bytes(await self._stream.receive_some(self._read_size))
                    if spoken := self._first_bytes.other(data):
                        return self._refuse_protocol(spoken), math.inf
                    wire.receive(data)
                return pending, min(due, trio.current_time() + self._patience)
            finally:
                self._site.idle.discard(scope)
        return None if wire.idle else (wire.interrupt(HttpError(408)), due)

    def _refuse_protocol(self, spoken: str) -> PendingRequest:
        """What is to be answered to a client that speaks something else than HTTP from its first bytes on."""
        reason = wrong_port(spoken, HTTP)
        self._log.warning("connection refused", reason=reason)
        return self._wire.interrupt(HttpError(400, "; ".join((reason, *self._site.elsewhere(spoken)))))

    async def _answer(self, pending: PendingRequest, due: float) -> Response | Upgrade:
        """What a request is answered with. What fails is logged, and told as a 500."""
        self._heard = False
        self._guest.engage()
        try:
            return await self._handle(pending, due)
        except HttpError as error:
            self._log.debug("request refused", status=error.status, reason=error.text)
            return error.response
        except BROKEN:
            raise
        except Exception as error:
            request = pending.request
            method, path = ("", "") if request is None else (request.method, request.path)
            self._broker.failed(error)
            self._log.error("request failed", method=method, path=path, exc_info=error)
            return HttpError(500, "the broker failed; its log says why").response

    async def _handle(self, pending: PendingRequest, due: float) -> Response | Upgrade:
        """Refuse what nobody answers, and who may not ask, before the body is read; then have it answered.

        Raises HttpError.
        """
        request = pending.head()
        settings = self._broker.settings
        with self._told_of("request refused", request):
            if self._peer.local:
                check_host(request, settings.http.hosts)
            check_origin(request, settings.http.origins)
        service = self._site.services.get(request.path)
        if service is not None:
            with self._told_of("WebSocket refused", request):
                opening = accept(request, service.protocols, compression=settings.websocket.compression)
                await self._read_body(pending, 0, due)
                return self._upgrade(service, opening, pending, request)
        route = self._site.routes.find(request)
        route.screen(request)
        most = settings.http.max_header_size if request.method in BODILESS else settings.http.max_body_size
        # Where there is no body, the handler's own look at who asks is early enough.
        owners = [f"address {self._guest.network}"]
        if pending.announced != 0 and (proof := route.prove(request)) is not None:
            await self._finish(proof, request)
            if request.credentials is not None:
                owners.append(f"user {request.credentials[0]}")
        with self._site.bodies.hold(*owners) as held:
            body = await self._read_body(pending, most, due, held)
            response = await self._respond(route, replace(request, body=body))
        self._log.debug("request", method=request.method, path=request.path, status=response.status)
        return response

    @contextmanager
    def _told_of(self, event: str, request: Request) -> Iterator[None]:
        """Log a refusal that is a matter of settings: a browser does not show it to the page that asked, and
        an operator has to find out why nothing works.
        """
        try:
            yield
        except HttpError as error:
            named = {name: request.headers[name] for name in ("origin", "host") if name in request.headers}
            self._log.warning(event, status=error.status, reason=error.text, path=request.path, **named)
            raise

    def _upgrade(
        self, service: Service, opening: Opening, pending: PendingRequest, request: Request
    ) -> Upgrade:
        """Agree to a WebSocket. Raises HttpError when there are too many."""
        if not service.places.has_room(self._guest):
            raise HttpError(503, f"{service.places.most} connections are open", (("Retry-After", "1"),))
        return Upgrade(service, opening, request.loopback, *pending.switch(opening.headers))

    async def _read_body(
        self, pending: PendingRequest, most: int, due: float, held: HeldBody | None = None
    ) -> bytes:
        """The body of a request, which may have ``most`` bytes and counts as ``held``. Raises HttpError."""
        with trio.move_on_at(due), self._waiting():
            while (body := pending.body(most)) is None:
                if held is not None:
                    held.grow_to(pending.received)
                if self._wire.finished:
                    raise trio.BrokenResourceError("the client hung up in the midst of a request")
                if (answer := pending.take_continue()) is not None:
                    await self._stream.send_all(answer)
                self._wire.receive(bytes(await self._stream.receive_some(self._read_size)))
            return body
        raise HttpError(408)

    async def _respond(self, route: Route, request: Request) -> Response:
        """What the route answers, each step a batch of its own."""
        with self._batch(request):
            answer = route(request)
        return answer if isinstance(answer, Response) else await self._finish(answer, request)

    async def _finish(self, steps: Steps[T], request: Request) -> T:
        """Take the steps of an answer, waiting in between for what they say."""
        with closing(steps):
            while True:
                try:
                    with self._batch(request):
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
            if not step:
                async with self._site.driver.long_answers:
                    return
            if self._heard:
                await trio.sleep(step)
                return
            with trio.move_on_after(step):
                await self._listen()
        elif not step.done:
            event = trio.Event()
            step.notify = event.set
            with trio.move_on_after(self._patience), self._waiting() if step.login else nullcontext():
                while not event.is_set():
                    with trio.move_on_after(GLANCE):
                        await event.wait()
                    if self._peer.hung_up():
                        raise trio.BrokenResourceError("the client hung up before it was answered")

    async def _listen(self) -> None:
        """Notice that the client hangs up; of a request that comes already no more is read than once."""
        data = bytes(await self._stream.receive_some(self._read_size))
        if not data:
            raise trio.BrokenResourceError("the client hung up before it was answered")
        self._wire.receive(data)
        self._heard = True
        await trio.sleep_forever()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Let the connection wait for its client in the block: others may take its place."""
        self._guest.wait()
        try:
            yield
        finally:
            self._guest.engage()

    @contextmanager
    def _batch(self, request: Request) -> Iterator[None]:
        """Let what is done in the block for this request be a batch."""
        self._site.driver.begin(f"{request.method} {request.path}")
        try:
            yield
        finally:
            self._site.driver.end()

    async def _send(self, pending: PendingRequest, response: Response, *, close: bool = False) -> None:
        """Send the answer to a request; a client that takes none of it for too long is let go."""
        self._guest.wait()
        date = ("Date", formatdate(self._broker.wall, usegmt=True))
        response = replace(response, headers=(date, *ALWAYS, *response.headers))
        for data in pending.respond(response, close=close or self._site.stopping):
            for start in range(0, len(data), PIECE):
                with trio.fail_after(self._patience):
                    await self._stream.send_all(data[start : start + PIECE])
