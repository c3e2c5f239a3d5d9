"""Turns of clients that have not logged in yet, a few in each round of the event loop.

A round runs one step of every ready task, and a client that sends something waits for the rest of a round. A
thousand clients that connect at once, or send a byte each, would make a round of hundreds of milliseconds.
With these turns they wait for one another, and logged-in clients wait for a few of them only.
"""

import sys

import trio

MOST = 8  # turns in a round; most of them take 0.1 to 0.5 ms


class NewcomerTurns:
    """Grants up to ``MOST`` turns in each round, in the order of asking, while ``run`` runs."""

    def __init__(self) -> None:
        self._left = MOST
        self._waiting = trio.lowlevel.ParkingLot()
        self._unused = trio.lowlevel.ParkingLot()  # of ``run``, while no turn was taken in this round

    async def take(self) -> None:
        """Wait for a turn; return at once, without a checkpoint, if there is one in this round."""
        if self._left and not self._waiting:
            self._left -= 1
            self._unused.unpark()
        else:
            await self._waiting.park()

    async def run(self) -> None:
        """Grant turns until cancelled, and as many as are asked for afterwards."""
        try:
            while True:
                if self._left == MOST:
                    await self._unused.park()
                self._left = MOST
                self._left -= len(self._waiting.unpark(count=MOST))
                await trio.lowlevel.checkpoint()
        finally:
            self._left = sys.maxsize
            self._waiting.unpark_all()
