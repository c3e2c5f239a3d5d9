"""Chunks of a stream: messages encoded as entries, for storage and delivery alike.

Responsible for the bytes of an entry and of a chunk. Not for the files (see ``store/streams/files``).

    entry     >HII      bytes of the route, of the body, of the frames
              ...       the route (exchange and routing key as short strings), then the content frames, on
                        channel 1 and with the header x-stream-offset
    chunk     >4sIIIQQI  mark "CHNK", CRC-32 of all behind it, bytes behind this header, number of entries,
                        first offset, time (ms since the epoch), bytes of the filter
              ...       the filter (see ``filters``), then the entries, whose offsets have no gap

A message is encoded once, when it is published; every reader gets these bytes.
"""

from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

from leveret.protocol.amqp.constants import FRAME_OVERHEAD
from leveret.protocol.amqp.header_picker import headers_at, headers_place
from leveret.protocol.amqp.message import BASIC, END, FLAGS_OFFSET, FRAME, HEADER_FRAME, Message
from leveret.protocol.amqp.properties import HEADERS, Properties, decode_properties, splice_properties
from leveret.protocol.amqp.table import KEPT, Long
from leveret.protocol.amqp.traits import Traits, read_traits
from leveret.protocol.errors import AmqpError
from leveret.router.queue.entry import Entry

CHANNEL = 1  # the channel that most clients use, on both sides
OFFSET = "x-stream-offset"
CHUNK_BYTES = 1 << 16  # of entries, approximately; a chunk has at least one entry
MARK = b"CHNK"

TIME_MAX = 1 << 62  # ms since the epoch

_ENTRY = Struct(">HII")
_HEAD = Struct(">4sIIIQQI")
HEAD_SIZE = _HEAD.size
_COVERED = 8  # offset where the bytes that the CRC covers begin
_NUMBER = Struct(">Q")
_FLAGS = Struct(">H")
_OFFSET_NAME = b"\x0f" + OFFSET.encode()
_OFFSET_ENTRY = _OFFSET_NAME + b"l"  # up to the number
_ENTRY_SIZE = len(_OFFSET_ENTRY) + 8
_ONES, _TWOS = int.from_bytes(b"\x01" * 8), int.from_bytes(b"\x02" * 8)

_pack_entry, _unpack_entry, _pack_number = _ENTRY.pack, _ENTRY.unpack_from, _NUMBER.pack
_pack_length = Struct(">I").pack


class StreamMessage(Message):
    """A message of a stream. Its traits are read, and its properties decoded, on demand; most readers never
    need them.
    """

    __slots__ = ("_decoded",)

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

    __slots__ = ()

    expires = 0
    returns = 0
    indexed = False
    gone = False
    stored = False
    page = None

    def __init__(self, message: StreamMessage, offset: int) -> None:
        self.message = message
        self.position = offset


def encode_entry(message: Message, offset: int) -> bytes:
    """Return the entry of a message at an offset."""
    frames = message.frames if message.channel == CHANNEL else message.framed_for(CHANNEL, 0)
    at, end = headers_at(frames)
    if at and frames.find(_OFFSET_NAME, at, end) < 0:  # as _split, with fewer copies
        return b"".join(
            (
                _pack_entry(len(message.route), message.size, len(frames) + _ENTRY_SIZE),
                message.route,
                frames[:3],
                _pack_length(FRAME.unpack_from(frames)[2] + _ENTRY_SIZE),
                frames[7 : at - 4],
                _pack_length(end - at + _ENTRY_SIZE),
                frames[at:end],
                _OFFSET_ENTRY,
                _pack_number(offset),
                memoryview(frames)[end:],
            )
        )
    before, behind, start = _split(frames)
    size = len(before) + 8 + len(behind) + len(frames) - start
    entry = _pack_entry(len(message.route), message.size, size)
    body = memoryview(frames)[start:]
    return b"".join((entry, message.route, before, _pack_number(offset), behind, body))


def encode_entries(messages: Sequence[Message], first: int) -> list[bytes]:
    """Return the entries of messages with the same route, from the offset ``first`` on."""
    message = messages[0]
    size = len(message.frames)
    before, behind, start = _split(message.frames)
    header = message.frames[:start]
    if not all(_has_header(each, header, size) for each in messages):
        return [encode_entry(each, offset) for offset, each in enumerate(messages, first)]
    route = message.route
    entry = _pack_entry(len(route), message.size, len(before) + 8 + len(behind) + size - start)
    head = b"".join((entry, route, before))
    return [
        b"".join((head, _pack_number(offset), behind, each.frames[start:]))
        for offset, each in enumerate(messages, first)
    ]


def _has_header(message: Message, header: bytes, size: int) -> bool:
    """Return True if a message's frames can be stored as they are, begin with ``header`` and have ``size``
    bytes.
    """
    frames = message.frames
    return message.channel == CHANNEL and len(frames) == size and frames.startswith(header)


