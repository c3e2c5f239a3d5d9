"""The files of streams: their format, their recovery after a crash, and reading of chunks.

Responsible for the layout of ``streams/``. Not for the bytes of chunks (see ``router/stream/chunk``).

    <id>-<first>.segment   >8sQQQI4x  magic "LVRTSTR1", id of the stream, first offset, time of the first
                                      chunk (ms since the epoch), CRC-32 of these
                           ...        chunks, one after the other, without a gap
    <id>-<first>.index     >QQQ       for some of its chunks: first offset, time, place in the segment

A segment only grows at its end. Its messages were committed to the journal before, which keeps them until the
segment is synced. So the messages of a torn end are in the journal, and are written to another segment. The
index is optional: if it is missing or does not fit, the segment is read.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.journal.reading import is_other_format
from leveret.router.store.journal.records import POSITION_MAX
from leveret.router.stream.chunk import HEAD_SIZE, Chunk, chunk_at, chunks_of, head_at
from leveret.router.stream.log import SEGMENT_HEAD, ReadRequest, StreamSegment

MAGIC = b"LVRTSTR1"
HEAD_DAMAGED = "the header of the segment is damaged"
PIECE = 1 << 18  # bytes read at once
INDEX_EVERY = 1 << 16  # bytes of a segment between two entries of its index, at least

_FILE = Struct(">8sQQQ")
_CRC = Struct(">I4x")
_INDEX = Struct(">QQQ")
INDEX_ENTRY = _INDEX.size


Index = list[tuple[int, int, int]]  # entries: first offset and time of a chunk, its place


class PieceError(Exception):
    """A damaged or missing segment; the text says which one and where."""


class Read(NamedTuple):
    """Chunks that were read, and the place in the segment where they end."""

    chunks: Sequence[Chunk]
    place: int


class ReadStream(msgspec.Struct, frozen=True, eq=False):
    """Read some chunks of a stream.

    ``end`` is the offset at which the segment ends; 0 if it grows, and is read up to the place ``below``.
    """

    stream: int
    request: ReadRequest
    end: int
    below: int


def segment_path(directory: Path, stream: int, first: int) -> Path:
    """Return the path of the segment of a stream that begins with this offset."""
    return directory / "streams" / f"{stream:010d}-{first:020d}.segment"


def pack_segment_head(stream: int, segment: StreamSegment) -> bytes:
    """Return the head of a segment."""
    head = _FILE.pack(MAGIC, stream, segment.first, segment.created)
    return head + _CRC.pack(crc32(head))


def pack_index(first: int, timestamp: int, place: int) -> bytes:
    """Return an entry of an index."""
    return _INDEX.pack(first, timestamp, place)


# -- reading ----------------------------------------------------------------------------------------------


def read_stream(files: Files, directory: Path, job: ReadStream) -> Read:
    """Return the requested chunks, as many as one read returns; none if the segment holds none of them.

    Raises PieceError and OSError.
    """
    request = job.request
    path = segment_path(directory, job.stream, request.segment)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        raise PieceError(f"{path} is missing") from None
    try:
        place = request.place or _place(files, descriptor, path, request)
        limit = job.below if not job.end else 1 << 62
        last = 0
        while place < limit:
            chunks = read_chunks(files, descriptor, place, limit)
            if not chunks:
                if job.end and last == job.end:
                    break
                if job.end and not files.read(descriptor, 1, place):
                    break
                raise PieceError(f"{path} is damaged at offset {place}: there is no whole chunk")
            last, place = chunks[-1].end, place + chunks[-1].stop
            found = [chunk for chunk in chunks if _wanted(chunk, request)]
            if found:
                return Read(found, place)
            if job.end and last >= job.end:
                break
        return Read((), place)
    finally:
        files.close(descriptor)


def _wanted(chunk: Chunk, request: ReadRequest) -> bool:
    return chunk.timestamp >= request.time if request.time else chunk.end > request.offset


def read_chunks(files: Files, descriptor: int, place: int, limit: int) -> list[Chunk]:
    """Return the whole chunks at a place: at least one, if there is one."""
    data = files.read(descriptor, min(PIECE, limit - place), place)
    chunks = chunks_of(data)
    if not chunks and (head := head_at(data, 0)) is not None and HEAD_SIZE + head.length > len(data):
        chunks = chunks_of(files.read(descriptor, HEAD_SIZE + head.length, place))
    return _following(chunks)


def _following(chunks: list[Chunk]) -> list[Chunk]:
    """Return the chunks up to the first that is not sound, or does not come after the one before it."""
    end = 0
    for index, chunk in enumerate(chunks):
        if chunk.first < end or not chunk.is_sound():
            return chunks[:index]
        end = chunk.end
    return chunks


def _place(files: Files, descriptor: int, path: Path, request: ReadRequest) -> int:
    """Return the place in a segment from which to search: from the index, or else the beginning."""
    index = read_index(files, path)
    if request.time:
        number = bisect_right(index, request.time - 1, key=lambda entry: entry[1]) - 1
    else:
        number = bisect_right(index, request.offset, key=lambda entry: entry[0]) - 1
    if number >= 0:
        first, time, place = index[number]
        head = head_at(files.read(descriptor, HEAD_SIZE, place), 0)
        if head is not None and (head.first, head.timestamp) == (first, time):
            return place
    return SEGMENT_HEAD


def read_index(files: Files, path: Path) -> Index:
    """Return the entries of a segment's index up to the first impossible one; none if there is no index."""
    try:
        descriptor = files.open(path.with_suffix(".index"))
    except FileNotFoundError:
        return []
    try:
        data = read_whole(files, descriptor)
    finally:
        files.close(descriptor)
    entries = (_INDEX.unpack_from(data, at) for at in range(0, len(data) - INDEX_ENTRY + 1, INDEX_ENTRY))
    return list(takewhile(lambda entry: max(entry) <= POSITION_MAX, entries))


