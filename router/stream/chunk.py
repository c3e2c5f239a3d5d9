"""Chunks of a stream: consecutive entries, for storage and delivery alike.

Responsible for the bytes of a chunk, and for its messages. Not for the bytes of an entry (see ``entries``) or
for the files (see ``store/streams/files``).

    chunk     >4sIIIQQI  mark "CHNK", CRC-32 of the bytes after it, length of the bytes after this header,
                        number of entries, first offset, time (ms since the epoch), bytes of the filter
              ...       the filter (see ``filters``), then the entries, whose offsets have no gap
"""

from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties, decode_properties
from leveret.protocol.amqp.table import KEPT
from leveret.protocol.amqp.traits import Traits, read_traits
from leveret.protocol.errors import AmqpError
from leveret.router.queue.entry import Entry
from leveret.router.stream.entries import CHANNEL, ENTRY, OFFSET

CHUNK_BYTES = 1 << 16  # of entries, approximately; a chunk has at least one entry
MARK = b"CHNK"

TIME_MAX = 1 << 62  # ms since the epoch

_HEAD = Struct(">4sIIIQQI")
HEAD_SIZE = _HEAD.size
_COVERED = 8  # offset where the bytes that the CRC covers begin


class StreamMessage(Message):
    """A message of a stream. Its traits are read, and its properties decoded, on demand; most readers never
    need them.
    """

    __slots__ = ("_decoded", "frames", "route", "size")

    # The same for all messages; never set.
    bits = 0
    channel = CHANNEL

    def __init__(self, route: bytes, size: int, frames: bytes) -> None:
        self.route = route
        self.size = size
        self.frames = frames

    @property
    def traits(self) -> Traits:  # type: ignore[override]  # never set
        return read_traits(self.raw_properties, KEPT)

    @property
    def properties(self) -> Properties:
        try:
            return self._decoded
        except AttributeError:
            self._decoded: Properties = decode_properties(self.raw_properties, 0, KEPT)
            return self._decoded


class StreamEntry(Entry):
    """A message at its offset, which is its position. It never expires, returns or moves to a page."""

    __slots__ = ("message", "position")

    expires = 0
    returns = 0
    indexed = False
    gone = False
    stored = False
    page = None

    def __init__(self, message: Message, offset: int) -> None:
        self.message = message
        self.position = offset


class UncommittedEntry(StreamEntry):
    """A published message that is not committed yet, and cannot be settled before."""

    __slots__ = ()

    stored = True
    settled = False
    refused = False


class ChunkHead(NamedTuple):
    """The header of a chunk."""

    crc: int
    length: int  # bytes after the header
    entries: int
    first: int
    timestamp: int
    filter_size: int


