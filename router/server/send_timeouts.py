"""Timeouts of writes to clients without progress.

Responsible for cancelling writes that wait for too long. One task checks all writes. A Trio deadline for each
write would leave an object in Trio's queue until the deadline, even if the write ends early. Such objects,
scattered over memory, kept the memory of a flood from being returned to the system.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

LOOKS = 4  # checks during the timeout of a write


class SendTimeouts:
    """Waiting writes of all clients; each may wait for ``seconds``, and up to a quarter more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[trio.CancelScope, float] = {}
        self._first = trio.Event()

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raise trio.TooSlowError if the block waits for too long."""
        with trio.CancelScope() as scope:
            self._since[scope] = trio.current_time()
            self._first.set()
            try:
                yield
            finally:
                del self._since[scope]
        if scope.cancelled_caught:
            raise trio.TooSlowError

    async def watch(self) -> None:
        """Cancel writes that wait for too long, until cancelled."""
        while True:
            if not self._since:
                self._first = trio.Event()
                await self._first.wait()
            await trio.sleep(self.seconds / LOOKS)
            late = trio.current_time() - self.seconds
            for scope, since in list(self._since.items()):
                if since <= late:
                    scope.cancel()
