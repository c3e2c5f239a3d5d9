"""Pages: consecutive messages of one queue that are written and read together, in segment files.

Responsible for the bytes of a page and the data that memory keeps of one. A page holds messages that are
still queued when their journal file is removed, or messages for which memory is short. Not for the choice of
messages (see ``pager`` and ``journal/truncation``).

Segment files ``<number>.segment`` hold pages of all queues, one after the other: a page is read in one
piece, so the pages beside it do not matter, and a thousand queues cost one sync.

    page      >4sIQQI   magic "PAG2", CRC-32 of all bytes after it, payload bytes, queue id, count
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

from leveret.protocol.amqp.content_frames import HEADER_FRAME
from leveret.protocol.amqp.message import Frames, body_size
from leveret.protocol.amqp.traits import Traits
from leveret.router.store.journal.records import Range, ranges

PAGE = b"PAG2"
SUFFIX = ".segment"

_PAGE = Struct(">4sIQQI")
_CRC = Struct(">I")
_COVERED = 8  # offset in a page where the bytes that the CRC covers begin
_ENTRY = Struct(">QQIHI")
ENTRY_LEAST = _ENTRY.size
JOINED = 1 << 20  # bytes of a page that are joined before they are written


class PageError(ValueError):
    """Bytes that are not the expected page."""


class StoredMessage(NamedTuple):
    """One message of one queue in a page. ``deadline`` is in ms since the epoch, 0 for none."""

    position: int
    deadline: int
    returns: int
    route: bytes
    frames: bytes


class StoredPage:
    """The data about a page in memory: its place, its positions, and the settled positions.

    ``kept`` is True if a checkpoint names the page; other pages do not survive the broker. Both kinds may
    hold ``passing`` messages, which never survive it. ``written`` is set once the page is on disk. ``state``
    is the page as the last checkpoint has it, None if it has changed since.
    """

    __slots__ = ("_passing", "_positions", "_settled", "count", "earliest", "first", "kept", "last", "length",
                 "live", "offset", "priority", "queue_id", "segment", "size",
                 "state", "times_returned", "traits", "wall_offset", "written")  # fmt: skip

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
        traits: Sequence[Traits] | None = None,
    ) -> None:
        """``positions`` ascend, and there is at least one. ``passing`` are the positions of passing messages.

        ``traits`` are those of the messages, in this order, if this broker has packed the page: then they
        need not be read again. Many messages share their traits, so they take up little memory.

        ``wall_offset`` converts the page's deadlines back to the broker's clock, even if the wall clock was
        set to another time since.
        """
        self.wall_offset = wall_offset
        self.queue_id = queue_id
        self.segment = segment
        self.offset = offset
        self.length = length  # bytes in the file
        self.size = size  # bytes of all bodies
        self.earliest = earliest  # the first deadline of any of its messages, ms since the epoch; 0: none
        self.priority = priority  # of all its messages, in a queue with priorities
        self.kept = kept
        self.written = False
        # Number of returns by position, if more than in the page's bytes
        self.times_returned: dict[int, int] = {}
        self.traits = traits
        self._hold(positions, passing)

    def _hold(self, positions: Sequence[int], passing: Sequence[int]) -> None:
        """Set the positions, none of which is settled."""
        self.first = positions[0]
        self.last = positions[-1]
        self.count = self.live = len(positions)
        self.state: object = None
        dense = self.last - self.first + 1 == self.count
        self._positions = None if dense else array("Q", positions)
        self._settled: bytearray | None = None  # a 1 for each settled position; None for none or all
        self._passing: bytearray | None = None  # a 1 for each passing position; None for none
        if passing:
            self._passing = bytearray(self.count)
            for position in passing:
                self._passing[self._index(position)] = 1

    def holds(self, position: int) -> bool:
        """Return True if the page was written with this position."""
        return self._index(position) >= 0

    def positions(self) -> Sequence[int]:
        """Return all positions that the page was written with, in order."""
        return range(self.first, self.last + 1) if self._positions is None else self._positions

    def packed_positions(self) -> bytes:
        """Return all positions as 8 bytes each, big-endian; empty if no position is missing."""
        if self._positions is None:
            return b""
        positions = self._positions[:]
        if byteorder == "little":
            positions.byteswap()
        return positions.tobytes()

    def settle(self, position: int) -> None:
        """Mark a message as settled; for a settled or absent position this does nothing."""
        index = position - self.first if self._positions is None else self._index(position)
        if not (0 <= index < self.count and self.live):
            return
        self.state = None
        if self._settled is None:
            self._settled = bytearray(self.count)
        if not self._settled[index]:
            self._settled[index] = 1
            self.live -= 1
            if not self.live:
                self._settled = None

    def settle_all(self, first: int, below: int) -> None:
        """Mark the messages at positions from ``first`` to under ``below`` as settled."""
        positions = self.positions()
        for index in range(bisect_left(positions, first), bisect_left(positions, below)):
            self.settle(positions[index])

    def move(self, segment: int, offset: int, length: int, entries: Sequence[StoredMessage]) -> None:
        """Set place and content after the page was moved: ``entries`` are the messages that moved."""
        positions = [entry.position for entry in entries]
        passing = [position for position in positions if self.is_passing(position)]
        settled = [position for position in positions if self.is_settled(position)]
        self.segment, self.offset, self.length = segment, offset, length
        self.size = sum(stored_size(entry.frames) for entry in entries)
        self.earliest = min((entry.deadline for entry in entries if entry.deadline), default=0)
        self.traits = None
        self._hold(positions, passing)
        for position in settled:
            self.settle(position)

    def give_back(self, position: int, returns: int) -> None:
        """Set the number of returns of a message."""
        self.state = None
        self.times_returned[position] = returns

    def returns(self, position: int, stored: int) -> int:
        """Return the number of returns of a message; ``stored`` is the number in the page's bytes."""
        return self.times_returned.get(position, stored)

    def is_settled(self, position: int) -> bool:
        """Return True if a message is settled, or not in the page."""
        index = self._index(position)
        return index < 0 or not self.live or (self._settled is not None and bool(self._settled[index]))

    def settled(self) -> list[Range]:
        """Return the settled positions as ranges."""
        if self._settled is None:
            return [] if self.live else ranges(self.positions())
        return ranges(compress(self.positions(), self._settled))

    def die(self) -> None:
        """Mark all messages as settled."""
        self.live = 0
        self.state = self._settled = None

    def unsettled(self) -> list[int]:
        """Return the positions of the live messages."""
        return [position for position in self.positions() if not self.is_settled(position)]

    def is_passing(self, position: int) -> bool:
        """Return True if a message in the page does not survive the broker."""
        return not self.kept or (self._passing is not None and bool(self._passing[self._index(position)]))

    def is_whole(self) -> bool:
        """Return True if all messages are as in the page's bytes, and none is settled or passing."""
        return self.kept and not self.times_returned and self.live == self.count and self._passing is None

    def lost(self) -> list[Range]:
        """Return the positions that a restarted broker must not restore: settled or passing ones."""
        if self._passing is None or not self.live:
            return self.settled()
        settled = self._settled or bytes(self.count)
        gone = (passing or done for passing, done in zip(self._passing, settled, strict=True))
        return ranges(compress(self.positions(), gone))

    def _index(self, position: int) -> int:
        """Return the index of a position; -1 if the page does not hold it."""
        if not self.first <= position <= self.last:
            return -1
        if self._positions is None:
            return position - self.first
        index = bisect_left(self._positions, position)
        return index if self._positions[index] == position else -1


