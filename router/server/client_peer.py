"""Interface of a client at the other end of a connection, over a socket, TLS or WebSocket."""

from collections.abc import Callable
from typing import Protocol

import trio

from leveret.protocol.buffers import Part
from leveret.router.server.places import Occupant
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.session.transport import ConnectionEnds


class ClientPeer(Protocol):
    """The client at the other end of a connection."""

    @property
    def name(self) -> str: ...
    @property
    def loopback(self) -> bool: ...
    @property
    def ends(self) -> ConnectionEnds: ...
    @property
    def occupant(self) -> Occupant | None:
        """Return the place of the client's connection within the connection limits."""

    @property
    def user(self) -> str | None:
        """Return the user that its certificate proves; None without one."""

    async def receive(self, stream: trio.abc.ReceiveStream, size: int) -> bytes | bytearray:
        """Return up to ``size`` bytes of its stream; none at the end."""

    @property
    def direct(self) -> bool:
        """Return True if its bytes are read from the socket unchanged."""

    async def receive_into(self, room: memoryview) -> int:
        """Read bytes to ``room``, if ``direct``; return their number, 0 at the end."""

    def receive_now(self, size: int) -> bytes:
        """Return up to ``size`` bytes that have arrived; none if there are none, or at the end."""

    def send(self, parts: list[Part]) -> int:
        """Send as much as the socket takes at once; return the number of bytes."""

    async def send_all(
        self,
        stream: trio.abc.SendStream,
        parts: list[Part],
        sent: Callable[[int], None],
        timeouts: SendTimeouts,
    ) -> None:
        """Send all parts through its stream; call ``sent`` with the bytes as they are sent. Raises
        TooSlowError for a client that reads nothing for too long.
        """

    async def send_eof(self, stream: trio.abc.HalfCloseableStream) -> None:
        """Close the direction to the client; more may be received. Raises BrokenResourceError."""

    def has_disconnected(self) -> bool:
        """Return True if the client has ended its side, even if unread bytes remain."""
