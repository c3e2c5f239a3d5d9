"""One scrape of the metrics at a time, whoever asks, and the last one shared for a second.

A scrape of ten thousand queues takes a second of work in small steps. Two Prometheus servers that scrape the
same broker, or one that scrapes three paths, would otherwise take that at the same time.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from protocol.http import HttpError
from router.broker import Broker
from router.web.steps import Steps, Wait

SHARED = 1000  # ms for which a scrape answers others that ask for the same
MOST_WAITING = 20  # scrapes that wait for their turn


class Result(NamedTuple):
    """The text of a scrape, what was asked for, and when it began."""

    key: Hashable
    began: int
    text: bytes


class Scrapes:
    """The scrapes of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._running = False
        self._waiting: deque[Wait] = deque()
        self._last: Result | None = None

    def get(self, key: Hashable, make: Callable[[], Steps[bytes]]) -> Steps[bytes]:
        """The text that ``make`` returns for ``key``, made now or less than a second ago.

        Raises HttpError 503 if too many scrapes wait, or one has waited for as long as a request may take.
        """
        while True:
            last = self._last
            if last is not None and last.key == key and self._broker.now - last.began < SHARED:
                return last.text
            if not self._running:
                break
            yield from self._wait()
        self._running, self._last = True, None  # one text is kept, not two
        try:
            began = self._broker.now
            text = yield from make()
            self._last = Result(key, began, text)
            return text
        finally:
            self._running = False
            while self._waiting:
                self._waiting.popleft().finish()

    def _wait(self) -> Steps[None]:
        """Wait until the scrape that runs has ended."""
        if len(self._waiting) >= MOST_WAITING:
            raise HttpError(503, "too many scrapes wait for another one", (("Retry-After", "1"),))
        wait = Wait()
        self._waiting.append(wait)
        try:
            yield wait
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
        if not wait.done:
            raise HttpError(503, "another scrape has not ended yet", (("Retry-After", "1"),))
