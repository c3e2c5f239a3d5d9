"""Seek: the offset at which a stream's reader starts.

Converts a start, such as ``first`` or a time, to an offset, or to the segment that must be searched for a
time. Not for the arguments of consumers (see ``offsets``), nor for reading (see ``fetching``).
"""

from typing import NamedTuple

from leveret.router.stream.offsets import Start
from leveret.router.stream.positions import LARGEST, Position
from leveret.router.stream.readable import Readable


class SeekResult(NamedTuple):
    """The offset to read from. If ``search`` is True, it is the start of a segment, in which the first
    message of the wanted time must be searched for.
    """

    offset: int
    search: bool = False


def seek(stream: Readable, start: Start, known: Position | None) -> SeekResult:
    """Return the offset of a start; ``known`` is the stored position of a reader that continues there.

    A stored position may be before the first offset: retention may have removed its messages.
    """
    if known is not None:
        return SeekResult(known.offset)
    match start.kind:
        case "first":
            return SeekResult(stream.first)
        case "last":
            chunks = stream.tail.chunks
            return SeekResult(chunks[-1].first if chunks else stream.committed)
        case "offset":
            return SeekResult(min(max(start.value, stream.first), LARGEST))
        case "time":
            return _seek_time(stream, start.value)
    return SeekResult(stream.committed)


def _seek_time(stream: Readable, time: int) -> SeekResult:
    """Return the first offset of the first chunk that is not older than ``time`` (ms since the epoch)."""
    if time > stream.newest or stream.committed == stream.first:
        return SeekResult(stream.committed)
    if time <= stream.segments[0].created:
        return SeekResult(stream.first)
    segment = stream.segments.at(time)
    start = stream.tail.chunks[0]
    if start.first <= max(stream.first, segment.first) or start.timestamp < time:
        return SeekResult(stream.tail.since(time))
    return SeekResult(segment.first, search=True)
