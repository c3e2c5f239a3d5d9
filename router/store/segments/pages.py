"""Pages: runs of messages of one queue, written at once and read at once, in segment files.

A message that is still queued when its journal file is to go moves into a page, and so does what does not fit
into memory. Owns the bytes of a page and the little that memory keeps of one; which messages make a page
and when it is read is the queue's and the store's business.

Segment files ``<number>.segment`` hold pages of all queues, one behind the other: a page is what is read in
one piece, so that it does not matter whose page stands beside it, and a thousand queues cost one sync.

    page      >4sIQQI   magic "PAG2", CRC-32 of all behind it, payload bytes, queue id, count
    entry     >QQIHI    position, deadline (ms since the epoch, 0: none), returns, bytes of route and frames
              ...       the route, then the content frames

Positions ascend within a page.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from operator import eq, itemgetter
from pathlib import Path
from struct import Struct
from sys import byteorder
from typing import NamedTuple
from zlib import crc32

from leveret.protocol.amqp.message import HEADER_FRAME, body_size
from leveret.router.store.journal.records import Range, ranges

PAGE = b"PAG2"
SUFFIX = ".segment"

_PAGE = Struct(">4sIQQI")
_CRC = Struct(">I")
_COVERED = 8  # where in a page the part begins that the CRC covers
_ENTRY = Struct(">QQIHI")
ENTRY_LEAST = _ENTRY.size


class PageError(ValueError):
    """The bytes are not the page they should be."""


class Stored(NamedTuple):
    """One message of one queue as it stands in a page. ``deadline`` is in ms since the epoch, 0 for none."""

    position: int
    deadline: int
    returns: int
    route: bytes
    frames: bytes


class Page:
    """What memory keeps of a page: where it is, which positions it holds, and which of them are settled.

    ``kept`` says that it is among those a checkpoint tells of; the others do not outlive the broker. Messages
    that do not either, ``passing`` ones, may stand in both. ``written`` is set once it is on disk; ``state``
    is what a checkpoint said of it, None if that holds no longer.
    """

    __slots__ = ("_passing", "_positions", "_settled", "count", "earliest", "first", "kept", "last", "length",
                 "live", "offset", "priority", "queue_id", "segment", "size",
                 "state", "times_returned", "wall_offset", "written")  # fmt: skip

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
        priority: int = 0,
        kept: bool = True,
        passing: Sequence[int] = (),
        wall_offset: int = 0,
    ) -> None:
        """``positions`` ascend, and there is one at least. ``passing`` are some of them.

        ``wall_offset`` leads from its deadlines back to those of the broker's clock, whatever the wall clock
        was set to since.
        """
        self.wall_offset = wall_offset
        self.queue_id = queue_id
        self.segment = segment
        self.offset = offset
        self.length = length  # bytes in the file
        self.size = size  # bytes of all bodies
        self.earliest = earliest  # the first deadline of any of its messages, ms since the epoch; 0: none
        self.priority = priority  # of all its messages, in a queue that has priorities
        self.kept = kept
        self.written = False
        self.times_returned: dict[int, int] = {}  # by position, where that is more than the page says
        self._hold(positions, passing)

    def _hold(self, positions: Sequence[int], passing: Sequence[int]) -> None:
        """Nothing of these positions is settled."""
        self.first = positions[0]
        self.last = positions[-1]
        self.count = self.live = len(positions)
        self.state: object = None
        dense = self.last - self.first + 1 == self.count
        self._positions = None if dense else array("Q", positions)
        self._settled: bytearray | None = None  # a 1 for each that is; None for none or all
        self._passing: bytearray | None = None  # likewise
        if passing:
            self._passing = bytearray(self.count)
            for position in passing:
                self._passing[self._index(position)] = 1

    def holds(self, position: int) -> bool:
        """Whether it was written with this position."""
        return self._index(position) >= 0

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
        """Count a message as settled; once more, or for a position it does not hold, does nothing."""
        index = self._index(position)
        if index < 0 or not self.live:
            return
        self.state = None
        if self._settled is None:
            self._settled = bytearray(self.count)
        if not self._settled[index]:
            self._settled[index] = 1
            self.live -= 1
            if not self.live:
                self._settled = None

    def settle_all(self, first: int, behind: int) -> None:
        """Count the messages at positions from ``first`` to under ``behind`` as settled."""
        positions = self.positions()
        for index in range(bisect_left(positions, first), bisect_left(positions, behind)):
            self.settle(positions[index])

    def move(self, segment: int, offset: int, length: int, entries: Sequence[Stored]) -> None:
        """It is elsewhere now, and holds these entries: all that were live when they were read."""
        positions = [entry.position for entry in entries]
        passing = [position for position in positions if self.is_passing(position)]
        settled = [position for position in positions if self.is_settled(position)]
        self.segment, self.offset, self.length = segment, offset, length
        self.size = sum(stored_size(entry.frames) for entry in entries)
        self.earliest = min((entry.deadline for entry in entries if entry.deadline), default=0)
        self._hold(positions, passing)
        for position in settled:
            self.settle(position)

    def give_back(self, position: int, returns: int) -> None:
        """A message has come back to its queue so often."""
        self.state = None
        self.times_returned[position] = returns

    def returns(self, position: int, told: int) -> int:
        """How often a message has come back, of which the page says that it did so ``told`` times."""
        return self.times_returned.get(position, told)

    def is_settled(self, position: int) -> bool:
        """Whether a message is settled, or it does not hold it any more."""
        index = self._index(position)
        return index < 0 or not self.live or (self._settled is not None and bool(self._settled[index]))

    def settled(self) -> list[Range]:
        """What is settled, as ranges of positions."""
        if self._settled is None:
            return [] if self.live else ranges(self.positions())
        return ranges(compress(self.positions(), self._settled))

    def die(self) -> None:
        """All its messages are settled at once."""
        self.live = 0
        self.state = self._settled = None

    def unsettled(self) -> list[int]:
        """The positions of its live messages."""
        return [position for position in self.positions() if not self.is_settled(position)]

    def is_passing(self, position: int) -> bool:
        """Whether a message that it holds does not outlive the broker."""
        return not self.kept or (self._passing is not None and bool(self._passing[self._index(position)]))

    def is_whole(self) -> bool:
        """Whether all of its messages are as it says, and none is settled or passing."""
        return self.kept and not self.times_returned and self.live == self.count and self._passing is None

    def lost(self) -> list[Range]:
        """What a broker that comes back does not find in it: what is settled, or passing."""
        if self._passing is None or not self.live:
            return self.settled()
        settled = self._settled or bytes(self.count)
        gone = (passing or done for passing, done in zip(self._passing, settled, strict=True))
        return ranges(compress(self.positions(), gone))

    def _index(self, position: int) -> int:
        """Where among the positions this one stands; -1 if it does not."""
        if not self.first <= position <= self.last:
            return -1
        if self._positions is None:
            return position - self.first
        index = bisect_left(self._positions, position)
        return index if self._positions[index] == position else -1


def unpack_positions(first: int, last: int, packed: bytes) -> Sequence[int]:
    """The positions that ``Page.packed_positions`` packed."""
    if not packed:
        return range(first, last + 1)
    positions = array("Q", packed)
    if byteorder == "little":
        positions.byteswap()
    return positions


def stored_size(frames: bytes) -> int:
    """The bytes of the body in some frames, which need not be those of a message."""
    return min(body_size(frames), len(frames)) if len(frames) >= HEADER_FRAME.size else 0


def pack_page(queue_id: int, entries: Iterable[tuple[int, int, int, bytes, bytes]]) -> bytearray:
    """The bytes of a page. The entries are as ``Stored``."""
    parts = [bytes(_PAGE.size)]
    pack = _ENTRY.pack
    for position, deadline, returns, route, frames in entries:
        parts += (pack(position, deadline, returns, len(route), len(frames)), route, frames)
    data = bytearray().join(parts)
    _PAGE.pack_into(data, 0, PAGE, 0, len(data) - _PAGE.size, queue_id, len(parts) // 3)
    _CRC.pack_into(data, len(PAGE), crc32(memoryview(data)[_COVERED:]))
    return data


def check_page(data: bytes, queue_id: int) -> None:
    """Raises PageError when the bytes are not a whole page of this queue."""
    if len(data) < _PAGE.size:
        raise PageError("the file ends before the page does")
    magic, crc, length, told, _ = _PAGE.unpack_from(data)
    if magic != PAGE:
        raise PageError("there is no page")
    if len(data) != _PAGE.size + length:
        raise PageError(f"the page has {_PAGE.size + length} bytes instead of {len(data)}")
    if crc32(memoryview(data)[_COVERED:]) != crc:
        raise PageError("the checksum is wrong")
    if told != queue_id:
        raise PageError(f"the page is of queue {told} instead of {queue_id}")


def entries_of(data: bytes) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    """The messages of a page that was checked: of each, the fields of ``Stored``. Ends where no whole entry
    stands.
    """
    offset, size = _PAGE.size, len(data)
    unpack = _ENTRY.unpack_from
    while offset + _ENTRY.size <= size:
        position, deadline, returns, route_size, frames_size = unpack(data, offset)
        route = offset + _ENTRY.size
        frames = route + route_size
        offset = frames + frames_size
        if offset > size:
            return
        yield position, deadline, returns, data[route:frames], data[frames:offset]


def read_entries(page: Page, data: bytes) -> list[tuple[int, int, int, bytes, bytes]]:
    """The messages of a page that was checked, at the positions that it was written with.

    If some of them cannot be found, since lengths in it are wrong, the others are returned.
    """
    entries, positions = list(entries_of(data)), page.positions()
    if len(entries) == len(positions):
        if all(map(eq, map(itemgetter(0), entries), positions)):
            return entries
        return [(position, *entry[1:]) for position, entry in zip(positions, entries, strict=True)]
    found = {entry[0]: entry for entry in entries if page.holds(entry[0])}
    return [found[position] for position in sorted(found)]


def unpack_page(data: bytes, queue_id: int) -> list[Stored]:
    """The messages of a page. Raises PageError when it is damaged, another queue's, or not made of as many
    entries as it says.
    """
    check_page(data, queue_id)
    entries = list(map(Stored._make, entries_of(data)))
    count = _PAGE.unpack_from(data)[4]
    size = _PAGE.size + sum(_ENTRY.size + len(each.route) + len(each.frames) for each in entries)
    if len(entries) != count or size != len(data):
        raise PageError(f"{len(entries)} entries with {size} bytes can be read of {count} with {len(data)}")
    return entries


def segment_path(directory: Path, number: int, *, kept: bool = True) -> Path:
    """Where the segment file of this number stands in a data directory."""
    return directory / ("segments" if kept else "transient") / f"{number:010d}{SUFFIX}"


# -- what is left of damaged ones -------------------------------------------------------------------------


def find_pages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The offset, length and queue id of every whole page in the bytes of a segment."""
    offset = 0
    while (offset := data.find(PAGE, offset)) >= 0:
        end = offset + _PAGE.size
        if end <= len(data):
            _, crc, length, queue_id, _ = _PAGE.unpack_from(data, offset)
            end += length
            whole = end <= len(data) and crc32(memoryview(data)[offset + _COVERED : end]) == crc
            if whole:
                yield offset, end - offset, queue_id
            if whole or data.startswith(PAGE, end):  # what a message carries is no page
                offset = end
                continue
        offset += 1


def salvage_entries(
    data: bytes, positions: Iterable[int], is_message: Callable[[bytes, bytes], bool]
) -> list[Stored]:
    """What can be read of a page whose checksum is wrong, of these ascending positions.

    ``is_message`` says whether a route and frames have the form of a message. What was changed within a body
    shows nowhere.
    """
    found = []
    offset = _PAGE.size
    for position in positions:
        packed = position.to_bytes(8, "big")
        at = offset
        while (at := data.find(packed, at)) >= 0:
            entry = _entry_at(data, at)
            if entry is not None and is_message(entry.route, entry.frames):
                found.append(entry)
                offset = at + _ENTRY.size + len(entry.route) + len(entry.frames)
                break
            at += 1
    return found


def _entry_at(data: bytes, offset: int) -> Stored | None:
    """What may be an entry at an offset; None where there is no room for one."""
    route = offset + _ENTRY.size
    if route > len(data):
        return None
    position, deadline, returns, route_size, frames_size = _ENTRY.unpack_from(data, offset)
    frames = route + route_size
    return Stored(position, deadline, returns, data[route:frames], data[frames : frames + frames_size])
