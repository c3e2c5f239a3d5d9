"""Choice of what happens to a new client in a cluster: serve it here, relay it, or let it wait.

Responsible for this broker's role as its listeners see it. Not for the decision which broker is active (see
``router/cluster``).
"""

from collections.abc import Awaitable, Callable, Mapping

import structlog
import trio

from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.methods import ConnectionClose
from leveret.protocol.errors import ConnectionForced
from leveret.protocol.recognition import STOMP
from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.relay_handshake import ListenerName, RelayedClient
from leveret.router.cluster.state import ClusterState
from leveret.router.server.client_tasks import BROKEN, LINGER
from leveret.router.server.driver import Driver
from leveret.router.server.prefixed_stream import PrefixedStream
from leveret.router.server.relay import ClientRelay
from leveret.router.server.socket_peer import ServeClient, SocketPeer
from leveret.router.server.wrong_port import plain_answer
from leveret.router.values.network_errors import explain

WAIT = 8  # seconds that a client waits at most for an active broker
RETRY = 0.25  # seconds until a connection to the active broker is tried again
NOT_ACTIVE = "no active broker of the cluster can be reached at the moment; try again"

# Serves what a standby answers itself; returns bytes of the client to relay, or None if it has served it.
ServeAtStandby = Callable[[trio.abc.HalfCloseableStream, SocketPeer], Awaitable[bytes | None]]


class Gateway:
    """The role of this broker. ``secret`` is that of the cluster, ``relay`` has the relayed connections."""

    def __init__(self, driver: Driver, state: ClusterState, serve_at_standby: ServeAtStandby) -> None:
        self.state = state
        self.secret = b""
        self.relay = ClientRelay(driver.send_timeouts, driver.log_refusal)
        self.active: ActiveBroker | None = None  # the other broker that is active
        self.is_active = False
        self._driver = driver
        self._serve_at_standby = serve_at_standby
        self._changed = trio.Event()

    def follow(self, active: ActiveBroker | None) -> None:
        """Relay clients to this broker from now on; None: let them wait. Does nothing without a change."""
        if active != self.active or self.is_active:
            self.is_active, self.active = False, active
            self._change()

    def activate(self) -> None:
        """Serve clients here from now on."""
        self.is_active, self.active = True, None
        self._change()

    def _change(self) -> None:
        """Close the connections to the former active broker, and wake the clients that wait."""
        self.relay.close()
        self._changed.set()
        self._changed = trio.Event()

    def serving(self, listener: ListenerName, serve: ServeClient) -> ServeClient:
        """Return a function that serves clients of a listener in either role; ``serve`` is for the active
        one.
        """

        async def serve_client(stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> None:
            await self._serve(listener, serve, stream, peer)

        return serve_client

    async def _serve(
        self,
        listener: ListenerName,
        serve: ServeClient,
        stream: trio.abc.HalfCloseableStream,
        peer: SocketPeer,
    ) -> None:
        if not self.is_active:
            first: bytes | None = None
            try:
                first = await self._relay(listener, stream, peer)
            except* (*BROKEN, trio.TooSlowError) as group:
                log = structlog.get_logger().bind(peer=peer.name)
                log.debug("connection broken", error=explain(group.exceptions[0]))
            if first is None:
                return
            if first:
                stream = PrefixedStream(stream, first)
        await serve(stream, peer)

    async def _relay(
        self, listener: ListenerName, stream: trio.abc.HalfCloseableStream, peer: SocketPeer
    ) -> bytes | None:
        """Relay a client until it, or the active broker, disconnects, and return None.

        If this broker becomes active first, return the bytes that were read of the client, to serve it here.
        """
        first = b""
        if listener == "http":
            received = await self._serve_at_standby(stream, peer)
            if received is None:
                return None
            first = received
        upstream = await self._connect(RelayedClient(listener, peer.ends, peer.local, peer.user), peer)
        if upstream is None and self.is_active:
            return first
        async with stream:
            if upstream is None:
                await self._refuse(listener, stream, peer)
            else:
                if peer.occupant is not None:
                    peer.occupant.engage()
                await self.relay.run(stream, peer, upstream, first)
        return None

    async def _connect(self, client: RelayedClient, peer: SocketPeer) -> trio.SocketStream | None:
        """Return a connection to the active broker for a client.

        Returns None if this broker becomes active, and if no active broker was reached in ``WAIT`` seconds.
        Raises BrokenResourceError if the client disconnects meanwhile.
        """
        end = trio.current_time() + WAIT
        while not self.is_active and trio.current_time() < end:
            if self.active is not None:
                upstream = await self.relay.connect(self.active, self.secret, client, peer.name)
                if upstream is not None:
                    return upstream
            if peer.has_disconnected():
                raise trio.BrokenResourceError("the client disconnected before a broker was active")
            with trio.move_on_after(RETRY):
                await self._changed.wait()
        return None

    async def _refuse(
        self, listener: ListenerName, stream: trio.abc.HalfCloseableStream, peer: SocketPeer
    ) -> None:
        """Tell a client the reason in its protocol, as far as it has one for this, and disconnect it."""
        self._driver.log_refusal("connection refused", NOT_ACTIVE, peer.name)
        await stream.send_all(REFUSALS[listener]())
        with trio.move_on_after(LINGER):
            await stream.send_eof()
            while await stream.receive_some():
                pass


def _http_refusal() -> bytes:
    from leveret.protocol.http import HeadLimits, HttpConnection, HttpError  # noqa: PLC0415 - as wrong_port

    error = HttpError(503, NOT_ACTIVE, (("Retry-After", "1"),))
    return b"".join(HttpConnection(HeadLimits(0)).interrupt(error).respond(error.response))


def _amqp_refusal() -> bytes:
    """Return a connection.close in place of the connection.start: clients show its text."""
    return method_frame(0, ConnectionClose(ConnectionForced.code, NOT_ACTIVE, 0, 0))


REFUSALS: Mapping[ListenerName, Callable[[], bytes]] = {
    "amqp": _amqp_refusal,
    "http": _http_refusal,
    "web_stomp": _http_refusal,
    "stomp": lambda: plain_answer(STOMP, NOT_ACTIVE),
}
