"""Bytes waiting to be sent to one connection, and when there are too many of them.

The core writes here, synchronously; one task of the connection empties it in large pieces.
"""

import trio


class Outbox:
    """Above ``high`` unsent bytes a connection is given no more deliveries and is read from no more, until below ``low``."""

    __slots__ = ("_chunks", "_drained", "_full", "_high", "_low", "_sent", "_size", "_wake", "closed")

    def __init__(self, high: int, low: int, now: int) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._high = high
        self._low = low
        self._full = False
        self._sent = now
        self._wake: trio.Event | None = None
        self._drained: trio.Event | None = None
        self.closed = False

    def write(self, data: bytes) -> None:
        self._chunks.append(data)
        self._grow(len(data))

    def extend(self, parts: list[bytes]) -> None:
        self._chunks += parts
        self._grow(sum(map(len, parts)))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._high:
            self._full = True
        self._ring()

    def _ring(self) -> None:
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def writable(self) -> bool:
        """Whether deliveries may be written."""
        return not self._full

    def last_sent(self) -> int:
        return self._sent

    def close(self) -> None:
        """Nothing more will be written; ``take`` ends once all is taken."""
        self.closed = True
        self._ring()

    async def take(self) -> bytes:
        """Everything that waits, as soon as there is something; empty when it was closed and is empty."""
        while not self._chunks:
            if self.closed:
                return b""
            self._wake = trio.Event()
            await self._wake.wait()
        data = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        return data

    def sent(self, size: int, now: int) -> bool:
        """Count bytes as sent. True when there is room again after there was none."""
        self._sent = now
        self._size -= size
        if self._full and self._size <= self._low:
            self._full = False
            if self._drained is not None:
                self._drained.set()
                self._drained = None
            return True
        return False

    async def room(self) -> None:
        """Wait until deliveries may be written again."""
        if self._full:
            self._drained = self._drained or trio.Event()
            await self._drained.wait()
