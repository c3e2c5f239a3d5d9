"""Scan of one stream segment: the whole chunks, including those after damage, and the fit of its index.

Responsible for the scan, piece by piece, so that the size of the segment does not matter. Not for the repair
(see ``inspect_streams``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from leveret.router.store.files import Files
from leveret.router.store.set_aside import read_message
from leveret.router.store.streams.files import PIECE, Index, read_chunks
from leveret.router.stream.chunk import MARK, Chunk
from leveret.router.stream.log import SEGMENT_HEAD


class ChunkRun(NamedTuple):
    """Consecutive whole chunks.

    They are the bytes from ``start`` to ``stop`` and the offsets from ``first`` to under ``end``, without a
    gap; ``oldest`` and ``newest`` are the times (ms since the epoch) of the first and of the last chunk.
    """

    start: int
    stop: int
    first: int
    end: int
    oldest: int
    newest: int


@dataclass(slots=True)
class ScannedSegment:
    """A segment's chunks, in the order of their offsets, and the bytes of all bodies in them.

    ``malformed`` are the offsets of the messages in them that cannot be decoded: a faulty broker wrote them.
    """

    runs: list[ChunkRun] = field(default_factory=list)
    size: int = 0
    malformed: list[int] = field(default_factory=list)
    misfit: str | None = None  # the fault of the index, in words


def scan_segment(  # noqa: PLR0917 - a file, what it has to hold, and its index
    files: Files, descriptor: int, size: int, first: int, below: int, index: Index
) -> ScannedSegment:
    """Scan a segment of ``size`` bytes with offsets from ``first`` to under ``below``. Raises OSError."""
    scanned = ScannedSegment()
    misfit = None if index else "it has no entries"
    entries = iter(index)
    entry = next(entries, None)
    for place, chunk, bodies in _whole_chunks(files, descriptor, size, first, below):
        scanned.size += bodies
        scanned.malformed += [
            entry.position
            for entry in chunk.decode()
            if read_message(entry.message.route, bytes(entry.message.frames)) is None
        ]
        run = ChunkRun(place, place + chunk.size, chunk.first, chunk.end, chunk.timestamp, chunk.timestamp)
        last = scanned.runs[-1] if scanned.runs else None
        if last is not None and (last.stop, last.end) == (run.start, run.first):
            scanned.runs[-1] = last._replace(stop=run.stop, end=run.end, newest=run.newest)
        else:
            scanned.runs.append(run)
        if entry is not None and entry[2] == place and entry[:2] == (chunk.first, chunk.timestamp):
            entry = next(entries, None)
    if entry is not None:
        misfit = f"no chunk with offset {entry[0]} of that time is at {entry[2]}"
    scanned.misfit = misfit if scanned.runs else None
    return scanned


def _whole_chunks(
    files: Files, descriptor: int, size: int, expected: int, below: int
) -> Iterator[tuple[int, Chunk, int]]:
    """Yield chunks with ascending offsets from ``expected`` to under ``below``.

    Each is yielded with its place and the bytes of its bodies.
    """
    place = SEGMENT_HEAD
    while place < size:
        stop = place
        for chunk in read_chunks(files, descriptor, place, size):
            bodies = chunk.bodies()
            if bodies is None or chunk.first < expected or chunk.end > below:
                break
            yield place + chunk.start, chunk, bodies
            expected = chunk.end
            stop = place + chunk.stop
        place = stop if stop > place else _next_mark(files, descriptor, place + 1, size)


def _next_mark(files: Files, descriptor: int, place: int, size: int) -> int:
    """Return the next place where a chunk may begin; ``size`` if there is no such place."""
    while place < size:
        data = files.read(descriptor, PIECE + len(MARK), place)
        found = data.find(MARK)
        if found >= 0:
            return place + found
        place += PIECE
    return size
