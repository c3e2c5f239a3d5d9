"""Pages: runs of messages of one queue, written at once and read at once, in segment files.

A message that is still queued when its journal file is to go moves into a page, and so does what does not fit
into memory. Owns the bytes of a page and the little that memory keeps of one; which messages make a page
and when it is read is the queue's and the store's business.

Segment files ``<number>.segment`` hold pages of all queues, one behind the other: a page is what is read in
one piece, so that it does not matter whose page stands beside it, and a thousand queues cost one sync.

    page      >4sIIQII  magic "PAGE", payload bytes, CRC-32 of all behind it, queue id, count, 0
    entry     >QQIHI    position, deadline (ms since the epoch, 0: none), returns, bytes of route and frames
              ...       the route, then the content frames
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct
from sys import byteorder
from typing import NamedTuple
from zlib import crc32

from router.store.records import Range, ranges

PAGE = b"PAGE"
SUFFIX = ".segment"

_PAGE = Struct(">4sIIQII")
_CRC = Struct(">I")
_COVERED = 12
_ENTRY = Struct(">QQIHI")


class PageError(ValueError):
    """The bytes are no page of this queue."""


class Stored(NamedTuple):
    """One message of one queue as it stands in a page. ``deadline`` is in ms since the epoch, 0 for none."""

    position: int
    deadline: int
    returns: int
    route: bytes
    frames: bytes


class Page:
    """What memory keeps of a page: where it is, which positions it holds, and which of them are settled."""

    __slots__ = ("_positions", "_settled", "count", "earliest", "first", "last", "length", "live", "offset",
                 "queue_id", "returns", "segment", "size")  # fmt: skip

    def __init__(
        self,
        queue_id: int,
        segment: int,
        offset: int,
        length: int,
        positions: Sequence[int],
        *,
        size: int,
        earliest: int,
    ) -> None:
        self.queue_id = queue_id
        self.segment = segment
        self.offset = offset
        self.length = length  # bytes in the file
        self.first = positions[0]
        self.last = positions[-1]
        self.count = self.live = len(positions)
        self.size = size  # bytes of all bodies
        self.earliest = earliest  # the first deadline of any of its messages, ms since the epoch; 0: none
        dense = self.last - self.first + 1 == self.count
        self._positions = None if dense else array("Q", positions)
        self.returns: dict[int, int] = {}  # by position, where that is more than the page says
        self._settled: set[int] | None = None

    def holds(self, position: int) -> bool:
        """Whether it was written with this position."""
        if not self.first <= position <= self.last:
            return False
        if self._positions is None:
            return True
        index = bisect_left(self._positions, position)
        return self._positions[index] == position

    def positions(self) -> Sequence[int]:
        """All positions it was written with, in order."""
        return range(self.first, self.last + 1) if self._positions is None else self._positions

    def packed_positions(self) -> bytes:
        """All positions as 8 bytes each, big-endian; nothing when every one from first to last is there."""
        if self._positions is None:
            return b""
        positions = self._positions[:]
        if byteorder == "little":
            positions.byteswap()
        return positions.tobytes()

    def settle(self, position: int) -> None:
        """Count a message as settled; once more does nothing."""
        if not self.live:
            return
        if self._settled is None:
            self._settled = set()
        if position not in self._settled:
            self._settled.add(position)
            self.live -= 1
            if not self.live:
                self._settled = None

    def is_settled(self, position: int) -> bool:
        return not self.live or (self._settled is not None and position in self._settled)

    def settled(self) -> list[Range]:
        """What is settled, as ranges of positions; of no meaning once nothing is live."""
        return ranges(tuple(self._settled)) if self._settled else []


def pack_page(queue_id: int, entries: Iterable[Stored]) -> bytes:
    """The bytes of a page."""
    parts: list[bytes] = []
    count = 0
    for position, deadline, returns, route, frames in entries:
        parts += (_ENTRY.pack(position, deadline, returns, len(route), len(frames)), route, frames)
        count += 1
    payload = b"".join(parts)
    head = _PAGE.pack(PAGE, len(payload), 0, queue_id, count, 0)
    crc = crc32(payload, crc32(head[_COVERED:]))
    return b"".join((head[:8], _CRC.pack(crc), head[_COVERED:], payload))


def unpack_page(data: bytes, queue_id: int) -> list[Stored]:
    """The messages of a page. Raises PageError when it is damaged or another queue's."""
    if len(data) < _PAGE.size:
        raise PageError("the file ends before the page does")
    magic, length, crc, told, count, _ = _PAGE.unpack_from(data)
    if magic != PAGE or told != queue_id:
        raise PageError("there is no page of this queue")
    if len(data) != _PAGE.size + length:
        raise PageError("the file ends before the page does")
    if crc32(data[_COVERED:]) != crc:
        raise PageError("the checksum is wrong")
    entries = list(_entries(data))
    if len(entries) != count:
        raise PageError(f"{len(entries)} messages instead of {count}")
    return entries


def _entries(data: bytes) -> Iterator[Stored]:
    offset = _PAGE.size
    while offset < len(data):
        position, deadline, returns, route_size, frames_size = _ENTRY.unpack_from(data, offset)
        route = offset + _ENTRY.size
        frames = route + route_size
        offset = frames + frames_size
        yield Stored(position, deadline, returns, data[route:frames], data[frames:offset])


def segment_path(directory: Path, number: int) -> Path:
    """Where the segment file of this number stands in a data directory."""
    return directory / "segments" / f"{number:010d}{SUFFIX}"
