"""Turns of clients that have not logged in yet, a few in each round of the event loop.

A round runs one step of every ready task, and a client that sends something waits for the rest of a round. A
thousand clients that connect at once, or send a byte each, would make a round of hundreds of milliseconds.
With these turns they wait for one another, and logged-in clients wait for a few of them only.
"""

import sys

import trio

MOST = 8  # turns in a round; most of them take 0.1 to 0.5 ms
FEW = MOST // 2  # turns left, from which on ``run`` is woken: before that it would cost each newcomer a round


class NewcomerTurns:
    """Grants up to ``MOST`` turns in each round, in the order of asking, while ``run`` runs.

    Turns that are left can be taken in the same round.
    """

    def __init__(self) -> None:
        self._left = MOST
        self._waiting = trio.lowlevel.ParkingLot()
        self._unused = trio.lowlevel.ParkingLot()  # of ``run``, while more than ``FEW`` turns are left

    def take_now(self) -> bool:
        """Take a turn and return True, if there is one left and no other newcomer waits."""
        if not self._left or self._waiting:
            return False
        self._left -= 1
        if self._left <= FEW:
            self._unused.unpark()
        return True

    async def take(self) -> None:
        """Wait for a turn; return at once, without a checkpoint, if there is one left."""
        if not self.take_now():
            await self._waiting.park()

    async def run(self) -> None:
        """Grant turns until cancelled, and as many as are asked for afterwards."""
        try:
            while True:
                if self._left > FEW:
                    await self._unused.park()
                self._left = MOST
                self._left -= len(self._waiting.unpark(count=MOST))
                await trio.lowlevel.checkpoint()
        finally:
            self._left = sys.maxsize
            self._waiting.unpark_all()
