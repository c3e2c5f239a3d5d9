"""Delivery to a stream's readers, round-robin, from memory or from pieces read from the disk.

Responsible for the readers, their places and their named positions, and for decoded chunks. Not for the
messages that can be read (see ``readable``), the start of a reader (see ``seek``) or reads (see
``fetching``).
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from weakref import proxy

import structlog

from leveret.router.queue.consumers import Consumer
from leveret.router.queue.dispatch import DRAIN, SERVED
from leveret.router.queue.entry import Entry
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.fetching import PieceFetcher
from leveret.router.stream.gaps import Gap, offsets, without
from leveret.router.stream.log import ReadRequest
from leveret.router.stream.offsets import NEXT, Start
from leveret.router.stream.pieces import Piece, find
from leveret.router.stream.positions import Positions
from leveret.router.stream.readable import Readable
from leveret.router.stream.reader import StreamReader
from leveret.router.stream.readers import Readers
from leveret.router.stream.seek import seek
from leveret.router.values.counters import DeliveryCounters

FILTERED = DRAIN // 2  # messages that one visit of a reader with a filter counts as
WOKEN = 64  # readers at the end of the stream that are woken before others are served
HOLDING = 256  # readers that keep a piece (256 KiB) and the decoded messages of a chunk
DECODING = 4  # messages that are decoded, and later freed, in the time of one delivered message
DECODED = 16  # chunks whose decoded messages are kept for the next reader
NOTED = 1000  # messages that a named reader may pass before its position is stored


class Serving:
    """The readers of one stream.

    ``moved`` counts messages that readers missed because retention had removed them; ``gaps`` are offsets
    that are known to be lost.
    """

    __slots__ = (
        "_at_end",
        "_decoded",
        "_holding",
        "_log",
        "_stream",
        "_waking",
        "counts",
        "fetcher",
        "gaps",
        "moved",
        "positions",
        "readers",
    )

    def __init__(self, stream: Readable) -> None:
        self.readers = Readers()
        self.positions = Positions()
        self.counts = DeliveryCounters()
        self.moved = 0
        self.gaps: list[Gap] = []
        self._stream: Readable = proxy(stream)  # a proxy, so that a deleted stream leaves no cycle
        self.fetcher = PieceFetcher(self._stream)
        self._at_end: OrderedDict[StreamReader, None] = OrderedDict()  # that wait for more messages
        self._waking = 0  # number of these, from the first, that have not been woken since a commit
        self._decoded: deque[Chunk] = deque()  # chunks with decoded messages
        self._holding: OrderedDict[StreamReader, None] = OrderedDict()  # with a piece, the last served last
        self._log = structlog.get_logger()

    # -- turns -----------------------------------------------------------------------------------------------

    def serve_readers(self) -> bool:
        """Deliver to every reader with credit, round-robin; return True if more can be delivered."""
        left = DRAIN
        while left > 0:
            left -= self._wake_some()
            line = self.readers.line()
            if line is None:
                if self._waking:
                    continue
                return False
            reader = next(iter(line))
            assert isinstance(reader, StreamReader)
            try:
                left -= self._serve(reader)
            except Exception as error:  # the reader may have passed messages that were not delivered
                reader.sink.crash(error)
                self.readers.leave(reader)
                left -= 1
            if reader.ready:
                line.move_to_end(reader)
        return True

    def _serve(self, reader: StreamReader) -> int:
        """Deliver to one reader; return a measure of the work done, at least 1.

        The work is the number of messages that the reader has passed, plus ``SERVED`` if any were delivered,
        plus a share of those that were decoded for it.
        """
        decoding = 0
        credit = reader.credit()
        if credit <= 0:
            self.readers.skip(reader)
            return 1
        chunk = reader.chunk
        if chunk is None or not chunk.first <= reader.offset < chunk.end:
            reader.chunk = chunk = self._find(reader)
            if chunk is None:
                reader.blocked = True
                reader.entries = []
                self.readers.leave(reader)
                if reader.offset >= self._stream.committed:
                    self._at_end[reader] = None
                return 1
            if (wanted := reader.wanted) is not None:
                cost = wanted.chunk_cost
                if not wanted.may_be_in(chunk):
                    reader.offset = chunk.end
                    return cost
            decoding = 0 if chunk.entries is not None else (chunk.end - chunk.first) // DECODING
            reader.entries = self._decode(chunk)
            reader.checking = None
        if reader.piece is not None:
            self._hold(reader)
        entries, passed = reader.take(credit)
        if reader.name is not None:
            reader.held.update((entry.position, None) for entry in entries)
            if passed and not reader.held:
                self.advance(reader, NOTED)
        if entries:
            passed += SERVED
            self.counts.deliver += len(entries)
            reader.sink.deliver(reader, entries)
            if len(entries) == credit and reader.ready and reader.credit() <= 0:
                self.readers.skip(reader)
        if reader.wanted is not None:  # checked messages take longer than delivered ones
            return max(FILTERED, passed + decoding)
        return max(1, passed + decoding)

    def _hold(self, reader: StreamReader) -> None:
        """Note that a reader keeps a piece in memory; of too many such readers, release the one that has not
        been served for the longest time.
        """
        self._holding[reader] = None
        self._holding.move_to_end(reader)
        if len(self._holding) > HOLDING:
            oldest, _ = self._holding.popitem(last=False)
            if oldest.checking is None:
                oldest.release()
            else:  # its check would begin again after each release
                self._holding[oldest] = None

    def _decode(self, chunk: Chunk) -> list[Entry]:
        """Return the messages of a chunk, decoded once for all readers that need them in time."""
        entries = chunk.entries
        if entries is None:
            entries = chunk.entries = chunk.decode()
            self._decoded.append(chunk)
            if len(self._decoded) > DECODED:
                self._decoded.popleft().entries = None
        return entries

    def _find(self, reader: StreamReader) -> Chunk | None:
        """Return the chunk that a reader continues with; None if it must wait for it."""
        if reader.offset < self._stream.first:
            self._move(reader)
        offset = reader.offset
        if offset >= self._stream.committed:
            reader.piece = None
            return None
        if offset >= self._stream.tail.first:
            reader.piece = None
            return self._enter(reader, self._stream.tail.chunks)
        piece = self.fetcher.piece_for(reader)
        if piece is None:
            return None
        chunk = self._enter(reader, piece.chunks)
        if chunk is piece.chunks[0]:
            self.fetcher.read_ahead(piece)
        return chunk

    def _enter(self, reader: StreamReader, chunks: Sequence[Chunk]) -> Chunk | None:
        """Return the chunk that contains a reader's offset, or the next chunk if the offset is lost."""
        chunk = find(chunks, reader.offset)
        if chunk is not None:
            reader.offset = max(reader.offset, chunk.first)
        return chunk

    def _move(self, reader: StreamReader) -> None:
        """Move a slow reader to the first offset: retention has removed its next messages."""
        missed = self._stream.first - reader.offset
        self.moved += missed
        self._log.warning(
            "reader moved to the first stored offset",
            stream=self._stream.name,
            vhost=self._stream.vhost,
            consumer=reader.tag,
            offset=self._stream.first,
            missed=missed,
        )
        reader.offset = self._stream.first

    def committed(self) -> None:
        """Have ``serve_readers`` wake the readers at the end of the stream: more messages were committed."""
        if self._at_end:
            self._waking = len(self._at_end)
            self._stream.touch()

    def _wake_some(self) -> int:
        """Wake readers that were at the end of the stream before the last commit; return their number."""
        number = 0
        while self._waking and self._at_end and number < WOKEN:
            reader, _ = self._at_end.popitem(last=False)
            self._waking -= 1
            number += 1
            self._unblock(reader)
        if not self._at_end:
            self._waking = 0
        return number

    def _unblock(self, reader: StreamReader) -> None:
        reader.blocked = False
        reader.wake()

    # -- pieces ----------------------------------------------------------------------------------------------

    def landed(self, request: ReadRequest, chunks: Sequence[Chunk], place: int) -> None:
        """Hand chunks to the readers that wait for them; no chunks at the end of the segment.

        ``place`` is the place in the segment where the chunks end.
        """
        piece = Piece(request.segment, chunks, place) if chunks else None
        readers = self.fetcher.pieces.landed(request, piece)
        if piece is None and readers and not request.time and request.segment >= self._stream.first:
            self._report_missing(readers, request.offset, self.fetcher.after(request.segment))
        for reader in readers:
            if not reader.blocked:
                continue
            reader.piece = piece
            if piece is None:
                reader.offset = max(reader.offset, self.fetcher.after(request.segment))
            elif request.time:
                reader.offset = piece.first
                self._note_start(reader)
            else:  # offsets before this one may be lost by damage
                reader.offset = max(reader.offset, piece.first)
            self._unblock(reader)

    def _report_missing(self, readers: Sequence[StreamReader], first: int, below: int) -> None:
        """Log the offsets that readers skip, except known gaps."""
        if lost := without(first, below, self.gaps):
            missing = f"in no segment file: {', '.join(map(offsets, lost))}"
            self._complain("readers skip missing offsets", readers, missing)

    def unreadable(self, request: ReadRequest, damage: str, *, passing: bool) -> bool:
        """Handle a piece that cannot be read; return True if the read must be repeated.

        A read is repeated if the error is ``passing``. If retention has removed the segment, the readers
        continue at the first offset; otherwise they are cancelled, so that no message is skipped unnoticed.
        """
        gone = request.segment < self._stream.first
        if passing and not gone and (waiting := self.fetcher.pieces.waiting(request)):
            self._complain("readers wait for the disk", waiting, damage)
            return True
        readers = self.fetcher.pieces.landed(request, None)
        if gone:
            for reader in readers:
                self._unblock(reader)
        elif readers:
            readable = self.fetcher.after(request.segment)
            advice = (
                "restore the file, or stop the broker for 'leveret store check --repair', which keeps the "
                f"rest of it, or consume from x-stream-offset {readable} on, the first "
                "that is not read from this file"
            )
            self._complain("readers cancelled", readers, damage, advice=advice)
            for reader in readers:
                reader.stream.remove_consumer(reader, reader.stream.host.now)
                reader.sink.cancelled(reader)
        return False

    def _complain(self, what: str, readers: Sequence[StreamReader], damage: str, **more: str) -> None:
        stream, tags = self._stream, [reader.tag for reader in readers]
        self._log.error(what, vhost=stream.vhost, stream=stream.name, consumers=tags, error=damage, **more)

    # -- readers that come and go ----------------------------------------------------------------------------

    def add(self, reader: StreamReader) -> None:
        self.readers.add(reader)
        if reader.active:
            self._begin(reader, reader.start)

    def remove(self, reader: StreamReader) -> None:
        """Remove a reader; of its group the next one becomes active."""
        was_active = reader.active
        self.readers.remove(reader)
        self._at_end.pop(reader, None)
        self._holding.pop(reader, None)
        reader.piece = reader.chunk = None
        self.fetcher.pieces.leave(reader)
        successor = self.readers.follow(reader) if was_active else None
        if successor is not None:
            self._begin(successor, None if self.positions.get(successor.name or "") else successor.start)
        reader.entries = []
        if not self.readers:
            self._forget()

    def close(self) -> list[Consumer]:
        """End the delivery of a deleted stream; return its readers, to be cancelled."""
        self.readers.dissolve_groups()
        self._at_end.clear()
        self._forget()
        return list(self.readers)

    def _forget(self) -> None:
        """Drop pieces and decoded messages: there are no readers."""
        self.fetcher.pieces.forget()
        self._holding.clear()
        for chunk in self._decoded:
            chunk.entries = None
        self._decoded.clear()

    def _begin(self, reader: StreamReader, start: Start | None) -> None:
        """Set a reader's first offset, from its arguments, else its stored position, else the stream's end.

        A start with ``if_new`` has effect only for a name without a stored position.
        """
        continues = reader.name is not None and (start is None or start.if_new)
        known = self.positions.get(reader.name or "") if continues else None
        found = seek(self._stream, start or NEXT, known)
        reader.offset = found.offset
        if found.search:
            assert start is not None
            reader.blocked = True
            self.fetcher.request(found.offset, found.offset, start.value, 0, reader)
        if reader.blocked:
            self.readers.leave(reader)
        else:
            self._note_start(reader)
        reader.queue.touch()

    # -- positions -------------------------------------------------------------------------------------------

    def advance(self, reader: StreamReader, least: int = 1) -> None:
        """Store a named reader's position if it has advanced by at least ``least``."""
        assert reader.name is not None
        known = self.positions.get(reader.name)
        position = reader.position
        if known is None or position >= known.offset + least:
            time = reader.timestamp or self._stream.newest
            self.positions.put(reader.name, position, time, self._stream.notes)

    def _note_start(self, reader: StreamReader) -> None:
        """Store the start of a named reader without a position."""
        if reader.name is not None and self.positions.get(reader.name) is None:
            self.positions.put(reader.name, reader.offset, 0, self._stream.notes)
