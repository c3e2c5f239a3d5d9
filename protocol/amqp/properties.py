"""Message properties: the flags and the property list of a content header (AMQP 0-9-1 4.2.6.1).

Responsible for the bytes from the flags to the end of the list. Not for the fields of the header frame before
them (see ``message``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, error
from typing import TypeAlias

from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.amqp.table import (
    PEER,
    Bounds,
    Remove,
    Table,
    Value,
    decode_table,
    encode_table,
    splice_table,
)
from leveret.protocol.errors import SyntaxError_

CONTENT_TYPE = 1 << 15
CONTENT_ENCODING = 1 << 14
HEADERS = 1 << 13
DELIVERY_MODE = 1 << 12
PRIORITY = 1 << 11
CORRELATION_ID = 1 << 10
REPLY_TO = 1 << 9
EXPIRATION = 1 << 8
MESSAGE_ID = 1 << 7
TIMESTAMP = 1 << 6
TYPE = 1 << 5
USER_ID = 1 << 4
APP_ID = 1 << 3
CLUSTER_ID = 1 << 2
# The two lowest bits mean nothing to RabbitMQ: the specification's "more flags follow" in bit 0 is ignored.

TRANSIENT, PERSISTENT = 1, 2  # delivery modes

_FLAGS = Struct(">H")
_TIMESTAMP = Struct(">Q")
_LENGTH = Struct(">I")


@dataclass(slots=True)
class Properties:
    """The properties of one message; None for a property that is not set. ``timestamp`` is in seconds since
    1970.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Table | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


def decode_properties(data: bytes, offset: int, bounds: Bounds = PEER) -> Properties:
    """Decode the flags at ``offset`` and the property list after them, which runs to the end of ``data``.

    RabbitMQ does not check that strings are UTF-8; other bytes are kept as surrogate escapes. Raises
    SyntaxError_ if the list is malformed or does not end where ``data`` ends, or if its headers are beyond
    ``bounds``.
    """
    properties = Properties()
    try:
        flags: int = _FLAGS.unpack_from(data, offset)[0]
        offset += 2
        for name, read in present(flags):
            value, offset = decode_table(data, offset, bounds) if read is decode_table else read(data, offset)
            setattr(properties, name, value)
    except (error, IndexError) as problem:
        raise SyntaxError_("truncated message properties") from problem
    if offset != len(data):
        raise SyntaxError_("message properties do not match their flags")
    return properties


def _after_table(data: bytes, offset: int) -> int:
    end: int = offset + 4 + _LENGTH.unpack_from(data, offset)[0]
    return end


def decode_without_headers(data: bytes, offset: int) -> Properties:
    """Decode the properties of a message that was accepted before, except for its headers."""
    properties = Properties()
    flags: int = _FLAGS.unpack_from(data, offset)[0]
    offset += 2
    for name, read in present(flags):
        if read is decode_table:
            offset = _after_table(data, offset)
        else:
            value, offset = read(data, offset)
            setattr(properties, name, value)
    return properties


def encode_properties(properties: Properties, bounds: Bounds = PEER) -> bytes:
    """Return the flags and the property list.

    Raises ValueError for a value that its wire type cannot hold, and the errors of ``encode_table`` for
    headers beyond ``bounds``.
    """
    flags = 0
    pieces = [b""]
    try:
        for name, flag, _, write in _PROPERTIES:
            value = getattr(properties, name)
            if value is not None:
                flags |= flag
                pieces.append(encode_table(value, bounds) if write is encode_table else write(value))
    except error as problem:
        raise ValueError(f"{name} does not fit its wire type: {value!r}") from problem
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)


def splice_properties(
    raw: bytes, headers: Mapping[str, Value | Remove] | None = None, **fields: str | int | Remove
) -> bytes:
    """Return raw flags and list with some properties and some headers replaced, added or removed.

    Everything else is copied byte for byte, so that the wire types of other headers survive. A headers table
    is added if there is none. ``raw`` must be well-formed: a malformed one raises no AmqpError here.
    """
    flags: int = _FLAGS.unpack_from(raw)[0]
    offset = 2
    pieces = [b""]
    for name, flag, read, write in _PROPERTIES:
        piece = b""
        if flags & flag:
            end = _after_table(raw, offset) if read is decode_table else read(raw, offset)[1]
            piece = raw[offset:end]
            offset = end
        if name == "headers" and headers:
            piece = splice_table(piece or encode_table({}), headers)
        elif name in fields:
            value = fields[name]
            piece = b"" if isinstance(value, Remove) else write(value)
        flags = flags | flag if piece else flags & ~flag
        pieces.append(piece)
    pieces[0] = _FLAGS.pack(flags)
    return b"".join(pieces)


Reader: TypeAlias = Callable[[bytes, int], tuple[object, int]]
Writer: TypeAlias = Callable[..., bytes]


def read_text(data: bytes, offset: int) -> tuple[str, int]:
    start = offset + 1
    end = start + data[offset]
    return data[start:end].decode("utf-8", "surrogateescape"), end


def _write_text(text: str) -> bytes:
    content = text.encode("utf-8", "surrogateescape")
    if len(content) > SHORTSTR_MAX:
        raise ValueError(f"property of {len(content)} bytes, at most {SHORTSTR_MAX} are possible")
    return b"%c%b" % (len(content), content)


def _read_octet(data: bytes, offset: int) -> tuple[int, int]:
    return data[offset], offset + 1


def _read_timestamp(data: bytes, offset: int) -> tuple[int, int]:
    return _TIMESTAMP.unpack_from(data, offset)[0], offset + 8


_WIRE: dict[str, tuple[Reader, Writer]] = {
    "text": (read_text, _write_text),
    "octet": (_read_octet, Struct(">B").pack),
    "timestamp": (_read_timestamp, _TIMESTAMP.pack),
    "table": (decode_table, encode_table),
}
_OTHER = {"headers": "table", "delivery_mode": "octet", "priority": "octet", "timestamp": "timestamp"}

# Name, flag, reader and writer of every property in wire order: the first has the highest flag.
_PROPERTIES = [
    (name, CONTENT_TYPE >> place, *_WIRE[_OTHER.get(name, "text")])
    for place, name in enumerate(Properties.__dataclass_fields__)
]


@lru_cache(maxsize=256)
def present(flags: int) -> tuple[tuple[str, Reader], ...]:
    """Return names and readers of the properties that the flags announce."""
    return tuple((name, read) for name, flag, read, _ in _PROPERTIES if flags & flag)