# -- after a crash ----------------------------------------------------------------------------------------


class RecoveredStream(msgspec.Struct):
    """The recovered state of a stream's files.

    It has the segments, the last chunk and the place where that chunk ends. Of the index it has the number of
    entries, and the place of the last one.
    """

    segments: list[StreamSegment]
    last: Chunk
    place: int
    entries: int
    indexed: int
    torn: str | None  # description of the bytes after the last chunk


def stream_files(files: Files, directory: Path) -> dict[int, list[int]]:
    """Return the first offsets of the existing segments, in order, by the ids of their streams."""
    found: dict[int, list[int]] = {}
    for path in files.list(directory / "streams"):
        stream, _, first = path.stem.partition("-")
        if path.suffix == ".segment" and stream.isdecimal() and first.isdecimal():
            found.setdefault(int(stream), []).append(int(first))
    return {stream: sorted(firsts) for stream, firsts in found.items()}


def recover_stream(
    files: Files, directory: Path, stream: int, firsts: Sequence[int]
) -> RecoveredStream | None:
    """Find the end of a stream; return None if no file holds a chunk of it. Raises DamageError and
    FormatError.

    The result is on disk, even if the process that wrote it was killed.
    """
    segments = []
    for first in firsts:
        segment = read_segment_head(files, directory, stream, first)
        path = segment_path(directory, stream, first)
        if segment is not None:
            segments.append(segment)
        elif first != firsts[-1] and files.size(path) > SEGMENT_HEAD:
            raise DamageError(path, 0, HEAD_DAMAGED)  # the header was synced before the next one was created
    while segments:
        found = segment_end(files, segment_path(directory, stream, segments[-1].first))
        if found is not None:
            last, place, index, size = found
            _mend_index(files, segment_path(directory, stream, segments[-1].first), index)
            torn = None
            if size > place:
                path = segment_path(directory, stream, segments[-1].first)
                torn = f"{path}: an interrupted write at {place} is ignored; the journal has it"
                segments[-1].sealed = True
            return RecoveredStream(segments, last, place, len(index), index[-1][2], torn)
        segments.pop()  # a segment that was created and never written
    return None


def read_segment_head(files: Files, directory: Path, stream: int, first: int) -> StreamSegment | None:
    """Return a segment as its header describes it; None if the header is incomplete after an interrupted
    write.

    Raises DamageError and FormatError.
    """
    path = segment_path(directory, stream, first)
    descriptor = files.open(path)
    try:
        data = files.read(descriptor, SEGMENT_HEAD, 0)
    finally:
        files.close(descriptor)
    if len(data) < SEGMENT_HEAD or not any(data):
        return None
    magic, owner, begins, created = _FILE.unpack_from(data)
    if is_other_format(magic, MAGIC):  # another version's header may have another form
        raise FormatError(path, magic, MAGIC)
    if _CRC.unpack_from(data, _FILE.size)[0] != crc32(data[: _FILE.size]):
        return None
    if (magic, owner, begins) != (MAGIC, stream, first):
        raise DamageError(path, 0, f"the file is the segment of stream {owner} from offset {begins}")
    return StreamSegment(first, created, files.size(path))


def segment_end(files: Files, path: Path) -> tuple[Chunk, int, Index, int] | None:
    """Return the last whole chunk of a segment, its end, the correct index, and the bytes of the file."""
    index = read_index(files, path)
    descriptor = files.open(path)
    try:
        files.sync(descriptor)
        size = files.size(path)
        index = _trusted(files, descriptor, index)
        place = index[-1][2] if index else SEGMENT_HEAD
        last: Chunk | None = None
        while place < size and (chunks := read_chunks(files, descriptor, place, size)):
            for chunk in chunks:
                at = place + chunk.start
                if not index or at - index[-1][2] >= INDEX_EVERY:
                    index.append((chunk.first, chunk.timestamp, at))
            last = chunks[-1]
            place += last.stop
        if last is None:
            return None
        alone = chunk_at(last.raw, 0)
        assert alone is not None
        return alone, place, index, size
    finally:
        files.close(descriptor)


def _trusted(files: Files, descriptor: int, index: Index) -> Index:
    """Return the part of an index that fits the segment: up to the last entry with a whole chunk at its
    place.
    """
    if not index or index[0][2] != SEGMENT_HEAD:
        return []
    if not all(one[0] < other[0] and one[2] < other[2] for one, other in pairwise(index)):
        return []
    while index:
        first, _, place = index[-1]
        chunks = read_chunks(files, descriptor, place, place + PIECE)
        if chunks and chunks[0].first == first:
            return index
        index = index[:-1]
    return []


def remake_index(files: Files, path: Path) -> None:
    """Rebuild the index of a segment from its chunks."""
    files.remove(path.with_suffix(".index"))
    found = segment_end(files, path)
    _mend_index(files, path, [] if found is None else found[2])


def _mend_index(files: Files, path: Path, index: Index) -> None:
    """Write the correct index, if it differs from the file."""
    if read_index(files, path) != index:
        files.replace(path.with_suffix(".index"), b"".join(_INDEX.pack(*entry) for entry in index))
