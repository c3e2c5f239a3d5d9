"""Scheduling of metrics scrapes: one at a time, with the last result shared for a second.

A scrape of ten thousand queues takes a second of work in small steps. Without this, the scrapes of several
Prometheus servers, or of several paths, would run at the same time.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from leveret.protocol.http import HttpError, Response, in_parts
from leveret.router.broker.broker import Broker
from leveret.router.web.response_steps import ResponseSteps, Wait

SHARED = 1000  # ms for which a result answers further requests for the same key
MOST_WAITING = 20  # scrapes that wait for their turn


class ScrapeResult(NamedTuple):
    """The response to a scrape, its key, and the time when it began, in ms."""

    key: Hashable
    began: int
    response: Response


class Scrapes:
    """The scrapes of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._running = False
        self._waiting: deque[Wait] = deque()
        self._last: ScrapeResult | None = None

    def get(
        self, key: Hashable, make: Callable[[], ResponseSteps[list[bytes]]], content_type: str
    ) -> ResponseSteps[Response]:
        """Return a response with the text that ``make`` returns.

        A response for the same ``key`` whose scrape began less than a second ago is returned again. Only one
        scrape runs at a time. Raises HttpError 503 if too many scrapes wait for the running one, or if it
        does not end before this request times out.
        """
        while True:
            last = self._last
            if last is not None and last.key == key and self._broker.now - last.began < SHARED:
                return last.response
            if not self._running:
                break
            yield from self._wait()
        self._running, self._last = True, None  # release the old text before the new one is made
        try:
            began = self._broker.now
            response = in_parts((yield from make()), content_type)
            self._last = ScrapeResult(key, began, response)
            return response
        finally:
            self._running = False
            while self._waiting:
                self._waiting.popleft().finish()

    def _wait(self) -> ResponseSteps[None]:
        """Wait until the scrape that runs has ended."""
        if len(self._waiting) >= MOST_WAITING:
            raise HttpError(503, "too many scrapes are waiting", (("Retry-After", "1"),))
        wait = Wait()
        self._waiting.append(wait)
        try:
            yield wait
        finally:
            if wait in self._waiting:
                self._waiting.remove(wait)
        if not wait.done:
            raise HttpError(503, "another scrape is still running", (("Retry-After", "1"),))
