"""The tail of a stream: the newest chunks, in memory, shared by readers at its end.

Responsible for chunks not yet in a file, and recent chunks kept for readers at the end. Not for older
chunks (see ``pieces``).
"""

from bisect import bisect_left
from operator import attrgetter

from leveret.router.stream.chunk import Chunk

TAIL = 1 << 20  # bytes of chunks that stay while the stream has readers
IDLE_TAIL = 1 << 16  # bytes of chunks that stay while it has none
TIMESTAMP = attrgetter("timestamp")


class Tail:
    """The newest ``chunks``, without a gap. After the first append there is always at least one."""

    __slots__ = ("_size", "_written", "chunks")

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._size = 0
        self._written = 0  # chunks below this offset are in the segments' files

    @property
    def first(self) -> int:
        """The offset it begins with."""
        return self.chunks[0].first

    def append(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._size += chunk.size

    def written(self, below: int, *, idle: bool) -> None:
        """Free memory: chunks below this offset are in the segments' files."""
        self._written = max(self._written, below)
        self.shorten(idle=idle)

    def shorten(self, *, idle: bool) -> None:
        """Drop chunks that need not stay in memory. ``idle``: there are no readers."""
        self.trim(self._written, IDLE_TAIL if idle else TAIL)

    def trim(self, below: int, keep: int = 0) -> None:
        """Drop chunks that end below an offset, as long as ``keep`` bytes stay."""
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
        """Return the first offset of the first chunk that is not older than a time; there must be one."""
        return self.chunks[bisect_left(self.chunks, time, key=TIMESTAMP)].first

    def clear(self) -> None:
        self.chunks.clear()
        self._size = 0