def _split(frames: bytes) -> tuple[bytes, bytes, int]:
    """Return the header frame with the header ``OFFSET``: the parts before and behind its eight bytes; and
    where the header frame ends in ``frames``.
    """
    size: int = FRAME.unpack_from(frames)[2]
    start = size + FRAME_OVERHEAD
    if frames.find(_OFFSET_NAME, FLAGS_OFFSET, start) >= 0:  # possibly a header of the publisher
        ones, twos = _replaced(frames[:start], _ONES), _replaced(frames[:start], _TWOS)
        place = next(index for index, (one, two) in enumerate(zip(ones, twos, strict=True)) if one != two)
        return ones[:place], ones[place + 8 :], start
    at, end = headers_at(frames)
    if at:
        flags, added = frames[FLAGS_OFFSET : FLAGS_OFFSET + 2], _ENTRY_SIZE
        table = frames[FLAGS_OFFSET + 2 : at - 4] + _pack_length(end - at + _ENTRY_SIZE) + frames[at:end]
    else:
        end = headers_place(frames)
        flags = _FLAGS.pack(_FLAGS.unpack_from(frames, FLAGS_OFFSET)[0] | HEADERS)
        added = 4 + _ENTRY_SIZE
        table = frames[FLAGS_OFFSET + 2 : end] + _pack_length(_ENTRY_SIZE)
    head = frames[:3] + _pack_length(size + added) + frames[7:FLAGS_OFFSET]
    return b"".join((head, flags, table, _OFFSET_ENTRY)), bytes(frames[end:start]), start


def _replaced(header: bytes, offset: int) -> bytes:
    """Return a content header frame with the header x-stream-offset set, in place of one from the
    publisher.
    """
    kind, channel, _, _, weight, size = HEADER_FRAME.unpack_from(header)
    raw = splice_properties(bytes(header[HEADER_FRAME.size : -1]), headers={OFFSET: Long(offset)})
    return HEADER_FRAME.pack(kind, channel, 12 + len(raw), BASIC, weight, size) + raw + END


class ChunkHead(NamedTuple):
    """The header of a chunk."""

    crc: int
    length: int  # bytes behind the header
    entries: int
    first: int
    timestamp: int
    filter_size: int


class Chunk:
    """Consecutive messages of a stream, from the offset ``first`` to under ``end``.

    ``timestamp`` is their time of arrival, in ms since the epoch. ``data`` holds the chunk from ``start`` to
    ``stop``; the checksum in there is set only if the chunk was read from a file. The messages are
    decoded on demand, and shared by all readers.
    """

    __slots__ = ("_crc", "_filter_size", "data", "end", "entries", "first", "start", "stop", "timestamp")

    def __init__(self, data: bytes, start: int, head: ChunkHead) -> None:
        self.data = data
        self.start = start
        self.stop = start + HEAD_SIZE + head.length
        self.first = head.first
        self.end = head.first + head.entries
        self.timestamp = head.timestamp
        self._filter_size = head.filter_size
        self._crc = head.crc
        self.entries: list[Entry] | None = None  # the cached result of ``decode``

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def filter(self) -> bytes:
        start = self.start + HEAD_SIZE
        return self.data[start : start + self._filter_size]

    @property
    def pieces(self) -> tuple[bytes, memoryview]:
        """The bytes of the chunk for a file, in two pieces so that they are not copied."""
        head = MARK + self._crc.to_bytes(4, "big")
        return head, memoryview(self.data)[self.start + _COVERED : self.stop]

    @property
    def raw(self) -> bytes:
        """A copy of the bytes of the chunk."""
        return b"".join(self.pieces)

    def decode(self) -> list[Entry]:
        """Return the messages."""
        data, at = self.data, self.start + HEAD_SIZE + self._filter_size
        entries: list[Entry] = []
        append = entries.append
        last = b""
        for offset in range(self.first, self.end):
            route_size, size, frames_size = _unpack_entry(data, at)
            at += _ENTRY.size
            if len(last) == route_size and data.startswith(last, at):
                route = last
            else:
                last = route = data[at : at + route_size]
            at += route_size
            append(StreamEntry(StreamMessage(route, size, data[at : at + frames_size]), offset))
            at += frames_size
        return entries

    def is_sound(self) -> bool:
        """Return True if the entries fill the chunk, and the first and the last have the offsets of its
        header.

        A correct checksum proves only that the disk returned the bytes that were written.
        """
        data, at, stop = self.data, self.start + HEAD_SIZE + self._filter_size, self.stop
        first, frames = (at, at), at
        for offset in range(self.first, self.end):
            if at + _ENTRY.size > stop:
                return False
            route_size, _, frames_size = _unpack_entry(data, at)
            frames = at + _ENTRY.size + route_size
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
            if at + _ENTRY.size > self.stop:
                return None
            route_size, size, frames_size = _unpack_entry(data, at)
            at += _ENTRY.size + route_size + frames_size
            total += size
        return total if at == self.stop else None


def pack_chunk(first: int, entries: Sequence[bytes], timestamp: int, bloom: bytes = b"") -> Chunk:
    """Make a chunk of these entries."""
    length = len(bloom) + sum(map(len, entries))
    head = _HEAD.pack(MARK, 0, length, len(entries), first, timestamp, len(bloom))
    data = b"".join((head, bloom, *entries))
    crc = crc32(memoryview(data)[_COVERED:])
    return Chunk(data, 0, ChunkHead(crc, length, len(entries), first, timestamp, len(bloom)))


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
    """Return the whole chunks at the beginning of ``data``, one behind the other."""
    found: list[Chunk] = []
    at = 0
    while (chunk := chunk_at(data, at)) is not None:
        found.append(chunk)
        at = chunk.stop
    return found
