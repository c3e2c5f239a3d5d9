"""Pieces of segments for readers far behind the end: large reads, shared by readers at the same offsets.

Responsible for the pieces in memory and the reads in progress. Not for the segment of an offset (see
``segments``).
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter

from leveret.router.stream.chunk import Chunk
from leveret.router.stream.log import ReadRequest
from leveret.router.stream.reader import StreamReader

PIECES = 8  # pieces kept in memory for readers behind the one that requested them
FIRST = attrgetter("first")


class Piece:
    """Chunks that were read together; ``place`` is the place in their segment where they end."""

    __slots__ = ("chunks", "place", "segment")

    def __init__(self, segment: int, chunks: Sequence[Chunk], place: int) -> None:
        self.segment = segment
        self.chunks = chunks
        self.place = place

    @property
    def first(self) -> int:
        return self.chunks[0].first

    @property
    def end(self) -> int:
        return self.chunks[-1].end


def find(chunks: Sequence[Chunk], offset: int) -> Chunk | None:
    """Return the chunk that holds an offset, of chunks in their order.

    For an offset that was lost by damage, returns the next chunk; None if there is none.
    """
    index = bisect_right(chunks, offset, key=FIRST) - 1
    if index >= 0 and offset < chunks[index].end:
        return chunks[index]
    return chunks[index + 1] if index + 1 < len(chunks) else None


class Pieces:
    """The pieces of one stream."""

    __slots__ = ("_kept", "_requests")

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Piece] = OrderedDict()  # by first offset, the last used last
        self._requests: dict[tuple[int, int, int], tuple[ReadRequest, list[StreamReader]]] = {}

    def at(self, offset: int) -> Piece | None:
        """Return the piece that begins with an offset."""
        piece = self._kept.get(offset)
        if piece is not None:
            self._kept.move_to_end(offset)
        return piece

    def request(
        self, segment: int, offset: int, time: int, place: int, reader: StreamReader | None
    ) -> ReadRequest | None:
        """Add a reader to those that wait for a piece; return the request to submit.

        ``reader`` is None for a read in advance. Returns None if the request is in progress.
        """
        key = segment, offset, time
        known = self._requests.get(key)
        if known is not None:
            if reader is not None:
                known[1].append(reader)
            return None
        request = ReadRequest(segment, offset, time, place)
        self._requests[key] = request, [reader] if reader is not None else []
        return request

    def waiting(self, request: ReadRequest) -> list[StreamReader] | None:
        """Return the readers that wait for a read in progress; None if the request was dropped."""
        known = self._requests.get((request.segment, request.offset, request.time))
        return known[1] if known is not None and known[0] is request else None

    def landed(self, request: ReadRequest, piece: Piece | None) -> list[StreamReader]:
        """End a read, with or without a piece; return the readers that wait for it.

        If the request was dropped meanwhile, the result is empty and the piece is not kept.
        """
        readers = self.waiting(request)
        if readers is None:
            return []
        del self._requests[request.segment, request.offset, request.time]
        if piece is not None:
            self._kept[piece.first] = piece
            self._kept.move_to_end(piece.first)
            while len(self._kept) > PIECES:
                self._kept.popitem(last=False)
        return readers

    def leave(self, reader: StreamReader) -> None:
        """Remove a reader from all waiting lists."""
        for _, readers in self._requests.values():
            if reader in readers:
                readers.remove(reader)

    def forget(self) -> None:
        """Drop everything: there are no readers."""
        self._kept.clear()
        self._requests.clear()
