"""HTTP connection of one client: reads requests, passes them to the routes, sends the responses in order.

Responsible for the time limits, and for the exception boundary of such a connection. After a request for a
WebSocket the connection belongs to the WebSocket's service.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TypeVar

import structlog
import trio
from msgspec import structs

from leveret.protocol.http import HeadLimits, HttpConnection, HttpError, PendingRequest, Request, Response
from leveret.protocol.recognition import HTTP, FirstBytes, wrong_port
from leveret.protocol.websocket import Opening, accept
from leveret.router.server.client_tasks import BROKEN, DISCONNECT_CHECK, LINGER
from leveret.router.server.driver import Driver
from leveret.router.server.places import Occupant, Places
from leveret.router.server.request_bodies import BodyMemory, HeldBody
from leveret.router.server.response_memory import ResponseMemory, ResponseShare
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.server.websocket import GOING_AWAY, Service, Upgrade, WebSocketStream, serve_websocket
from leveret.router.values.network_errors import explain
from leveret.router.web.origin_guard import check_host, check_origin
from leveret.router.web.response_steps import Growth, ResponseSteps, Step, Wait
from leveret.router.web.routes import HttpRoutes, Route

REFUSAL_TIMEOUT = 1  # seconds that a client beyond the limit of connections has to send a request
PIECE = 1 << 16  # bytes of a response that a client must read in one request_timeout
BODILESS = frozenset({"GET", "HEAD", "DELETE"})  # methods whose body is ignored
HEALTH_PATHS = frozenset({"/health", "/ready"})  # paths that are answered even if no place is free
RETRY = (("Retry-After", "5"),)
T = TypeVar("T")
ALWAYS = (
    ("Server", "leveret"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


@dataclass
class HttpSite:
    """The routes and WebSocket services of some HTTP listeners. ``services`` are the WebSocket services by
    path. ``bodies`` and ``responses`` limit the memory of requests and responses, ``places`` the number of
    connections; a WebSocket counts as a connection of its service instead. ``elsewhere`` returns the
    addresses of another protocol.
    """

    driver: Driver
    routes: HttpRoutes
    places: Places
    bodies: BodyMemory
    responses: ResponseMemory
    services: Mapping[str, Service] = field(default_factory=dict)
    elsewhere: Callable[[str], Iterable[str]] = lambda spoken: ()
    stopping: bool = False
    idle: set[trio.CancelScope] = field(default_factory=set)
    sockets: set[WebSocketStream] = field(default_factory=set)

    def stop(self) -> None:
        """Stop the site: idle connections are closed at once, others after their response. WebSockets are
        closed by their services.
        """
        self.stopping = True
        for scope in self.idle:
            scope.cancel()
        for socket in self.sockets:
            socket.close_code = GOING_AWAY


async def serve_http(stream: trio.abc.HalfCloseableStream, peer: SocketPeer, site: HttpSite) -> None:
    """Serve one client until either side ends the connection. Its failures never reach other connections."""
    log = structlog.get_logger().bind(peer=peer.name)
    try:
        async with stream:
            with trio.CancelScope() as scope:
                occupant = peer.occupant or Occupant(peer.name, peer.ends.peer[0], scope.cancel)
                with site.places.take(occupant) as taken, site.responses.share(occupant.network) as share:
                    conversation = _Conversation(stream, peer, occupant, site, share)
                    upgrade = await (conversation.run() if taken else conversation.refuse())
                if upgrade is not None:
                    peer = structs.replace(peer, occupant=occupant)
                    settings = site.driver.broker.settings
                    await serve_websocket(stream, peer, upgrade, settings, site.sockets)
    except* (*BROKEN, trio.TooSlowError) as group:
        log.debug("connection broken", error=explain(group.exceptions[0]))
    except* Exception as group:
        site.driver.broker.failed(group)
        log.error("connection failed", exc_info=group)


class _Conversation:
    """Requests and responses of one connection. All state of a request is in local variables of the methods
    that handle it, so nothing of it remains after its response.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        peer: SocketPeer,
        occupant: Occupant,
        site: HttpSite,
        share: ResponseShare,
    ) -> None:
        self._broker = broker = site.driver.broker
        self._stream = stream
        self._peer = peer
        self._guest = occupant
        self._site = site
        self._share = share
        self._read_size = broker.settings.server.read_size
        self._idle_timeout = broker.settings.http.idle_timeout / 1000  # seconds
        self._request_timeout = broker.settings.http.request_timeout / 1000
        limits = HeadLimits(broker.settings.http.max_header_size)
        self._wire = HttpConnection(limits, loopback=peer.loopback, host=peer.ends.peer[0])
        self._first_bytes = FirstBytes(HTTP)
        self._received_more = False  # True if more was read while a request was being answered
        self._log = structlog.get_logger().bind(peer=peer.name)

    async def refuse(self) -> None:
        """Answer one request with 503 for too many connections, except for health checks. A response that is
        sent before the request has arrived may be lost.
        """
        reason = f"{self._site.places.most} HTTP connections are open"
        error = HttpError(503, reason, (("Retry-After", "1"),))
        found = None
        with trio.move_on_after(REFUSAL_TIMEOUT):
            found = await self._next_request()
        pending, due = found or (self._wire.interrupt(error), 0.0)
        request = pending.request
        answer: Response | Upgrade = error.response
        if request is not None and request.path in HEALTH_PATHS:
            answer = await self._answer(pending, due)
        else:
            self._site.driver.log_refusal("connection refused", reason, self._peer.name)
        if isinstance(answer, Response):
            await self._send(pending, answer, close=True)

    async def run(self) -> Upgrade | None:
        """Answer requests until the connection has to be closed, then close it so that no response is lost.

        Each request gets one response. A request for a WebSocket is returned instead.
        """
        while (found := await self._next_request()) is not None:
            upgrade = await self._serve(*found)
            if upgrade is not None:
                return upgrade
        if self._wire.finished:
            with trio.move_on_after(LINGER):
                await self._stream.send_eof()
                while await self._stream.receive_some():
                    pass
        return None

    async def _serve(self, pending: PendingRequest, due: float) -> Upgrade | None:
        """Answer a request, or return its upgrade. No reference to the response remains."""
        answer = await self._answer(pending, due)
        if isinstance(answer, Upgrade):
            return answer
        await self._send(pending, answer)
        return None

    async def _next_request(self) -> tuple[PendingRequest, float] | None:
        """Return the next request, and the time until which it may arrive. Returns None if no request began
        in time or the client has ended. A request whose head is late is returned, to be answered with 408.
        """
        wire, due = self._wire, math.inf
        self._guest.wait()
        with trio.move_on_after(self._idle_timeout) as scope:
            self._site.idle.add(scope)
            if self._site.stopping:
                scope.cancel()
            try:
                while (pending := wire.next_request()) is None:
                    if wire.finished:
                        return None
                    if due == math.inf and not wire.idle:
                        due = scope.deadline = trio.current_time() + self._request_timeout
                        self._site.idle.discard(scope)
                    data = bytes(await self._stream.receive_some(self._read_size))
                    await self._guest.take_turn()
                    if spoken := self._first_bytes.other(data):
                        return self._refuse_protocol(spoken), math.inf
                    wire.receive(data)
                return pending, min(due, trio.current_time() + self._request_timeout)
            finally:
                self._site.idle.discard(scope)
        await self._guest.take_turn()
        return None if wire.idle else (wire.interrupt(HttpError(408)), due)

    def _refuse_protocol(self, spoken: str) -> PendingRequest:
        """Return the request to answer for a client that speaks another protocol than HTTP."""
        reason = wrong_port(spoken, HTTP)
        self._site.driver.log_refusal("connection refused", reason, self._peer.name)
        return self._wire.interrupt(HttpError(400, "; ".join((reason, *self._site.elsewhere(spoken)))))

    async def _answer(self, pending: PendingRequest, due: float) -> Response | Upgrade:
        """Return the response to a request. Exceptions are logged, and result in a 500."""
        self._received_more = False
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
            return HttpError(500, "internal error, see the broker's log").response

    async def _handle(self, pending: PendingRequest, due: float) -> Response | Upgrade:
        """Refuse unknown paths and users without access before the body is read; then run the handler.

        Raises HttpError.
        """
        request = pending.head()
        settings = self._broker.settings
        with self._logged_refusal("request refused", request):
            if self._peer.local:
                check_host(request, settings.http.hosts)
            check_origin(request, settings.http.origins)
        service = self._site.services.get(request.path)
        if service is not None:
            with self._logged_refusal("WebSocket refused", request):
                opening = accept(request, service.protocols, compression=settings.websocket.compression)
                await self._read_body(pending, 0, due)
                return self._upgrade(service, opening, pending, request)
        route = self._site.routes.find(request)
        route.check_head(request)
        most = settings.http.max_header_size if request.method in BODILESS else settings.http.max_body_size
        # Requests without a body are authorized by the handler itself.
        owners = [f"address {self._guest.network}"]
        if pending.announced != 0 and (proof := route.authorize(request)) is not None:
            await self._finish(proof, request)
            if request.credentials is not None:
                owners.append(f"user {request.credentials[0]}")
        with self._site.bodies.hold(*owners) as held:
            body = await self._read_body(pending, most, due, held)
            response = await self._respond(route, replace(request, body=body))
        self._log.debug("request", method=request.method, path=request.path, status=response.status)
        return response

    @contextmanager
    def _logged_refusal(self, event: str, request: Request) -> Iterator[None]:
        """Log refusals that depend on settings: a browser does not show them to the page, and an operator
        needs the reason.
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
        """Accept a WebSocket. Raises HttpError if there are too many."""
        if not service.places.has_room(self._guest):
            raise HttpError(503, f"{service.places.most} connections are open", (("Retry-After", "1"),))
        return Upgrade(service, opening, request.loopback, *pending.switch(opening.headers))

    async def _read_body(
        self, pending: PendingRequest, most: int, due: float, held: HeldBody | None = None
    ) -> bytes:
        """Return the body of a request, of at most ``most`` bytes, counted in ``held``. Raises HttpError."""
        with trio.move_on_at(due), self._waiting():
            while (body := pending.body(most)) is None:
                if held is not None:
                    held.grow_to(pending.received)
                if self._wire.finished:
                    raise trio.BrokenResourceError("the client disconnected in the middle of a request")
                if pending.unread:
                    await trio.lowlevel.checkpoint()
                    continue
                if (answer := pending.take_continue()) is not None:
                    await self._stream.send_all(answer)
                self._wire.receive(bytes(await self._stream.receive_some(self._read_size)))
            return body
        raise HttpError(408)

    async def _respond(self, route: Route, request: Request) -> Response:
        """Return the response of a route; each of its steps is a batch of its own."""
        with self._batch(request):
            answer = route(request)
        return answer if isinstance(answer, Response) else await self._finish(answer, request)

    async def _finish(self, steps: ResponseSteps[T], request: Request) -> T:
        """Run the steps of a response, and wait between them as they demand."""
        with closing(steps):
            await self._take_turn()
            while True:
                try:
                    with self._batch(request):
                        step = next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
                await self._wait(step)

    async def _wait(self, step: Step) -> None:
        """Wait as a step demands; for an event at most until the request times out.

        Raises BrokenResourceError if the client disconnects during a pause: the response would be lost.
        """
        if not isinstance(step, Wait):
            if isinstance(step, Growth):
                await self._grow(step.size)
                step = 0
            if not step:
                async with self._site.driver.long_answers:
                    return
            if self._received_more:
                await trio.sleep(step)
                return
            with trio.move_on_after(step):
                await self._listen()
        elif not step.done:
            event = trio.Event()
            step.notify = event.set
            with trio.move_on_after(self._request_timeout), self._waiting() if step.login else nullcontext():
                await self._wait_for(event)
            await self._take_turn()

    async def _wait_for(self, event: trio.Event) -> None:
        """Wait for an event. Raises BrokenResourceError if the client disconnects."""
        while not event.is_set():
            with trio.move_on_after(DISCONNECT_CHECK):
                await event.wait()
            if self._peer.has_disconnected():
                raise trio.BrokenResourceError("the client disconnected before the response")

    async def _take_turn(self) -> None:
        """Wait for a turn of long answers: all their first slices would run in one round of the loop."""
        if self._site.driver.long_answers.locked():
            async with self._site.driver.long_answers:
                return

    async def _grow(self, size: int) -> None:
        """Wait until the response may grow to ``size`` bytes.

        Raises HttpError 503 if no other response ends within the timeout of a request.
        """
        while not self._share.grow(size):
            with trio.move_on_after(self._request_timeout) as scope:
                await self._wait_for(self._site.responses.ended)
            if scope.cancelled_caught:
                raise HttpError(503, "too many large responses are being sent; try again", RETRY)

    async def _listen(self) -> None:
        """Raise BrokenResourceError if the client disconnects; buffer at most one read of a next request."""
        data = bytes(await self._stream.receive_some(self._read_size))
        if not data:
            raise trio.BrokenResourceError("the client disconnected before the response")
        self._wire.receive(data)
        self._received_more = True
        await trio.sleep_forever()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Mark the connection as waiting for its client during the block: others may take its place."""
        self._guest.wait()
        try:
            yield
        finally:
            self._guest.engage()

    @contextmanager
    def _batch(self, request: Request) -> Iterator[None]:
        """Run the block as a batch for this request."""
        self._site.driver.begin(f"{request.method} {request.path}")
        try:
            yield
        finally:
            self._site.driver.end()

    async def _send(self, pending: PendingRequest, response: Response, *, close: bool = False) -> None:
        """Send the response to a request; close the connection of a client that reads none of it for too
        long.
        """
        self._guest.wait()
        self._share.count(response.size)
        date = ("Date", formatdate(self._broker.wall, usegmt=True))
        response = replace(response, headers=(date, *ALWAYS, *response.headers))
        for data in pending.respond(response, close=close or self._site.stopping):
            for start in range(0, len(data), PIECE):
                with trio.fail_after(self._request_timeout):
                    await self._stream.send_all(data[start : start + PIECE])
        self._share.release()