def unpack_positions(first: int, last: int, packed: bytes) -> Sequence[int]:
    """Undo ``StoredPage.packed_positions``."""
    if not packed:
        return range(first, last + 1)
    positions = array("Q", packed)
    if byteorder == "little":
        positions.byteswap()
    return positions


def stored_size(frames: bytes) -> int:
    """Return the bytes of the body in some frames, which may be malformed."""
    return min(body_size(frames), len(frames)) if len(frames) >= HEADER_FRAME.size else 0


class PageParts:
    """The parts of a page that is not packed yet. ``len`` is the size of the page.

    The writer's thread joins the parts and computes the checksum, because that takes long for large bodies.
    """

    __slots__ = ("_parts", "_queue_id", "_size")

    def __init__(self, queue_id: int, entries: Iterable[tuple[int, int, int, bytes, Frames]]) -> None:
        parts: list[Frames] = []
        pack = _ENTRY.pack
        for position, deadline, returns, route, frames in entries:
            parts += (pack(position, deadline, returns, len(route), len(frames)), route, frames)
        self._parts = parts
        self._queue_id = queue_id
        self._size = sum(map(len, parts))

    def __len__(self) -> int:
        return _PAGE.size + self._size

    def pieces(self) -> list[bytes | bytearray]:
        """Return the bytes of the page: in one piece, or in more if they are large, so that nothing is copied
        while other threads wait.
        """
        parts = self._parts if self._size > JOINED else [b"".join(self._parts)]
        head = bytearray(_PAGE.size)
        _PAGE.pack_into(head, 0, PAGE, 0, self._size, self._queue_id, len(self._parts) // 3)
        checksum = crc32(memoryview(head)[_COVERED:])
        for part in parts:
            checksum = crc32(part, checksum)
        _CRC.pack_into(head, len(PAGE), checksum)
        return [head + parts[0], *parts[1:]] if parts else [head]


def pack_page(queue_id: int, entries: Iterable[tuple[int, int, int, bytes, bytes]]) -> bytearray:
    """Return the bytes of a page. The entries have the fields of ``StoredMessage``."""
    return bytearray().join(PageParts(queue_id, entries).pieces())


def check_page(data: bytes, queue_id: int) -> None:
    """Raise PageError if the bytes are not a whole page of this queue."""
    if len(data) < _PAGE.size:
        raise PageError("the file ends before the page does")
    magic, crc, length, owner, _ = _PAGE.unpack_from(data)
    if magic != PAGE:
        raise PageError("there is no page")
    if len(data) != _PAGE.size + length:
        raise PageError(f"the page has {_PAGE.size + length} bytes instead of {len(data)}")
    if crc32(memoryview(data)[_COVERED:]) != crc:
        raise PageError("the checksum is wrong")
    if owner != queue_id:
        raise PageError(f"the page is of queue {owner} instead of {queue_id}")


def entries_of(data: bytes) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    """Yield the fields of each ``StoredMessage`` of a checked page, up to the first incomplete entry."""
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


def read_entries(page: StoredPage, data: bytes) -> list[tuple[int, int, int, bytes, bytes]]:
    """Return the messages of a checked page, at the positions that it was written with.

    If lengths in it are wrong and some messages cannot be found, the others are returned.
    """
    entries, positions = list(entries_of(data)), page.positions()
    if len(entries) == len(positions):
        if all(map(eq, map(itemgetter(0), entries), positions)):
            return entries
        return [(position, *entry[1:]) for position, entry in zip(positions, entries, strict=True)]
    found = {entry[0]: entry for entry in entries if page.holds(entry[0])}
    return [found[position] for position in sorted(found)]


def unpack_page(data: bytes, queue_id: int) -> list[StoredMessage]:
    """Return the messages of a page.

    Raises PageError if it is damaged, of another queue, or has another number of entries than its header
    states.
    """
    check_page(data, queue_id)
    entries = list(map(StoredMessage._make, entries_of(data)))
    count = _PAGE.unpack_from(data)[4]
    size = _PAGE.size + sum(_ENTRY.size + len(each.route) + len(each.frames) for each in entries)
    if len(entries) != count or size != len(data):
        raise PageError(f"{len(entries)} entries with {size} bytes can be read of {count} with {len(data)}")
    return entries


def segment_path(directory: Path, number: int, *, kept: bool = True) -> Path:
    """Return the path of a segment file in a data directory."""
    return directory / ("segments" if kept else "transient") / f"{number:010d}{SUFFIX}"


# -- salvage of damaged pages ------------------------------------------------------------------------------


def find_pages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the offset, length and queue id of every whole page in the bytes of a segment."""
    offset = 0
    while (offset := data.find(PAGE, offset)) >= 0:
        end = offset + _PAGE.size
        if end <= len(data):
            _, crc, length, queue_id, _ = _PAGE.unpack_from(data, offset)
            end += length
            whole = end <= len(data) and crc32(memoryview(data)[offset + _COVERED : end]) == crc
            if whole:
                yield offset, end - offset, queue_id
            if whole or data.startswith(PAGE, end):  # bytes within a message are no page
                offset = end
                continue
        offset += 1


def salvage_entries(
    data: bytes, positions: Iterable[int], is_message: Callable[[bytes, bytes], bool]
) -> list[StoredMessage]:
    """Return the readable messages, at these ascending positions, of a page with a wrong checksum.

    ``is_message`` returns True if a route and frames have the form of a message. Changes within a body cannot
    be detected.
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


def _entry_at(data: bytes, offset: int) -> StoredMessage | None:
    """Return the entry that may be at an offset; None if there is no room for one."""
    route = offset + _ENTRY.size
    if route > len(data):
        return None
    position, deadline, returns, route_size, frames_size = _ENTRY.unpack_from(data, offset)
    frames = route + route_size
    return StoredMessage(position, deadline, returns, data[route:frames], data[frames : frames + frames_size])
