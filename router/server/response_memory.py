"""Memory limit for HTTP responses over all connections, and the share of one address.

A response counts while its handler makes it and until its client has read it. A response that would exceed
the limit waits until another one has ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

SHARE = 2  # one address may take half of the memory, so that the other half is left for others
FREE = 1 << 16  # bytes; smaller responses are not counted, as the number of connections limits them


class ResponseMemory:
    """Memory for responses: ``most`` bytes in all; 0: no limit. ``ended`` is set when a response ends.

    The oldest response of each address may exceed the limit. Without this exception, responses that wait for
    each other would wait forever, and a response larger than the limit could not be made.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self.ended = trio.Event()
        self._addresses: dict[str, _Address] = {}

    @contextmanager
    def share(self, address: str) -> "Iterator[ResponseShare]":
        """Count the responses of one connection during the block."""
        share = ResponseShare(self, address)
        try:
            yield share
        finally:
            share.release()

    def has_room(self, share: "ResponseShare", size: int) -> bool:
        """Return True if the response of ``share`` may grow to ``size`` bytes."""
        if not self.most or size <= FREE:
            return True
        address = self._addresses.setdefault(share.address, _Address())
        address.responses[share] = None
        if next(iter(address.responses)) is share:
            return True
        grown = size - share.size
        return self.held + grown <= self.most and address.held + grown <= self.most // SHARE

    def count(self, share: "ResponseShare", size: int) -> None:
        """Set the size of the response of ``share``, even if there is no room."""
        grown = size - share.size
        if grown:
            address = self._addresses.setdefault(share.address, _Address())
            address.responses[share] = None
            address.held += grown
            self.held += grown
            share.size = size

    def end(self, share: "ResponseShare") -> None:
        """Stop counting the response of ``share``; let the responses that wait continue."""
        self.count(share, 0)
        address = self._addresses.get(share.address)
        if address is not None and share in address.responses:
            del address.responses[share]
            if not address.responses:
                del self._addresses[share.address]
            self.ended.set()
            self.ended = trio.Event()


@dataclass(slots=True)
class _Address:
    """The responses to clients of one address, the oldest first, and their bytes."""

    responses: "dict[ResponseShare, None]" = field(default_factory=dict)
    held: int = 0


class ResponseShare:
    """Counted memory of the current response of one connection."""

    __slots__ = ("_memory", "address", "size")

    def __init__(self, memory: ResponseMemory, address: str) -> None:
        self.address = address
        self.size = 0
        self._memory = memory

    def grow(self, size: int) -> bool:
        """Set the size of the response if there is room; return False if there is none."""
        if not self._memory.has_room(self, size):
            return False
        self.count(size)
        return True

    def count(self, size: int) -> None:
        """Set the size of the complete response."""
        self._memory.count(self, size if size > FREE else 0)

    def release(self) -> None:
        """Stop counting the response."""
        self._memory.end(self)
