"""The newest chunks of a stream, which are in memory: readers at its end share them.

Owns which chunks stay: those that are in no file yet, and some more. What is older is read in
pieces.
"""

from bisect import bisect_left
from operator import attrgetter

from leveret.router.stream.chunk import Chunk

TAIL = 1 << 20  # bytes of chunks that stay while somebody reads,
IDLE_TAIL = 1 << 16  # and while nobody does
TIMESTAMP = attrgetter("timestamp")


class Tail:
    """The ``chunks`` have no gap. From the first that came there is one at least."""

    __slots__ = ("_size", "_written", "chunks")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._size = 0
        self._written = 0  # what is below this offset is in the segments' files

    @property
    def first(self) -> int:
        """The offset it begins with."""
        return self.chunks[0].first

    def append(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._size += chunk.size

    def written(self, below: int, *, idle: bool) -> None:
        """What is below this offset is in the segments' files, and need not stay."""
        self._written = max(self._written, below)
        self.shorten(idle=idle)

    def shorten(self, *, idle: bool) -> None:
        """Let go of what nobody needs in memory. ``idle``: nobody reads."""
        self.trim(self._written, IDLE_TAIL if idle else TAIL)

    def trim(self, below: int, keep: int = 0) -> None:
        """Let go of chunks that end below an offset, as long as ``keep`` bytes stay."""
        size, count = self._size, 0
        for chunk in self.chunks[:-1]:
            if chunk.end > below or size - chunk.size < keep:
                break
            size -= chunk.size
            count += 1
        if count:
            del self.chunks[:count]
            self._size = size

    def since(self, time: int) -> int:
        """The first offset of the first chunk that is not older than a time, which one is."""
        return self.chunks[bisect_left(self.chunks, time, key=TIMESTAMP)].first

    def clear(self) -> None:
        self.chunks.clear()
        self._size = 0
