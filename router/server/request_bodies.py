"""Memory limit for bodies of HTTP requests over all connections, and the shares of one address and one user.

A body counts as it arrives, and until its request has been answered or its client is gone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from leveret.protocol.http import HttpError

SHARE = 2  # one address, or one user, may take half of the memory, so that the other half is left for others


class BodyMemory:
    """Memory for the bodies of requests: ``most`` bytes in all; 0: no limit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._of: dict[str, int] = {}  # bytes by owner

    @contextmanager
    def hold(self, *owners: str) -> "Iterator[HeldBody]":
        """Count one body during the block, for its client's network and its user."""
        body = HeldBody(self, owners)
        try:
            yield body
        finally:
            self._add(owners, -body.size)

    def grow(self, owners: Sequence[str], size: int) -> None:
        """Count more bytes. Raises HttpError 503 if there is no room for them."""
        own = max(self._of.get(owner, 0) for owner in owners) + size
        if self.most and (self.held + size > self.most or own > self.most // SHARE):
            raise HttpError(503, "too many large requests are being sent; try again", (("Retry-After", "5"),))
        self._add(owners, size)

    def _add(self, owners: Sequence[str], size: int) -> None:
        self.held += size
        for owner in owners:
            self._of[owner] = self._of.get(owner, 0) + size
            if not self._of[owner]:
                del self._of[owner]


class HeldBody:
    """Counted memory of one body."""

    def __init__(self, memory: BodyMemory, owners: Sequence[str]) -> None:
        self.size = 0
        self._memory = memory
        self._owners = owners

    def grow_to(self, size: int) -> None:
        """Set the size of the body. Raises HttpError 503 if there is no room."""
        self._memory.grow(self._owners, size - self.size)
        self.size = size
