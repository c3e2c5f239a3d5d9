"""How long a write to a client may make no progress.

Responsible for cancelling writes that wait for longer than that. One task looks at all that wait. With a
deadline for each write Trio keeps an object for as long as the deadline would have lasted; scattered over
memory, those kept what a flood had needed from being given back to the system.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

LOOKS = 4  # in the time that a write may take


class SendTimeouts:
    """The writes of all clients that wait; each may do so for ``seconds``, and up to a quarter more."""

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
        """Cancel what waits for too long, until cancelled."""
        while True:
            if not self._since:
                self._first = trio.Event()
                await self._first.wait()
            await trio.sleep(self.seconds / LOOKS)
            late = trio.current_time() - self.seconds
            for scope, since in list(self._since.items()):
                if since <= late:
                    scope.cancel()
