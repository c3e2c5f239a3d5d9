"""The files of streams: their form, how one is found again after a crash, and reading pieces of it.

Owns the layout of ``streams/``. Chunks are made in ``leveret.router.stream.chunk``.

    <id>-<first>.segment   >8sQQQI4x  magic "LVRTSTR1", id of the stream, first offset, time of the first
                                      chunk (ms since the epoch), CRC-32 of these
                           ...        chunks, one behind the other, without a gap
    <id>-<first>.index     >QQQ       for some of its chunks: first offset, time, place in the segment

A segment grows at its end and is never changed. Everything in it was committed by the journal before, which
keeps it until the segment is synced, so that an end that is torn off is written anew, into another segment.
The index is a help and nothing depends on it: where it is missing, or does not fit, the segment is read.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal.journal import DamageError, FormatError, is_other_format
from leveret.router.store.journal.records import POSITION_MAX
from leveret.router.stream.chunk import HEAD_SIZE, Chunk, chunk_at, chunks_of, head_at
from leveret.router.stream.log import SEGMENT_HEAD, Segment, Wish

MAGIC = b"LVRTSTR1"
HEAD_DAMAGED = "the header of the segment is damaged"
PIECE = 1 << 18  # bytes that are read at once
INDEX_EVERY = 1 << 16  # bytes of a segment between two entries of its index, at least

_FILE = Struct(">8sQQQ")
_CRC = Struct(">I4x")
_INDEX = Struct(">QQQ")
INDEX_ENTRY = _INDEX.size


Index = list[tuple[int, int, int]]  # entries: first offset and time of a chunk, its place


class PieceError(Exception):
    """A segment is damaged or missing; the text says which and where."""


class Read(NamedTuple):
    """Chunks that were read, and the place in the segment where they end."""

    chunks: Sequence[Chunk]
    place: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadStream:
    """Read some chunks of a stream. ``end`` is the offset at which the segment ends; 0 when it grows, and is
    read up to the place ``below``.
    """

    stream: int
    wish: Wish
    end: int
    below: int


def segment_path(directory: Path, stream: int, first: int) -> Path:
    """Where the segment stands of a stream that begins with this offset."""
    return directory / "streams" / f"{stream:010d}-{first:020d}.segment"


def pack_segment_head(stream: int, segment: Segment) -> bytes:
    """What a segment begins with."""
    head = _FILE.pack(MAGIC, stream, segment.first, segment.created)
    return head + _CRC.pack(crc32(head))


def pack_index(first: int, timestamp: int, place: int) -> bytes:
    """An entry of an index."""
    return _INDEX.pack(first, timestamp, place)


# -- reading ----------------------------------------------------------------------------------------------


def read_stream(files: Files, directory: Path, job: ReadStream) -> Read:
    """The chunks that are wished for, as many as are read at once; none when the segment holds none of them.

    Raises PieceError and OSError.
    """
    wish = job.wish
    path = segment_path(directory, job.stream, wish.segment)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        raise PieceError(f"{path} is missing") from None
    try:
        place = wish.place or _place(files, descriptor, path, wish)
        limit = job.below if not job.end else 1 << 62
        last = 0
        while place < limit:
            chunks = read_chunks(files, descriptor, place, limit)
            if not chunks:
                if job.end and last == job.end:
                    break
                if job.end and not files.read(descriptor, 1, place):
                    break
                raise PieceError(f"{path} is damaged at offset {place}: no whole chunk stands there")
            last, place = chunks[-1].end, place + chunks[-1].stop
            found = [chunk for chunk in chunks if _wanted(chunk, wish)]
            if found:
                return Read(found, place)
            if job.end and last >= job.end:
                break
        return Read((), place)
    finally:
        files.close(descriptor)


def _wanted(chunk: Chunk, wish: Wish) -> bool:
    return chunk.timestamp >= wish.time if wish.time else chunk.end > wish.offset


def read_chunks(files: Files, descriptor: int, place: int, limit: int) -> list[Chunk]:
    """The whole chunks that stand at a place, one at least if there is one."""
    data = files.read(descriptor, min(PIECE, limit - place), place)
    chunks = chunks_of(data)
    if not chunks and (head := head_at(data, 0)) is not None and HEAD_SIZE + head.length > len(data):
        chunks = chunks_of(files.read(descriptor, HEAD_SIZE + head.length, place))
    return _following(chunks)


def _following(chunks: list[Chunk]) -> list[Chunk]:
    """The chunks up to the first that is not sound, or does not come after the one before it."""
    end = 0
    for index, chunk in enumerate(chunks):
        if chunk.first < end or not chunk.is_sound():
            return chunks[:index]
        end = chunk.end
    return chunks


def _place(files: Files, descriptor: int, path: Path, wish: Wish) -> int:
    """A place in a segment from which to look for what is wished for: the index's, else the beginning."""
    index = read_index(files, path)
    if wish.time:
        number = bisect_right(index, wish.time - 1, key=lambda entry: entry[1]) - 1
    else:
        number = bisect_right(index, wish.offset, key=lambda entry: entry[0]) - 1
    if number >= 0:
        first, time, place = index[number]
        head = head_at(files.read(descriptor, HEAD_SIZE, place), 0)
        if head is not None and (head.first, head.timestamp) == (first, time):
            return place
    return SEGMENT_HEAD


