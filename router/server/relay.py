"""Relay of clients to the active broker, byte for byte.

Responsible for the connections to the active broker, and for their end when another broker becomes active.
Not for the choice between relaying and serving (see ``gateway``), nor for the other side of such a connection
(see ``relayed_clients``).
"""

import trio

from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.relay_handshake import CHALLENGE, RelayedClient, RelayError, RelayingHandshake
from leveret.router.server.client_tasks import DISCONNECT_CHECK, LINGER
from leveret.router.server.places import LogRefusal
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.values.network_errors import explain

PIECE = 1 << 16  # bytes that are read from either side at a time; no others are buffered
CONNECT_TIMEOUT = 3  # seconds for the connection to the active broker, and for the handshake


class ClientRelay:
    """All relayed connections of this broker. ``timeouts`` limits the time in which a client reads nothing;
    the active broker may stop reading for as long as it wants, as during an alarm.
    """

    def __init__(self, timeouts: SendTimeouts, log_refusal: LogRefusal) -> None:
        self._timeouts = timeouts
        self._log_refusal = log_refusal
        self._running: set[trio.CancelScope] = set()

    @property
    def connections(self) -> int:
        """Return the number of relayed connections."""
        return len(self._running)

    def close(self) -> None:
        """Close all relayed connections, of both sides."""
        for scope in self._running:
            scope.cancel()

    async def connect(
        self, active: ActiveBroker, secret: bytes, client: RelayedClient, name: str
    ) -> trio.SocketStream | None:
        """Connect to the active broker for a client; return None, after a log line, if that fails."""
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                upstream = await trio.open_tcp_stream(active.host, active.port)
                try:
                    await _introduce(upstream, secret, client)
                except BaseException:
                    upstream.socket.close()
                    raise
        except trio.TooSlowError:
            reason = "it did not answer in time"
        except (OSError, trio.BrokenResourceError, RelayError) as error:
            reason = explain(error)
        else:
            return upstream
        where = f"{active.node} at {active.host}:{active.port}"
        self._log_refusal("cannot relay", f"the active broker {where}: {reason}", name)
        return None

    async def run(
        self,
        stream: trio.abc.HalfCloseableStream,
        peer: SocketPeer,
        upstream: trio.SocketStream,
        first: bytes = b"",
    ) -> None:
        """Relay between a client and the active broker until one side disconnects, or ``close`` is called.

        ``first`` has bytes of the client that were read before. Raises BrokenResourceError, and TooSlowError
        if the client does not read.
        """
        with trio.CancelScope() as scope:
            self._running.add(scope)
            try:
                async with upstream, trio.open_nursery() as nursery:
                    nursery.start_soon(_send_upstream, stream, peer, upstream, first)
                    while data := await upstream.receive_some(PIECE):
                        with self._timeouts.limit():
                            await stream.send_all(data)
                    # The active broker waits as long for the client to disconnect, and then closes.
                    nursery.cancel_scope.deadline = trio.current_time() + LINGER
                    await stream.send_eof()
            finally:
                self._running.discard(scope)


async def _introduce(upstream: trio.SocketStream, secret: bytes, client: RelayedClient) -> None:
    """Run the handshake. Raises RelayError and BrokenResourceError."""
    handshake = RelayingHandshake(secret)
    await upstream.send_all(handshake.hello())
    challenge = await read_exactly(upstream, CHALLENGE)
    await upstream.send_all(handshake.identity(challenge, client))


async def read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Return this number of bytes. Raises RelayError if the stream ends before."""
    data = b""
    while len(data) < size:
        piece = await stream.receive_some(size - len(data))
        if not piece:
            raise RelayError("the connection was closed in the middle of the handshake")
        data += piece
    return data


async def _send_upstream(
    stream: trio.abc.ReceiveStream, peer: SocketPeer, upstream: trio.SocketStream, first: bytes
) -> None:
    """Send what the client sends, then end the sending side.

    The client is not read from while the active broker does not read. Raises BrokenResourceError if the
    client disconnects meanwhile.
    """
    data: bytes | bytearray = first or await stream.receive_some(PIECE)
    while data:
        rest = memoryview(data)
        while rest:
            sent = 0
            with trio.move_on_after(DISCONNECT_CHECK) as waiting:
                try:
                    sent = await upstream.socket.send(rest)
                except OSError as error:
                    raise trio.BrokenResourceError(f"the active broker: {error}") from error
            rest = rest[sent:]
            if waiting.cancelled_caught and peer.has_disconnected():
                raise trio.BrokenResourceError("the client disconnected while the active broker read nothing")
        data = await stream.receive_some(PIECE)
    await upstream.send_eof()
