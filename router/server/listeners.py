"""Listening: the sockets of every endpoint, who may come in, and the end of accepting.

An endpoint is what is spoken at some addresses. Neither that, nor the life of the broker, is this module's.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
import trio

from leveret.protocol.recognition import wrong_port
from leveret.router.server.places import Guest, Places
from leveret.router.server.socket_peer import Peer, find_peer, show
from leveret.router.server.tls import Security
from leveret.router.server.wrong_port import peek, plain_answer
from leveret.router.settings import parse_address
from leveret.router.values.network_errors import explain

BACKLOG = 1024  # connections that may wait to be accepted
TOGETHER = 64  # connections accepted before everybody else has a turn
REST = 0.1  # seconds, when the system has no means to accept one more
_GONE_AGAIN = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})  # accept(2): one client's fault


class ListenError(Exception):
    """An address cannot be listened on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``name`` is that of the setting below ``listen`` and of the flag which have the addresses; ``url`` is
    what clients are to be told, with ``{}`` for the address; ``speaks`` is the protocol's name.
    """

    name: str
    url: str
    addresses: Iterable[str]
    serve: Callable[[trio.abc.HalfCloseableStream, Peer], Awaitable[None]]
    places: Places
    tls: Security | None = None
    speaks: str = ""
    listeners: list[trio.SocketListener] = field(default_factory=list)

    async def open(self) -> None:
        """Listen. A name may stand for several addresses. Raises ListenError."""
        for text in self.addresses:
            host, port = parse_address(text)
            try:
                self.listeners.extend(await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ListenError(
                        f"cannot listen on {text}: the port is in use; "
                        f"stop what listens there or choose another with --{self.name.replace('_', '-')}"
                    ) from None
                raise ListenError(f"cannot listen on {text}: {error.strerror or error}") from None

    @property
    def closed(self) -> bool:
        """Whether it should listen and does not, or not everywhere: not yet, or no more."""
        sockets = [each.socket.fileno() for each in self.listeners]
        return bool(tuple(self.addresses)) and (not sockets or -1 in sockets)

    @property
    def urls(self) -> list[str]:
        """Where clients find it."""
        return [self.url.format(show(each.socket.getsockname())) for each in self.listeners]

    async def welcome(self, stream: trio.SocketStream, peer: Peer, guest: Guest) -> None:
        """Serve a client, or turn it away when there are too many. Who accepted its socket closes that."""
        with self.places.take(guest) as taken:
            if not taken:
                self.places.refuse(peer.name)
                return
            if self.tls is None:
                await self.serve(stream, replace(peer, direct=True))
            else:
                await self._serve_tls(self.tls, stream, peer, guest)

    async def _serve_tls(self, tls: Security, stream: trio.SocketStream, peer: Peer, guest: Guest) -> None:
        """Serve a client with which TLS can be agreed on."""
        log = structlog.get_logger().bind(peer=peer.name)
        secured = tls.secure(stream)
        try:
            with tls.places.take(guest) as taken, trio.fail_after(tls.patience):
                if not taken:
                    tls.places.refuse(peer.name)
                    return
                if spoken := await peek(stream):
                    reason = wrong_port(f"{spoken} without TLS", f"{self.speaks} over TLS")
                    log.warning("TLS handshake failed", reason=reason)
                    await _say_last(stream, plain_answer(spoken, reason))
                    return
                await secured.do_handshake()
        except trio.TooSlowError:
            log.warning("TLS handshake failed", reason="it took too long")
        except (trio.BrokenResourceError, OSError) as error:
            log.warning("TLS handshake failed", reason=explain(error))
        else:
            ends = replace(peer.ends, **secured.facts())
            await self.serve(secured, replace(peer, user=tls.user_of(secured), ends=ends))


async def _say_last(stream: trio.SocketStream, data: bytes) -> None:
    """Send this and read on until the client hangs up: closing at once might destroy what was sent."""
    await stream.send_all(data)
    await stream.send_eof()
    while await stream.receive_some():
        pass


class Accepting:
    """How accepting is ended, and what is known of that."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.shut = trio.Event()  # nobody listens any more
        self.gone = trio.Event()  # nor is anybody left of those who were let in

    async def stop(self) -> None:
        """Let nobody in from now on."""
        self.scope.cancel()
        await self.shut.wait()


async def accept_all(endpoints: Iterable[Endpoint], accepting: Accepting, most: int = 0) -> None:
    """Accept clients, ``most`` at a time (0: any number), until it is stopped and all of them have left."""
    places = Places(most)

    async def welcome(endpoint: Endpoint, stream: trio.SocketStream) -> None:
        try:
            peer = find_peer(stream.socket)
            if peer is None:
                return
            with trio.CancelScope() as scope:
                guest = Guest(peer.name, peer.ends.peer[0], scope.cancel)
                with places.take(guest) as taken:
                    if not taken:
                        places.refuse(peer.name)
                    elif not accepting.scope.cancel_called:  # else nobody would tell it that the broker stops
                        await endpoint.welcome(stream, replace(peer, guest=guest), guest)
        except Exception as error:
            structlog.get_logger().error("connection failed", exc_info=error)
        finally:
            stream.socket.close()  # at once, and for the second time if its client was served

    async with trio.open_nursery() as clients:
        with accepting.scope:
            async with trio.open_nursery() as doors:
                for endpoint in endpoints:
                    for listener in endpoint.listeners:
                        doors.start_soon(_accept, listener, clients, partial(welcome, endpoint))
                await trio.sleep_forever()
        accepting.shut.set()
    accepting.gone.set()


async def _accept(
    listener: trio.SocketListener,
    clients: trio.Nursery,
    welcome: Callable[[trio.SocketStream], Awaitable[None]],
) -> None:
    """Accept the clients of one listener, who are ``welcome`` in tasks of their own.

    Trio accepts one between two turns of all other tasks, and each may be long: hundreds that come
    back after a restart would wait for hundreds of turns.
    """
    async with listener:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as door:
            door.setblocking(False)
            while True:
                await trio.lowlevel.wait_readable(door)
                try:
                    for _ in range(TOGETHER):
                        accepted, _address = door.accept()
                        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                        clients.start_soon(welcome, stream)
                except BlockingIOError:
                    pass
                except OSError as error:
                    if error.errno not in _GONE_AGAIN:
                        structlog.get_logger().error("cannot accept connections", error=error.strerror)
                        await trio.sleep(REST)
