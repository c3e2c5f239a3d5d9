"""Fetching of a stream's pieces from the disk, for readers that are behind the tail.

Responsible for the requests to read, and for the piece at a reader's offset. Not for the pieces in memory
(see ``pieces``), nor for the readers that wait (see ``serving``).
"""

from leveret.router.stream.pieces import Piece, Pieces
from leveret.router.stream.readable import Readable
from leveret.router.stream.reader import StreamReader


class PieceFetcher:
    """The ``pieces`` of one stream, and the requests to read more."""

    __slots__ = ("_stream", "pieces")

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.pieces = Pieces()

    def piece_for(self, reader: StreamReader) -> Piece | None:
        """Return the piece with a reader's offset, or request it and return None."""
        offset, piece = reader.offset, reader.piece
        if piece is None or not piece.first <= offset < piece.end:
            before, piece = piece, self.pieces.at(offset)
            if piece is None:
                self._read(offset, before, reader)
                return None
            reader.piece = piece
        return piece

    def request(self, segment: int, offset: int, time: int, place: int, reader: StreamReader | None) -> None:
        """Request a read, unless it is in progress."""
        request = self.pieces.request(segment, offset, time, place, reader)
        if request is not None and self._stream.log is not None:
            self._stream.log.read(request)

    def read_ahead(self, piece: Piece) -> None:
        """Request the piece after ``piece``, which a reader has begun."""
        if piece.end < self._stream.tail.first and self.pieces.at(piece.end) is None:
            self._read(piece.end, piece, None)

    def after(self, segment: int) -> int:
        """Return the first offset after a segment."""
        following = self._stream.segments.after(segment)
        return self._stream.tail.first if following is None else following.first

    def _read(self, offset: int, before: Piece | None, reader: StreamReader | None) -> None:
        """Request a read from an offset on, for a reader or in advance."""
        segment = self._stream.segments.holding(offset).first
        place = 0
        if before is not None and before.end == offset and before.segment == segment:
            place = before.place
        self.request(segment, offset, 0, place, reader)
