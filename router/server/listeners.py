"""Listeners: sockets of all endpoints, accepting clients, and the end of accepting.

An endpoint is a protocol at some addresses. Not for the protocols (see ``amqp``, ``stomp``, ``http``) nor for
start and stop of the broker (see ``main``).
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio
from msgspec import Struct, field
from msgspec.structs import replace

from leveret.protocol.recognition import wrong_port
from leveret.router.server.newcomer_turns import NewcomerTurns
from leveret.router.server.places import LogRefusal, Occupant, Places, log_each_refusal
from leveret.router.server.socket_peer import SocketPeer, find_peer, show
from leveret.router.server.tls import ListenerTls
from leveret.router.server.wrong_port import peek, plain_answer
from leveret.router.settings import parse_address
from leveret.router.values.network_errors import explain

if TYPE_CHECKING:
    from leveret.router.server.relayed_clients import RelayedClients

BACKLOG = 1024  # connections that may wait to be accepted
ACCEPT_BATCH = 64  # connections that are accepted before other tasks run
TLS_FAILED = "TLS handshake failed"
RETRY_DELAY = 0.1  # seconds to wait when the system has no resources to accept a connection
# accept(2): errors of single clients
_CLIENT_ERRORS = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})


class ListenError(Exception):
    """An address cannot be listened on; the text has the reason and advice."""


class Endpoint(Struct, frozen=True):
    """A protocol at some addresses. ``name`` is the setting below ``listen``, and the flag, for the
    addresses; ``url`` is the template of the URL for clients, with ``{}`` for the address; ``speaks`` is the
    protocol's name. ``relayed`` accepts clients that other brokers relay, at a listener without TLS.
    """

    name: str
    url: str
    addresses: Iterable[str]
    serve: Callable[[trio.abc.HalfCloseableStream, SocketPeer], Awaitable[None]]
    places: Places
    tls: ListenerTls | None = None
    speaks: str = ""
    log_refusal: LogRefusal = log_each_refusal
    relayed: "RelayedClients | None" = None
    listeners: list[trio.SocketListener] = field(default_factory=list)

    async def open(self) -> None:
        """Open the listeners. A host name may have several addresses. Raises ListenError."""
        for text in self.addresses:
            host, port = parse_address(text)
            try:
                self.listeners.extend(await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ListenError(
                        f"cannot listen on {text}: the port is in use; stop the program that uses it, "
                        f"or choose another with --{self.name.replace('_', '-')}"
                    ) from None
                raise ListenError(f"cannot listen on {text}: {error.strerror or error}") from None

    @property
    def closed(self) -> bool:
        """Return True if an address is not listened on yet, or no longer."""
        sockets = [each.socket.fileno() for each in self.listeners]
        return bool(tuple(self.addresses)) and (not sockets or -1 in sockets)

    @property
    def urls(self) -> list[str]:
        """Return the URLs for clients."""
        return [self.url.format(show(each.socket.getsockname())) for each in self.listeners]

    async def serve_client(self, stream: trio.SocketStream, peer: SocketPeer, occupant: Occupant) -> None:
        """Serve a client, or refuse it if there are too many. The caller closes the socket."""
        with self.places.take(occupant) as taken:
            if not taken:
                self.places.refuse(peer.name)
                return
            if self.tls is not None:
                await self._serve_tls(self.tls, stream, peer, occupant)
                return
            if self.relayed is None or not await self.relayed.is_relayed(stream):
                await self.serve(stream, replace(peer, direct=True))
                return
            client = await self.relayed.identify(stream, peer)
        if client is not None:  # it takes a place of its own protocol
            await self.relayed.serve(stream, peer, occupant, client)

    async def _serve_tls(
        self, tls: ListenerTls, stream: trio.SocketStream, peer: SocketPeer, occupant: Occupant
    ) -> None:
        """Serve a client after a successful TLS handshake."""
        secured = tls.secure(stream)
        try:
            with tls.places.take(occupant) as taken, trio.fail_after(tls.handshake_timeout):
                if not taken:
                    tls.places.refuse(peer.name)
                    return
                if spoken := await peek(stream):
                    reason = wrong_port(f"{spoken} without TLS", f"{self.speaks} over TLS")
                    self.log_refusal(TLS_FAILED, reason, peer.name)
                    await _send_last(stream, plain_answer(spoken, reason))
                    return
                await occupant.take_turn()
                await secured.do_handshake()
        except trio.TooSlowError:
            self.log_refusal(TLS_FAILED, "it timed out", peer.name)
        except (trio.BrokenResourceError, OSError) as error:
            self.log_refusal(TLS_FAILED, explain(error), peer.name)
        else:
            ends = replace(peer.ends, **secured.facts())
            await self.serve(secured, replace(peer, user=tls.user_of(secured), ends=ends))


async def _send_last(stream: trio.SocketStream, data: bytes) -> None:
    """Send these bytes and read on until the client disconnects: closing at once might destroy them."""
    await stream.send_all(data)
    await stream.send_eof()
    while await stream.receive_some():
        pass


class AcceptState:
    """State of accepting, and its end."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.closed = trio.Event()  # set when all listeners are closed
        self.all_left = trio.Event()  # set when all accepted clients have left too

    async def stop(self) -> None:
        """Accept no more clients."""
        self.scope.cancel()
        await self.closed.wait()


