"""Peer of a socket: the client, its addresses, and direct access to the socket for sending and receiving."""

import math
import os
import select
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from socket import SHUT_WR

import trio
from msgspec import Struct

from leveret.protocol.buffers import MappedBuffer, Part
from leveret.router.server.outbox import pieces, unsent
from leveret.router.server.places import Occupant
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.session.transport import UNKNOWN, ConnectionEnds

# Linux only; elsewhere a disconnected client shows at the next send
HUNG_UP = getattr(select, "POLLRDHUP", 0)

SHARE = 1 << 16  # bytes that a client over TLS must read within the timeout


class SocketPeer(Struct, frozen=True):
    """A client. ``loopback`` is True if it is on this machine, ``local`` if it came to a loopback address.

    ``user`` is the user that its certificate proves, or None. ``direct`` is True if its bytes go to the
    socket unchanged, without TLS or WebSocket. ``watched`` is True if its stream has its own limit on the
    time in which the client reads nothing. ``occupant`` is its connection as a holder of places.
    """

    name: str
    loopback: bool
    socket: trio.socket.SocketType
    local: bool = True
    user: str | None = None
    direct: bool = False
    ends: ConnectionEnds = UNKNOWN
    occupant: Occupant | None = None
    watched: bool = False

    def send(self, parts: list[Part]) -> int:
        """Send as much as the socket takes at once, if the connection is ``direct``; return the number of
        bytes. Errors show when the rest is sent.
        """
        if not self.direct:
            return 0
        try:
            return os.writev(self.socket.fileno(), parts)
        except OSError:
            return 0

    async def send_all(
        self,
        stream: trio.abc.SendStream,
        parts: list[Part],
        sent: Callable[[int], None],
        timeouts: SendTimeouts,
    ) -> None:
        """Send all parts through the stream on this socket; call ``sent`` with the bytes as they are sent.
        Raises BrokenResourceError, as the stream does, and TooSlowError if the client reads nothing for the
        time of ``timeouts``, or over TLS fewer bytes than ``SHARE``.
        """
        if not self.direct:
            for piece in pieces(parts):
                with trio.fail_after(
                    math.inf if self.watched else timeouts.seconds * max(1, len(piece) / SHARE)
                ):
                    await stream.send_all(memoryview(piece) if isinstance(piece, MappedBuffer) else piece)
                sent(len(piece))
            return
        await trio.lowlevel.checkpoint()  # a client that reads everything at once does not block other tasks
        while parts:
            try:
                count = os.writev(self.socket.fileno(), parts)
            except BlockingIOError:
                count = 0
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
            if count:
                parts = unsent(parts, count)
                sent(count)
            else:
                with timeouts.limit():
                    await trio.lowlevel.wait_writable(self.socket)

    def receive_now(self, size: int) -> bytes:
        """Return up to ``size`` bytes that have arrived at the socket, if the connection is ``direct``.

        Returns b"" if no bytes have arrived, at the end, and after an error, which ``receive`` will raise.
        """
        if not self.direct:
            return b""
        try:
            return os.read(self.socket.fileno(), size)
        except OSError:
            return b""

    async def receive(self, stream: trio.abc.ReceiveStream, size: int) -> bytes | bytearray:
        """Return up to ``size`` bytes of the stream on this socket; b"" at its end. Raises
        BrokenResourceError, as the stream does.
        """
        if not self.direct:
            return await stream.receive_some(size)
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return os.read(self.socket.fileno(), size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def receive_into(self, room: memoryview) -> int:
        """Read bytes from the socket to ``room``; return their number, 0 at the end. Raises
        BrokenResourceError. Only for a connection that is ``direct``.
        """
        while True:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                return os.readv(self.socket.fileno(), [room])
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def send_eof(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Close the direction to the client; more may be received. Raises BrokenResourceError.

        A connection that is ``direct`` does not wait for other tasks, as the stream would.
        """
        if not self.direct:
            await stream.send_eof()
            return
        try:
            self.socket.shutdown(SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    def has_disconnected(self) -> bool:
        """Return True if the client has ended its side, even if unread bytes remain."""
        poll = select.poll()
        poll.register(self.socket, HUNG_UP)
        return bool(poll.poll(0))


# Serves the client at a stream until it leaves.
ServeClient = Callable[[trio.abc.HalfCloseableStream, SocketPeer], Awaitable[None]]


def find_peer(socket: trio.socket.SocketType) -> SocketPeer | None:
    """Return the peer of a socket; None if it has disconnected."""
    try:
        here, there = socket.getsockname(), socket.getpeername()
    except OSError:
        return None
    ends = ConnectionEnds((there[0], there[1]), (here[0], here[1]))
    return SocketPeer(show(there), is_loopback(there[0]), socket, is_loopback(here[0]), ends=ends)


def show(address: tuple[str, int]) -> str:
    """Format an address as HOST:PORT, with brackets for IPv6."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Return True if an address is a loopback address of this machine, also IPv4 within IPv6."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