class Chunk:
    """Consecutive messages of a stream, from the offset ``first`` to under ``end``.

    ``timestamp`` is their time of arrival, in ms since the epoch. ``data`` holds the chunk from ``start`` to
    ``stop``; its checksum is set only if the chunk was read from a file. The messages are decoded on demand,
    and shared by all readers.
    """

    __slots__ = ("_filter_size", "data", "end", "entries", "first", "start", "stop", "timestamp")

    def __init__(self, data: bytes, start: int, head: ChunkHead) -> None:
        self.data = data
        self.start = start
        self.stop = start + HEAD_SIZE + head.length
        self.first = head.first
        self.end = head.first + head.entries
        self.timestamp = head.timestamp
        self._filter_size = head.filter_size
        self.entries: list[Entry] | None = None  # the cached result of ``decode``

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def filter(self) -> bytes:
        start = self.start + HEAD_SIZE
        return self.data[start : start + self._filter_size]

    def pieces(self) -> tuple[bytes, memoryview]:
        """Return the bytes of the chunk for a file, with the checksum, in two pieces so that they are not
        copied.
        """
        covered = memoryview(self.data)[self.start + _COVERED : self.stop]
        return MARK + crc32(covered).to_bytes(4), covered

    @property
    def raw(self) -> bytes:
        """A copy of the bytes of the chunk."""
        return b"".join(self.pieces())

    def decode(self) -> list[Entry]:
        """Return the messages."""
        data, at = self.data, self.start + HEAD_SIZE + self._filter_size
        entries: list[Entry] = []
        append, unpack, head = entries.append, ENTRY.unpack_from, ENTRY.size
        last = b""
        for offset in range(self.first, self.end):
            route_size, size, frames_size = unpack(data, at)
            at += head
            if len(last) == route_size and data.startswith(last, at):
                route = last
            else:
                last = route = data[at : at + route_size]
            at += route_size
            end = at + frames_size
            append(StreamEntry(StreamMessage(route, size, data[at:end]), offset))
            at = end
        return entries

    def is_sound(self) -> bool:
        """Return True if the entries fill the chunk, and the first and the last have the offsets of its
        header.

        A correct checksum proves only that the disk returned the bytes that were written.
        """
        data, at, stop = self.data, self.start + HEAD_SIZE + self._filter_size, self.stop
        first, frames = (at, at), at
        for offset in range(self.first, self.end):
            if at + ENTRY.size > stop:
                return False
            route_size, _, frames_size = ENTRY.unpack_from(data, at)
            frames = at + ENTRY.size + route_size
            at = frames + frames_size
            if offset == self.first:
                first = frames, at
        last = frames, at
        return (
            at == stop
            and self.timestamp <= TIME_MAX
            and self._offset_in(*first) == self.first
            and self._offset_in(*last) == self.end - 1
        )

    def _offset_in(self, start: int, stop: int) -> object:
        """Return the offset in the headers of an entry; None if its frames cannot be read."""
        try:
            return StreamMessage(b"", 0, self.data[start:stop]).headers.get(OFFSET)
        except (AmqpError, ValueError, IndexError, error):
            return None

    def bodies(self) -> int | None:
        """Return the bytes of all bodies; None if the entries do not fill the chunk."""
        data, at = self.data, self.start + HEAD_SIZE + self._filter_size
        total = 0
        for _ in range(self.first, self.end):
            if at + ENTRY.size > self.stop:
                return None
            route_size, size, frames_size = ENTRY.unpack_from(data, at)
            at += ENTRY.size + route_size + frames_size
            total += size
        return total if at == self.stop else None


def pack_chunk(first: int, entries: Sequence[bytes], timestamp: int, bloom: bytes = b"") -> Chunk:
    """Make a chunk of these entries. Its checksum is computed when it is written to a file."""
    length = len(bloom) + sum(map(len, entries))
    head = _HEAD.pack(MARK, 0, length, len(entries), first, timestamp, len(bloom))
    data = b"".join((head, bloom, *entries))
    return Chunk(data, 0, ChunkHead(0, length, len(entries), first, timestamp, len(bloom)))


def split(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Divide entries among chunks."""
    start = size = 0
    for index, entry in enumerate(entries):
        size += len(entry)
        if size >= CHUNK_BYTES:
            yield entries[start : index + 1]
            start, size = index + 1, 0
    if start < len(entries):
        yield entries[start:] if start else entries


def head_at(data: bytes, offset: int) -> ChunkHead | None:
    """Return the header of the chunk at a place; None if there is none."""
    if len(data) - offset < HEAD_SIZE:
        return None
    mark, *rest = _HEAD.unpack_from(data, offset)
    head = ChunkHead(*rest)
    if mark != MARK or head.filter_size > head.length or not head.entries:
        return None
    return head


def chunk_at(data: bytes, offset: int) -> Chunk | None:
    """Return the whole chunk at a place; None if there is none."""
    head = head_at(data, offset)
    if head is None:
        return None
    end = offset + HEAD_SIZE + head.length
    if end > len(data) or crc32(memoryview(data)[offset + _COVERED : end]) != head.crc:
        return None
    return Chunk(data, offset, head)


def chunks_of(data: bytes) -> list[Chunk]:
    """Return the whole chunks at the beginning of ``data``, one after the other."""
    found: list[Chunk] = []
    at = 0
    while (chunk := chunk_at(data, at)) is not None:
        found.append(chunk)
        at = chunk.stop
    return found
