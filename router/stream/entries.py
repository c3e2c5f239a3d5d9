"""Entries of a stream: messages as they are stored in chunks and delivered to readers.

Responsible for the bytes of an entry. Not for chunks (see ``chunk``).

    entry     >HII      bytes of the route, of the body, of the frames
              ...       the route (exchange and routing key as short strings), then the content frames, on
                        channel 1 and with the header x-stream-offset

A message is encoded once, when it is published; every reader gets these bytes.
"""

from collections.abc import Sequence
from struct import Struct

from leveret.protocol.amqp.constants import FRAME_OVERHEAD
from leveret.protocol.amqp.header_picker import headers_at, headers_place
from leveret.protocol.amqp.message import BASIC, END, FLAGS_OFFSET, FRAME, HEADER_FRAME, Message
from leveret.protocol.amqp.properties import HEADERS, splice_properties
from leveret.protocol.amqp.table import Long

CHANNEL = 1  # the channel that most clients use, on both sides
OFFSET = "x-stream-offset"
ENTRY = Struct(">HII")  # the start of an entry

_FLAGS = Struct(">H")
_OFFSET_NAME = b"\x0f" + OFFSET.encode()
_OFFSET_ENTRY = _OFFSET_NAME + b"l"  # up to the number
_ENTRY_SIZE = len(_OFFSET_ENTRY) + 8
_ONES, _TWOS = int.from_bytes(b"\x01" * 8), int.from_bytes(b"\x02" * 8)

_pack_entry = ENTRY.pack
_pack_length = Struct(">I").pack
_pack_number = Struct(">Q").pack


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
