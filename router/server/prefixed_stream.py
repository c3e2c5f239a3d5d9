"""Stream with a prefix: bytes that were received earlier are received once more."""

import trio


class PrefixedStream(trio.abc.HalfCloseableStream):
    """The stream ``below``; ``first`` is received before its other bytes."""

    def __init__(self, below: trio.abc.HalfCloseableStream, first: bytes) -> None:
        self._below = below
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._first:
            return await self._below.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._first) if max_bytes is None else max_bytes
        data, self._first = self._first[:size], self._first[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._below.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._below.send_eof()

    async def aclose(self) -> None:
        await self._below.aclose()
