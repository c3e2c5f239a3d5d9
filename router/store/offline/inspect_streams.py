"""Inspection of stream segments: reads every chunk, and keeps the whole chunks of a bad segment.

Responsible for the definition of damage. A torn end is no damage as long as the journal has its content,
which a broker writes again. Everything else that cannot be read is damage, and so are offsets that are
neither in a segment nor in the journal.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from leveret.protocol.amqp.message import Message
from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME, QueueState, pack_checkpoint
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.journal.records import Range, ranges
from leveret.router.store.journal.recovery import Recovered, RecoveredQueue
from leveret.router.store.offline.findings import FileSlice, Finding, Inspection, LiveTotals, Loss
from leveret.router.store.offline.salvage_stream import ChunkRun, ScannedSegment, scan_segment
from leveret.router.store.segments.pages import StoredMessage, stored_size
from leveret.router.store.streams.files import (
    HEAD_DAMAGED,
    pack_segment_head,
    read_index,
    read_segment_head,
    segment_end,
    segment_path,
    stream_files,
)
from leveret.router.stream.chunk import pack_chunk, split
from leveret.router.stream.entries import encode_entry
from leveret.router.stream.filters import SIZE, pack_filter, value_of
from leveret.router.stream.gaps import known_gaps, offsets, pack_gap, without
from leveret.router.stream.log import SEGMENT_HEAD, StreamSegment

UNBOUND = 1 << 63  # above every offset


def inspect_streams(
    found: Inspection, files: Files, directory: Path, recovered: Recovered, streams: Collection[int]
) -> None:
    """Read every chunk of every segment; ``streams`` are the ids of the existing streams.

    Raises FormatError and OSError.
    """
    segments = stream_files(files, directory)
    # Content of a missing batch may be in a segment, which is checked here.
    found.losses = [loss for loss in found.losses if loss.queue_id not in streams]
    for stream in sorted({*segments, *streams}):
        queue = recovered.queues.get(stream)
        if queue is not None:
            firsts = segments.get(stream, [])
            _Inspector(found, files, directory, stream, queue).inspect(firsts)
            continue
        for first in segments[stream]:
            path = segment_path(directory, stream, first)
            found.warnings.append(
                Finding(path, 0, "the segment of a deleted stream; the broker will remove it")
            )


@dataclass(slots=True)
class _Looked:
    """One segment and its content. Its offsets begin at ``first`` and end before ``below``."""

    path: Path
    first: int
    below: int
    size: int
    head: StreamSegment | None
    scanned: ScannedSegment
    wrong: bool = False  # the segment must be written again

    @property
    def is_empty(self) -> bool:
        return self.head is None and not self.scanned.runs and not self.wrong


class _Inspector:
    """The inspection of one stream."""

    def __init__(
        self, found: Inspection, files: Files, directory: Path, stream: int, queue: RecoveredQueue
    ) -> None:
        self._found = found
        self._files = files
        self._directory = directory
        self._stream = stream
        self._queue = queue
        self._known = known_gaps(queue.notes)
        self._lost: list[Range] = []

    def inspect(self, firsts: list[int]) -> None:
        found, queue = self._found, self._queue
        before = len(found.damage)
        for first in firsts:
            if first < queue.first_offset:
                path = segment_path(self._directory, self._stream, first)
                self._warn(path, 0, "retention no longer needs the segment; the broker will remove it")
        firsts = [first for first in firsts if first >= queue.first_offset]
        segments = [self._look(*each) for each in zip(firsts, [*firsts, UNBOUND][1:], strict=True)]
        made = []  # created, and without content
        while segments and segments[-1].is_empty:
            made.append(segments.pop())
            self._warn(made[-1].path, 0, "a segment that was created and never written")
        for segment in segments[:-1]:
            self._judge(segment)
        if segments:
            self._judge_last(segments[-1])
        else:
            self._must_hold(self._directory / "streams", 0, queue.first_offset, queue.next_position)
        if self._lost:
            found.losses.append(Loss(self._stream, self._lost))
            self._note_gaps()
            for segment in made:  # it may be the lost one
                self._give_up(segment.path)
        if len(found.damage) > before:
            found.remarks.append(f"stream {self._stream}: offsets stay as they are; readers pass gaps")

    def _look(self, first: int, below: int) -> _Looked:
        found, files = self._found, self._files
        path = segment_path(self._directory, self._stream, first)
        size = files.size(path)
        try:
            head = read_segment_head(files, self._directory, self._stream, first)
        except DamageError as error:  # the owner of these chunks is unknown
            found.damage.append(Finding(path, error.offset, error.what))
            return _Looked(path, first, below, size, None, ScannedSegment(), wrong=True)
        descriptor = files.open(path)
        try:
            scanned = scan_segment(files, descriptor, size, first, below, read_index(files, path))
        finally:
            files.close(descriptor)
        self._count(path, scanned)
        for each in ranges(scanned.malformed):
            self._warn(path, 0, f"{offsets(each)} cannot be decoded; readers get the stored bytes")
        return _Looked(path, first, below, size, head, scanned)

    def _count(self, path: Path, scanned: ScannedSegment) -> None:
        """Add the messages of a segment to the totals, except those that the journal contains too: they are
        already counted.
        """
        totals = self._found.queues.setdefault(self._stream, LiveTotals())
        totals.messages += sum(run.end - run.first for run in scanned.runs)
        totals.size += scanned.size
        positions = sorted(self._queue.entries)
        for run in scanned.runs:
            both = positions[bisect_left(positions, run.first) : bisect_left(positions, run.end)]
            totals.messages -= len(both)
            totals.size -= sum(stored_size(self._queue.entries[position].frames) for position in both)
        self._found.live[path] = SEGMENT_HEAD + sum(run.stop - run.start for run in scanned.runs)

    # -- faults of a segment ---------------------------------------------------------------------------------

    def _judge(self, segment: _Looked) -> None:
        """Check a segment that does not grow any more."""
        place, offset = self._judge_runs(segment, segment.scanned.runs)
        if offset < segment.below:
            if self._must_hold(segment.path, place, offset, segment.below, journal=False):
                segment.wrong = segment.wrong or self._is_to_be_written(segment, place, offset)
        elif place < segment.size:
            self._warn(segment.path, place, "an interrupted write; the next segment has it")
        self._finish(segment, segment.scanned.runs)

    def _judge_last(self, segment: _Looked) -> None:
        """Check the segment that is written to. Bytes where a broker would continue writing are no damage."""
        runs, below = segment.scanned.runs, self._queue.next_position
        end = segment_end(self._files, segment.path) if segment.head is not None else None
        place, offset = (SEGMENT_HEAD, segment.first) if end is None else (end[1], end[0].end)
        torn = not self._missing(offset, below)
        if torn:
            runs = [run for run in runs if run.stop <= place]
        if runs or not torn:
            last, offset = self._judge_runs(segment, runs)
            lost = self._must_hold(segment.path, last, offset, below)
            segment.wrong = segment.wrong or (lost and last < segment.size)
        if torn and place < segment.size:
            self._warn(segment.path, place, "an interrupted write; the journal has it")
        if runs or segment.wrong or not torn:
            self._finish(segment, runs)

    def _judge_runs(self, segment: _Looked, runs: list[ChunkRun]) -> tuple[int, int]:
        """Report everything between whole chunks; return the place and the offset where the last one ends."""
        place, offset = SEGMENT_HEAD, segment.first
        if segment.head is None and runs:
            self._found.damage.append(Finding(segment.path, 0, HEAD_DAMAGED))
            segment.wrong = True
        for run in runs:
            if run.first > offset:
                if self._must_hold(segment.path, place, offset, run.first, journal=False):
                    segment.wrong = True
            elif run.start > place:
                what = f"the bytes before offset {offset} are no chunk"
                self._found.damage.append(Finding(segment.path, place, what))
            segment.wrong = segment.wrong or run.start > place
            place, offset = run.stop, run.end
        return place, offset

    def _is_to_be_written(self, segment: _Looked, place: int, offset: int) -> bool:
        """Return True if the end of a segment is unreadable, or the segment lacks messages of the journal."""
        return place < segment.size or bool(_within(offset, segment.below, self._queue.entries))

    def _missing(self, first: int, below: int, *, journal: bool = True) -> list[Range]:
        """Return the offsets that are neither in the journal nor known to be lost."""
        left = without(first, below, self._known)
        if journal:
            have = _within(first, below, self._queue.entries)
            left = [part for start, count in left for part in without(start, start + count, have)]
        return left

    def _must_hold(self, path: Path, place: int, first: int, below: int, *, journal: bool = True) -> bool:
        """Report offsets that no whole chunk holds; return False if there are none.

        With ``journal``, offsets in the journal are no fault: a broker reads the end of a stream from there.
        """
        missing = self._missing(first, below, journal=journal)
        self._found.damage += [Finding(path, place, f"{offsets(each)} cannot be read") for each in missing]
        self._lost += self._missing(first, below)
        return bool(missing)

    def _warn(self, path: Path, place: int, what: str) -> None:
        self._found.warnings.append(Finding(path, place, what))

    # -- proposed repairs ------------------------------------------------------------------------------------

    def _finish(self, segment: _Looked, runs: list[ChunkRun]) -> None:
        """Propose the repaired segment."""
        found, path = self._found, segment.path
        if segment.wrong:
            pieces = self._pieces(segment, runs)
            if len(pieces) > 1:
                found.excerpts[path] = pieces
            else:
                self._give_up(path)
        elif segment.scanned.misfit is not None:
            what = f"the index does not fit its segment: {segment.scanned.misfit}; a broker reads without it"
            self._warn(path.with_suffix(".index"), 0, what)
            found.indexes.add(path)

    def _give_up(self, path: Path) -> None:
        for each in (path, path.with_suffix(".index")):
            self._found.changes[each] = None

    def _pieces(self, segment: _Looked, runs: list[ChunkRun]) -> list[bytes | FileSlice]:
        """Return a segment made of its whole chunks, and of messages between them that the journal has."""
        journal = self._queue.entries
        below = segment.below if segment.below < UNBOUND else segment.first
        created = segment.head.created if segment.head is not None else 0
        offset, time = segment.first, created
        pieces: list[bytes | FileSlice] = []
        for run in [*runs, None]:
            until = run.first if run is not None else below
            latest = run.oldest if run is not None else UNBOUND
            for first, count in _within(offset, until, journal):
                stored = [journal[position] for position in range(first, first + count)]
                time = min(max(time, stored[0].deadline), latest)
                pieces += _chunks(stored, time)
                remark = f"{segment.path.name}: {offsets((first, count))}, from the journal"
                self._found.remarks.append(remark)
            if run is not None:
                pieces.append(FileSlice(run.start, run.stop))
                offset, time = run.end, run.newest
        if segment.head is None:
            created = runs[0].oldest if runs else time
        return [pack_segment_head(self._stream, StreamSegment(segment.first, created)), *pieces]

    def _note_gaps(self) -> None:
        """Propose notes that the lost offsets are known, so that they no longer count as damage."""
        found, queue = self._found, self._queue
        states = {state.id: state for state in found.checkpoint.queues}
        state = states.get(self._stream) or QueueState(self._stream, queue.next_position, 0, ())
        notes = {**state.notes, **dict(map(pack_gap, self._lost))}
        states[self._stream] = msgspec.structs.replace(state, notes=notes)
        found.checkpoint = msgspec.structs.replace(found.checkpoint, queues=list(states.values()))
        found.changes[self._directory / NAME] = pack_checkpoint(found.checkpoint)


def _within(first: int, below: int, positions: Iterable[int]) -> list[Range]:
    """Return the positions from ``first`` to under ``below``, as ranges."""
    return ranges(position for position in positions if first <= position < below)


def _chunks(stored: list[StoredMessage], time: int) -> list[bytes]:
    """Return consecutive messages of the journal as a broker would have written them."""
    messages = [Message.from_frames(each.route, each.frames) for each in stored]
    entries = [encode_entry(message, each.position) for message, each in zip(messages, stored, strict=True)]
    first, made = 0, []
    for part in split(entries):
        values = [value_of(each) for each in messages[first : first + len(part)]]
        made.append(pack_chunk(stored[first].position, part, time, pack_filter(values, SIZE)).raw)
        first += len(part)
    return made
