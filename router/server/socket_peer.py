"""Who is at the other end of a socket, and at which of this machine's addresses."""

import math
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

import trio

from leveret.router.server.outbox import Part, behind, pieces
from leveret.router.server.places import Guest
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.session.transport import UNKNOWN, Ends

HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux only; elsewhere it shows when something is sent

SHARE = 1 << 16  # bytes that a client over TLS must take in the time that it has


@dataclass(frozen=True, slots=True)
class Peer:
    """``loopback`` says whether the client is on this machine, ``local`` whether it came
    to a loopback address.

    ``user`` is whom its certificate proves it to be, None when it proves nothing. ``direct`` says that its
    bytes go to the socket as they are, in no other protocol; ``watched`` that its stream itself sees to it
    that the client reads. ``guest`` is its connection, as the holder of places.
    """

    name: str
    loopback: bool
    socket: trio.socket.SocketType
    local: bool = True
    user: str | None = None
    direct: bool = False
    ends: Ends = UNKNOWN
    guest: Guest | None = None
    watched: bool = False

    def send(self, parts: list[Part]) -> int:
        """Have it sent what the socket takes at once, if what is sent is what the socket carries; what is
        wrong shows when the rest is sent.
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
        """Send these through the stream that goes over this socket, and tell ``sent`` of the bytes as they
        go. Raises BrokenResourceError, as the stream does, and TooSlowError when the client takes nothing for
        the time that ``timeouts`` allow, or over TLS not so many bytes as ``SHARE``.
        """
        if not self.direct:
            for piece in pieces(parts):
                with trio.fail_after(
                    math.inf if self.watched else timeouts.seconds * max(1, len(piece) / SHARE)
                ):
                    await stream.send_all(piece)
                sent(len(piece))
            return
        await trio.lowlevel.checkpoint()  # a client that takes all at once keeps nobody from having a turn
        while parts:
            try:
                count = os.writev(self.socket.fileno(), parts)
            except BlockingIOError:
                count = 0
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
            if count:
                parts = behind(parts, count)
                sent(count)
            else:
                with timeouts.limit():
                    await trio.lowlevel.wait_writable(self.socket)

    async def receive(self, stream: trio.abc.ReceiveStream, size: int) -> bytes | bytearray:
        """Up to ``size`` bytes from the stream that goes over this socket; none when it has ended.

        A socket is asked when it has some: asking it in vain before that takes as long again. Raises
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

    def hung_up(self) -> bool:
        """Whether it has ended its side, also behind bytes that were not read."""
        poll = select.poll()
        poll.register(self.socket, HUNG_UP)
        return bool(poll.poll(0))


def find_peer(socket: trio.socket.SocketType) -> Peer | None:
    """Who is there; None when it has gone already."""
    try:
        here, there = socket.getsockname(), socket.getpeername()
    except OSError:
        return None
    ends = Ends((there[0], there[1]), (here[0], here[1]))
    return Peer(show(there), is_loopback(there[0]), socket, is_loopback(here[0]), ends=ends)


def show(address: tuple[str, int]) -> str:
    """An address as HOST:PORT, with brackets where they belong."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine's own loopback addresses, also IPv4 within IPv6."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
