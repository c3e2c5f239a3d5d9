"""The stored log of one stream: the chunks that are still to be written to its segments, and its notes.

Responsible for writing chunks to files, one job at a time, so that a stream's files never have a hole.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.store.journal.records import pack_run
from leveret.router.store.notes import StoredNotes
from leveret.router.store.segments.pages import StoredPage
from leveret.router.store.streams.files import (
    INDEX_ENTRY,
    INDEX_EVERY,
    Read,
    ReadStream,
    RecoveredStream,
    pack_index,
    pack_segment_head,
)
from leveret.router.store.streams.writer import RemoveStream, WriteStream
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.log import SEGMENT_HEAD, ReadRequest, StreamSegment

if TYPE_CHECKING:
    from leveret.router.store.store import Store
    from leveret.router.stream.stream import Stream

FLUSH = 1 << 22  # bytes of chunks that are worth a write and a sync
MOST = 1 << 23  # bytes that are written at once


class _Waiting(NamedTuple):
    """A chunk to be written, and its place."""

    segment: StreamSegment
    place: int
    chunk: Chunk


class StoredStreamLog:
    """The ``StreamLog`` of one stream. A stream that is deleted and declared again gets another ``id``.

    ``next_position`` is the offset of the next message to be committed; messages before the offset
    ``written`` are in the segments' files.
    """

    delivered = 0  # deliveries of a stream are not recorded
    pages: Mapping[StoredPage, None] = {}  # it has none

    __slots__ = (
        "_goal",
        "_index",
        "_job",
        "_place",
        "_removed",
        "_segment",
        "_size",
        "_store",
        "_waiting",
        "id",
        "next_position",
        "notes",
        "stream",
        "written",
    )

    def __init__(self, store: "Store", number: int, stream: "Stream") -> None:
        self.id = number
        self.stream = stream
        self.next_position = 0
        self.written = 0
        self.notes = StoredNotes(store, number)
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._size = 0  # bytes of ``_waiting``
        self._job: WriteStream | None = None  # submitted, not done yet
        self._goal = 0  # offsets below this one are written without waiting for FLUSH bytes
        self._segment = -1  # first offset of the segment that was written to last
        self._place = 0  # end of the written data in that segment
        # Removals by retention that may not be on disk: their batches, and the first offsets of the last
        # segments that they remove.
        self._removed: deque[tuple[int, int]] = deque()
        self._index = -1, 0, 0  # a segment; the number of entries in its index; the place of the last entry

    def recovered(self, found: RecoveredStream) -> None:
        """Restore the state of the stream's files after a start."""
        self.next_position = self.written = found.last.end
        self._segment, self._place = found.segments[-1].first, found.place
        self._index = self._segment, found.entries, found.indexed

    # -- calls of the stream ---------------------------------------------------------------------------------

    def store(self, entry: Entry, message: Message) -> None:
        """Store a message in the journal, with the batch of this turn."""
        self._store.publishes.append((self, entry, message))

    def store_run(self, first: int, entries: Sequence[bytes]) -> None:
        """Store messages with consecutive offsets from ``first`` on, given as entries, in one record."""
        parts = [pack_run(self.id, first, entries), *entries]
        self._store.append(self, parts, first + len(entries))

    def append(self, segment: StreamSegment, chunk: Chunk) -> None:
        """Add a chunk to be written, with others once they are ``FLUSH`` bytes."""
        self._drop_removed()
        self._waiting.append(_Waiting(segment, segment.size, chunk))
        self._size += chunk.size
        if self._size >= FLUSH and self._job is None:
            self._write()

    def read(self, request: ReadRequest) -> None:
        end = 0
        if request.segment != self._segment:
            later = [segment.first for segment in self.stream.segments if segment.first > request.segment]
            end = min(later, default=0)
        self._store.submit(ReadStream(self.id, request, end, self._place))

    def remove(self, segments: Sequence[StreamSegment]) -> None:
        self._removed.append((self._store.batch, segments[-1].first))
        self._store.submit_after_commit(RemoveStream(self.id, [segment.first for segment in segments]))

    # -- calls of the store ----------------------------------------------------------------------------------

    def commit(self, below: int) -> None:
        """Mark the messages before this offset as committed."""
        self.next_position = below
        self.stream.commit(below)

    def flush(self, below: int) -> bool:
        """Write all messages before this offset to files; return False if they are already in files.

        ``Retirement.flushed`` is called when it has been written.
        """
        self._drop_removed()
        self._settle()
        if self.written >= below:
            return False
        self._goal = max(self._goal, below)
        if self._job is None:
            self._write()
        return True

    def _settle(self) -> None:
        """Update ``written``: if no chunk waits, all committed messages are in files or were lost."""
        if self._job is None and not self._waiting:
            self.written = self.next_position

    def wrote(self, job: WriteStream) -> None:
        """Continue after chunks were written and synced."""
        self._job = None
        self.written = job.end
        self._drop_removed()
        self._settle()
        self._segment, self._place = job.segment, job.place + job.size
        self.stream.written(job.end)
        if self._waiting and (self._size >= FLUSH or self._goal > self.written):
            self._write()

    def has_read(self, job: ReadStream, result: object, error: Exception | None) -> bool:
        """Handle the result of a read; return True if it must be repeated."""
        if error is None:
            assert isinstance(result, Read)
            self.stream.serving.landed(job.request, result.chunks, result.place)
            return False
        return self.stream.serving.unreadable(job.request, str(error), passing=isinstance(error, OSError))

    def drop(self) -> list[RemoveStream]:
        """Drop what waits; return the jobs to submit once the deletion of the stream is on disk."""
        self._waiting.clear()
        self._size = 0
        return [RemoveStream(self.id, [segment.first for segment in self.stream.segments])]

    def _drop_removed(self) -> None:
        """Drop the waiting chunks of segments that retention has removed, once the removal is on disk.

        If they were dropped before that, a crash could bring back a removed segment that is in a file, but
        not the dropped chunks after it.
        """
        removed, waiting = self._removed, self._waiting
        while removed and removed[0][0] <= self._store.committed_batch:
            _, last = removed.popleft()
            while waiting and waiting[0].segment.first <= last:
                self._size -= waiting.popleft().chunk.size

    def _write(self) -> None:
        """Submit a job for the next chunks of one segment."""
        segment = self._waiting[0].segment
        number, entries, indexed = self._index
        if number != segment.first:
            entries = indexed = 0
        before = entries
        place = self._waiting[0].place
        head = b""
        chunks: list[Chunk] = []
        if place == SEGMENT_HEAD:
            head, place = pack_segment_head(self.id, segment), 0
        size = len(head)
        index = bytearray()
        end = 0
        while self._waiting and self._waiting[0].segment is segment and size < MOST:
            _, at, chunk = self._waiting.popleft()
            self._size -= chunk.size
            chunks.append(chunk)
            size += chunk.size
            end = chunk.end
            if not entries or at - indexed >= INDEX_EVERY:
                index += pack_index(chunk.first, chunk.timestamp, at)
                entries, indexed = entries + 1, at
        self._index = segment.first, entries, indexed
        self._job = WriteStream(
            self.id, segment.first, place, head, chunks, size, bytes(index), before * INDEX_ENTRY, end
        )
        self._store.submit(self._job)
