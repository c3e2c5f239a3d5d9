"""WebSocket as a byte stream, so that protocols for sockets run over it unchanged.

Responsible for the order of writes and for timeouts: pings, and clients that are silent, idle, or do not
read.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio
from msgspec import structs

from leveret.protocol.websocket import Opening, Text, WebSocket
from leveret.router.server.client_tasks import LINGER
from leveret.router.server.places import Places
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.settings import Settings
from leveret.router.settings import Websocket as WebsocketSettings

MESSAGE = 1 << 16  # bytes of payload in one message, which a slow client must read within one send_timeout
READ = 1 << 16

GOING_AWAY, POLICY, INTERNAL = 1001, 1008, 1011


@dataclass(frozen=True, slots=True)
class Service:
    """A protocol that is served over WebSocket at a path, its subprotocols, and the use of text messages."""

    protocols: tuple[str, ...]
    serve: Callable[[trio.abc.HalfCloseableStream, SocketPeer], Awaitable[None]]
    places: Places
    text: Text = Text.REFUSED


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket: its service, the accepted subprotocol, the bytes of the response, and bytes
    received after the request.
    """

    service: Service
    opening: Opening
    loopback: bool
    answer: bytes
    received: bytes


class WebSocketStream(trio.abc.HalfCloseableStream):
    """Payload of a WebSocket over ``stream``. The end of the stream is the close of the WebSocket.

    ``close_code`` is sent to the client at a regular end.
    """

    def __init__(self, stream: trio.abc.Stream, wire: WebSocket, received: bytes = b"") -> None:
        self.close_code = 1000
        # times of the last payload, and of the last data from the client
        self.used = self.heard = trio.current_time()
        self.sending: float | None = None  # since when the client has not read the data that is being sent
        self.listening: float | None = None  # since when a task waits for data of the client
        self._stream = stream
        self._wire = wire
        self._ready = b""  # payload that the last reader had no room for
        wire.feed(received)
        self._reading = trio.CancelScope()
        self._lock = trio.Lock()
        self._end_reported = False  # True once the reader has got the end of the stream

    # -- receiving -----------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return payload; nothing at the end, whichever side has closed.

        After an error of the client, further data is discarded until it disconnects: closing the socket
        before might destroy the close frame with the reason.
        """
        await trio.lowlevel.checkpoint()
        while not self._ready:
            if self._wire.ended and not (self._wire.failed and self._end_reported):
                self._end_reported = True
                return b""
            if self._wire.pending:
                await (
                    trio.lowlevel.checkpoint()
                )  # many small frames are handled in pieces, with other tasks in between
            else:
                data = await self._receive()
                if not data:
                    self._wire.lost()
                    self._end_reported = True
                    return b""
                self._wire.feed(data)
            self._ready = self._wire.read()
            await self._answer()
        self.used = trio.current_time()
        payload, self._ready = self._ready, b""
        if max_bytes is not None and len(payload) > max_bytes:
            payload, self._ready = payload[:max_bytes], payload[max_bytes:]
        return payload

    async def _receive(self) -> bytes:
        """Return data of the client; nothing at the end of the stream, or if it is failed meanwhile."""
        self.listening = trio.current_time()
        data = b""
        with trio.CancelScope() as self._reading:
            data = bytes(await self._stream.receive_some(READ))
        self.listening, self.heard = None, trio.current_time()
        return data

    # -- sending -------------------------------------------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send payload, in messages that a slow client can read one after another."""
        async with self._lock:
            for start in range(0, len(data), MESSAGE):
                # No copy if these are bytes for one message.
                await self._send(self._wire.send(bytes(data[start : start + MESSAGE])))
            self.used = trio.current_time()
            await self._send(self._wire.take_control())

    async def _answer(self) -> None:
        """Send replies to pings, unless a send in progress does it."""
        if not self._lock.locked() and (control := self._wire.take_control()):
            async with self._lock:
                await self._send(control)

    async def _send(self, data: bytes) -> None:
        if data:
            self.sending = trio.current_time()
            await self._stream.send_all(data)
            self.sending = None

    async def ping(self) -> None:
        """Ping the client, unless a send in progress already shows if it is alive."""
        if not self._lock.locked():
            async with self._lock:
                await self._send(self._wire.ping())

    async def wait_send_all_might_not_block(self) -> None:
        async with self._lock:
            await self._stream.wait_send_all_might_not_block()

    # -- the end -------------------------------------------------------------------------------------------

    def fail(self, code: int, reason: str) -> None:
        """End the stream for the reader. The reason reaches the client only if it still reads."""
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
    peer: SocketPeer,
    upgrade: Upgrade,
    settings: Settings,
    open_now: set[WebSocketStream],
) -> None:
    """Open a WebSocket and run its service until either side closes it, or a timeout ends it.

    Until then ``open_now`` contains it. The connection takes one of the service's places and counts as
    waiting (see ``places``) until a virtual host is opened. The caller closes ``stream`` and has checked that
    there is a place.
    """
    service, occupant = upgrade.service, peer.occupant
    assert occupant is not None
    occupant.wait()
    with service.places.take(occupant):
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
                    socket, structs.replace(peer, direct=False, watched=True, loopback=upgrade.loopback)
                )
                nursery.cancel_scope.cancel()
        finally:
            open_now.discard(socket)
            if wire.failed:
                log = structlog.get_logger().bind(peer=peer.name)
                log.warning("WebSocket ended", code=wire.fault[0], reason=wire.fault[1])


async def keep_watch(stream: WebSocketStream, settings: WebsocketSettings, nursery: trio.Nursery) -> None:
    """Ping the client, in tasks of their own; return LINGER seconds after the stream failed for a timeout."""
    interval, patience = settings.ping_interval / 1000, settings.ping_timeout / 1000
    stuck, idle = settings.send_timeout / 1000, settings.idle_timeout / 1000
    tick = min(value for value in (interval, patience, stuck, idle, math.inf) if value) / 2
    asked: float | None = None  # time of a ping without any data from the client since
    while True:
        await trio.sleep(tick)
        now = trio.current_time()
        # The client is not silent if no task reads from it, or if data is on its way to it.
        waiting = stream.listening is not None and stream.sending is None
        since = now if stream.listening is None else max(stream.heard, stream.listening)
        if not waiting or (asked is not None and since >= asked):
            asked = None
        if stuck and stream.sending is not None and now - stream.sending >= stuck:
            stream.fail(POLICY, "data was not read")
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
