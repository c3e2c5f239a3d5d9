"""The memory that bodies of HTTP requests may take up, over all connections, and each address's share of it.

A body counts as it arrives, and until its request has been answered or its client is gone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from leveret.protocol.http import HttpError

SHARE = 2  # one address may have half of all: the other half is for others


class BodyMemory:
    """``most`` bytes in all; 0 is any number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._of: dict[str, int] = {}  # bytes by network

    @contextmanager
    def hold(self, network: str) -> "Iterator[HeldBody]":
        """Count one body of a client for as long as the block lasts."""
        body = HeldBody(self, network)
        try:
            yield body
        finally:
            self._add(network, -body.size)

    def grow(self, network: str, size: int) -> None:
        """Count more bytes. Raises HttpError 503 when there is no room for them."""
        own = self._of.get(network, 0) + size
        if self.most and (self.held + size > self.most or own > self.most // SHARE):
            raise HttpError(503, "too many large requests are being sent; try again", (("Retry-After", "5"),))
        self._add(network, size)

    def _add(self, network: str, size: int) -> None:
        self.held += size
        self._of[network] = self._of.get(network, 0) + size
        if not self._of[network]:
            del self._of[network]


class HeldBody:
    """What of one body is in memory."""

    def __init__(self, memory: BodyMemory, network: str) -> None:
        self.size = 0
        self._memory = memory
        self._network = network

    def grow_to(self, size: int) -> None:
        """Say how many bytes it has by now. Raises HttpError 503 when there is no room for them."""
        self._memory.grow(self._network, size - self.size)
        self.size = size