async def accept_all(
    endpoints: Iterable[Endpoint],
    accepting: AcceptState,
    most: int = 0,
    log_refusal: LogRefusal = log_each_refusal,
) -> None:
    """Accept clients, ``most`` at a time (0: no limit), until accepting is stopped and all clients
    have left.
    """
    places = Places(most, log_refusal)
    turns = NewcomerTurns()

    async def serve_client(endpoint: Endpoint, stream: trio.SocketStream) -> None:
        try:
            await turns.take()
            peer = find_peer(stream.socket)
            if peer is None:
                return
            with trio.CancelScope() as scope:
                occupant = Occupant(peer.name, peer.ends.peer[0], scope.cancel, turns)
                with places.take(occupant) as taken:
                    if not taken:
                        places.refuse(peer.name)
                    # else no protocol would close its connection for the shutdown
                    elif not accepting.scope.cancel_called:
                        await endpoint.serve_client(stream, replace(peer, occupant=occupant), occupant)
        except Exception as error:
            structlog.get_logger().error("connection failed", exc_info=error)
        finally:
            stream.socket.close()  # immediately; already closed if its client was served

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        async with trio.open_nursery() as clients:
            with accepting.scope:
                async with trio.open_nursery() as doors:
                    for endpoint in endpoints:
                        for listener in endpoint.listeners:
                            serve = partial(serve_client, endpoint)
                            doors.start_soon(_accept, listener, clients, serve, log_refusal)
                    await trio.sleep_forever()
            accepting.closed.set()
        nursery.cancel_scope.cancel()
    accepting.all_left.set()


async def _accept(
    listener: trio.SocketListener,
    clients: trio.Nursery,
    serve_client: Callable[[trio.SocketStream], Awaitable[None]],
    log_refusal: LogRefusal,
) -> None:
    """Accept the clients of one listener, and run ``serve_client`` for each in a task of its own.

    Trio accepts one client between two turns of all other tasks, each of which may be long: hundreds of
    clients that reconnect after a restart would wait for hundreds of turns.
    """
    async with listener:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as door:
            door.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(door)
                try:
                    for _ in range(ACCEPT_BATCH):
                        accepted, _address = door.accept()
                        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                        clients.start_soon(serve_client, stream)
                except BlockingIOError:
                    pass
                except OSError as error:
                    if error.errno not in _CLIENT_ERRORS:
                        # Tried again ten times a second: the log counts the failures of a minute.
                        address = show(listener.socket.getsockname())
                        log_refusal("cannot accept connections", error.strerror or str(error), address)
                        await trio.sleep(RETRY_DELAY)