def read_index(files: Files, path: Path) -> Index:
    """The entries of a segment's index up to the first that cannot be; none when there is no index."""
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


@dataclass(slots=True)
class RecoveredStream:
    """What the files of a stream hold: its segments, the last chunk, where that ends, and the index's state:
    how many entries, and the place of the last one.
    """

    segments: list[Segment]
    last: Chunk
    place: int
    entries: int
    indexed: int
    torn: str | None  # what stands behind the last chunk, in words


def stream_files(files: Files, directory: Path) -> dict[int, list[int]]:
    """The first offsets of the segments there are, in order, by the ids of their streams."""
    found: dict[int, list[int]] = {}
    for path in files.list(directory / "streams"):
        stream, _, first = path.stem.partition("-")
        if path.suffix == ".segment" and stream.isdecimal() and first.isdecimal():
            found.setdefault(int(stream), []).append(int(first))
    return {stream: sorted(firsts) for stream, firsts in found.items()}


def recover_stream(
    files: Files, directory: Path, stream: int, firsts: Sequence[int]
) -> RecoveredStream | None:
    """Find the end of a stream; None when no chunk of it is in a file. Raises DamageError and FormatError.

    What is found is on disk, however far the process came that wrote it.
    """
    segments = []
    for first in firsts:
        segment = read_segment_head(files, directory, stream, first)
        path = segment_path(directory, stream, first)
        if segment is not None:
            segments.append(segment)
        elif first != firsts[-1] and files.size(path) > SEGMENT_HEAD:
            raise DamageError(path, 0, HEAD_DAMAGED)  # it was synced before the next one was made
    while segments:
        found = segment_end(files, segment_path(directory, stream, segments[-1].first))
        if found is not None:
            last, place, index, size = found
            _mend_index(files, segment_path(directory, stream, segments[-1].first), index)
            torn = None
            if size > place:
                path = segment_path(directory, stream, segments[-1].first)
                torn = f"{path}: a write that was cut off at {place} is left out; the journal has it"
                segments[-1].sealed = True
            return RecoveredStream(segments, last, place, len(index), index[-1][2], torn)
        segments.pop()  # it was made, and nothing was written to it
    return None


def read_segment_head(files: Files, directory: Path, stream: int, first: int) -> Segment | None:
    """A segment as its header tells; None when that is not whole, as a write that was cut off leaves it.

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
    magic, told, begins, created = _FILE.unpack_from(data)
    if is_other_format(magic, MAGIC):  # whose header may have another form
        raise FormatError(path, magic, MAGIC)
    if _CRC.unpack_from(data, _FILE.size)[0] != crc32(data[: _FILE.size]):
        return None
    if (magic, told, begins) != (MAGIC, stream, first):
        raise DamageError(path, 0, f"it is the segment of stream {told} from offset {begins}")
    return Segment(first, created, files.size(path))


def segment_end(files: Files, path: Path) -> tuple[Chunk, int, Index, int] | None:
    """The last whole chunk of a segment, where it ends, its index as it has to be, and the file's bytes."""
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
    """As much of an index as fits the segment: up to the last entry at which a whole chunk stands."""
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
    """Make the index of a segment anew from its chunks."""
    files.remove(path.with_suffix(".index"))
    found = segment_end(files, path)
    _mend_index(files, path, [] if found is None else found[2])


def _mend_index(files: Files, path: Path, index: Index) -> None:
    """Have the index on disk as it has to be."""
    if read_index(files, path) != index:
        files.replace(path.with_suffix(".index"), b"".join(_INDEX.pack(*entry) for entry in index))
