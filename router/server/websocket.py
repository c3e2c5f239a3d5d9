"""A WebSocket as a stream of bytes, so that whatever is spoken over sockets is spoken over it unchanged.

Owns who may send when, and time: pings, and clients that are silent, idle, or do not read what they get.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
import trio

from leveret.protocol.websocket import Opening, Text, WebSocket
from leveret.router.server.client_tasks import LINGER
from leveret.router.server.places import Places
from leveret.router.server.socket_peer import Peer
from leveret.router.settings import Settings
from leveret.router.settings import Websocket as WebsocketSettings

MESSAGE = 1 << 16  # bytes of payload in one message: what a slow client must take in one send_timeout
READ = 1 << 16

GOING_AWAY, POLICY, INTERNAL = 1001, 1008, 1011


@dataclass(frozen=True, slots=True)
class Service:
    """What is spoken over WebSocket at some path, in which subprotocols, and whether in text."""

    protocols: tuple[str, ...]
    serve: Callable[[trio.abc.HalfCloseableStream, Peer], Awaitable[None]]
    places: Places
    text: Text = Text.REFUSED


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A client asked for a WebSocket: for what, how, with which bytes it is agreed, and what came behind."""

    service: Service
    opening: Opening
    loopback: bool
    answer: bytes
    received: bytes


class WebSocketStream(trio.abc.HalfCloseableStream):
    """The payload of a WebSocket over ``stream``. The end of the stream is the close of the WebSocket.

    ``close_code`` is what the client is told at a regular end.
    """

    def __init__(self, stream: trio.abc.Stream, wire: WebSocket, received: bytes = b"") -> None:
        self.close_code = 1000
        self.used = self.heard = trio.current_time()  # when there was payload, or anything from the client
        self.sending: float | None = None  # since when the client has not taken what is being sent to it
        self.listening: float | None = None  # since when somebody waits for the client
        self._stream = stream
        self._wire = wire
        self._ready = bytearray()
        wire.feed(received)
        self._reading = trio.CancelScope()
        self._lock = trio.Lock()
        self._told = False  # whether the reader knows of the end

    # -- receiving -----------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some payload; nothing at the end, whoever has brought that about.

        Once the client was at fault, what it still sends is read past until it hangs up: a socket that is
        closed before that may destroy the close that says so.
        """
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._wire.ended and not (self._wire.failed and self._told):
                self._told = True
                return b""
            if self._wire.pending:
                await (
                    trio.lowlevel.checkpoint()
                )  # many small frames are read in pieces, and others come in between
            else:
                data = await self._receive()
                if not data:
                    self._wire.lost()
                    self._told = True
                    return b""
                self._wire.feed(data)
            self._ready += self._wire.read()
            await self._answer()
        self.used = trio.current_time()
        size = len(self._ready) if max_bytes is None else max_bytes
        payload = bytes(self._ready[:size])
        del self._ready[:size]
        return payload

    async def _receive(self) -> bytes:
        """What the client sends; nothing at the end of the stream, or when it is failed meanwhile."""
        self.listening = trio.current_time()
        data = b""
        with trio.CancelScope() as self._reading:
            data = bytes(await self._stream.receive_some(READ))
        self.listening, self.heard = None, trio.current_time()
        return data

    # -- sending -------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send payload, as messages that a slow client can take one after another."""
        async with self._lock:
            with memoryview(data) as view:
                for start in range(0, len(view), MESSAGE):
                    await self._send(self._wire.send(bytes(view[start : start + MESSAGE])))
            self.used = trio.current_time()
            await self._send(self._wire.take_control())

    async def _answer(self) -> None:
        """Answer pings; whoever is sending does it otherwise."""
        if not self._lock.locked() and (control := self._wire.take_control()):
            async with self._lock:
                await self._send(control)

    async def _send(self, data: bytes) -> None:
        if data:
            self.sending = trio.current_time()
            await self._stream.send_all(data)
            self.sending = None

    async def ping(self) -> None:
        """Ask the client whether it is there; while something is being sent to it that is asked already."""
        if not self._lock.locked():
            async with self._lock:
                await self._send(self._wire.ping())

    async def wait_send_all_might_not_block(self) -> None:
        async with self._lock:
            await self._stream.wait_send_all_might_not_block()

    # -- the end -------------------------------------------------------------------------------------------

    def fail(self, code: int, reason: str) -> None:
        """End it for the reader. The reason reaches the client only if it still reads."""
        self._wire.fail(code, reason)
        self._reading.cancel()

    async def send_eof(self) -> None:
        """Close this side."""
        async with self._lock:
            await self._send(self._wire.close(self.close_code))

    async def aclose(self) -> None:
        await self._stream.aclose()


async def serve_websocket(
    stream: trio.abc.HalfCloseableStream,
    peer: Peer,
    upgrade: Upgrade,
    settings: Settings,
    open_now: set[WebSocketStream],
) -> None:
    """Open a WebSocket and have its service speak until either side is done, or it had to be given up.

    It is among ``open_now`` meanwhile. The peer's guest takes one of the service's places, and waits until a
    virtual host is opened. Who calls closes ``stream`` and has seen that there is a place.
    """
    service, guest = upgrade.service, peer.guest
    assert guest is not None
    guest.wait()
    with service.places.take(guest):
        with trio.fail_after(settings.http.request_timeout / 1000):
            await stream.send_all(upgrade.answer)
        wire = WebSocket(
            settings.websocket.max_message_size, text=service.text, deflate=upgrade.opening.deflate
        )
        socket = WebSocketStream(stream, wire, upgrade.received)
        open_now.add(socket)
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    await keep_watch(socket, settings.websocket, nursery)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await service.serve(
                    socket, replace(peer, direct=False, watched=True, loopback=upgrade.loopback)
                )
                nursery.cancel_scope.cancel()
        finally:
            open_now.discard(socket)
            if wire.failed:
                log = structlog.get_logger().bind(peer=peer.name)
                log.warning("WebSocket ended", code=wire.fault[0], reason=wire.fault[1])


async def keep_watch(stream: WebSocketStream, settings: WebsocketSettings, nursery: trio.Nursery) -> None:
    """Ping the client, in tasks of their own; return LINGER seconds after it was failed for not answering."""
    interval, patience = settings.ping_interval / 1000, settings.ping_timeout / 1000
    stuck, idle = settings.send_timeout / 1000, settings.idle_timeout / 1000
    tick = min(value for value in (interval, patience, stuck, idle, math.inf) if value) / 2
    asked: float | None = None  # when it was pinged, as long as nothing has come since
    while True:
        await trio.sleep(tick)
        now = trio.current_time()
        # While nobody listens, or something is stuck on its way to the client, it is not silent.
        waiting = stream.listening is not None and stream.sending is None
        since = now if stream.listening is None else max(stream.heard, stream.listening)
        if not waiting or (asked is not None and since >= asked):
            asked = None
        if stuck and stream.sending is not None and now - stream.sending >= stuck:
            stream.fail(POLICY, "what was sent was not read")
        elif asked is not None and now - asked >= patience:
            stream.fail(INTERNAL, "pings were not answered")
        elif idle and now - stream.used >= idle:
            stream.fail(GOING_AWAY, "idle for too long")
        else:
            if interval and waiting and asked is None and now - since >= interval:
                asked = now
                nursery.start_soon(stream.ping)
            continue
        await trio.sleep(LINGER)
        return
