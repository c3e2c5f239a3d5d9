"""Reads from one client, if possible without waiting for Trio to report the socket as readable.

A client that sends one request at a time has often sent the next one when the reply to the previous one was
sent. Reading it at once saves a pass of Trio's loop, about 15 of 60 us of such a turn. An attempt without
data takes 1 to 2 us, so attempts become rare for a client that does not send at once.
"""

import trio

from leveret.router.server.client_peer import ClientPeer
from leveret.router.server.driver import Driver
from leveret.router.server.outbox import BufferedOutbox

IN_A_ROW = 16  # reads without waiting, after which other tasks run;
SERIES = 0.001  # seconds of such reads and their turns, after which other tasks run
SKIPPED = 64  # answered turns at most between two attempts


class ClientReads:
    """Reads of one client. After a turn that sent data to the client, a read is attempted without waiting.
    After each attempt without data, the next 1, 2, 4 ... such turns are skipped. Until its login a client
    takes turns with others.
    """

    __slots__ = ("_driver", "_in_a_row", "_outbox", "_peer", "_sends", "_skip", "_stream", "_until", "_vain")

    def __init__(
        self, stream: trio.abc.ReceiveStream, peer: ClientPeer, outbox: BufferedOutbox, driver: Driver
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._outbox = outbox
        self._driver = driver
        self._sends = 0  # of the outbox, when the client was last read from
        self._in_a_row = 0
        self._until = 0.0  # when the present series of reads ends
        self._skip = 0  # answered turns until the next attempt
        self._vain = 1  # answered turns that are skipped after the next vain attempt

    async def read(self, size: int) -> bytes | bytearray:
        """Return up to ``size`` bytes; none at the end. Raises BrokenResourceError, as streams do."""
        sends = self._outbox.traffic.sends
        if sends != self._sends:
            self._sends = sends
            if self._skip:
                self._skip -= 1
            elif self._may_go_on():
                if data := self._peer.receive_now(size):
                    self._in_a_row += 1
                    self._vain = 1
                    return data
                self._skip, self._vain = self._vain, min(2 * self._vain, SKIPPED)
        self._in_a_row = 0
        received = await self._peer.receive(self._stream, size)
        if self._peer.occupant is not None and self._peer.occupant.waiting:
            await self._peer.occupant.take_turn()
            if self._outbox.closed:
                return b""
        return received

    def _may_go_on(self) -> bool:
        """Return True if one more read and its turn may run before other tasks do."""
        driver = self._driver
        if not self._in_a_row:
            self._until = driver.began + SERIES
        return self._in_a_row < IN_A_ROW and driver.ended < self._until and not self._outbox.closed
