"""Field tables: the arguments of methods and the headers of messages (AMQP 0-9-1 4.2.5.5).

Responsible for the mapping between Python values and RabbitMQ's type characters, which differ from the
specification's (https://www.rabbitmq.com/amqp-0-9-1-errata). Not for the meaning of any name.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import isfinite
from struct import Struct, error
from typing import NamedTuple, TypeAlias

from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.errors import SyntaxError_


class Timestamp(int):
    """Seconds since 1970 (POSIX), unsigned, 64 bits on the wire."""

    __slots__ = ()


class Long(int):
    """An integer that is always sent in 64 bits, for receivers that expect the type."""

    __slots__ = ()


class EncodedTable(bytes):
    """A well-formed table, with its length, that ``encode_table`` copies."""

    __slots__ = ()


class Remove(Enum):
    """The type of ``REMOVE``, which marks an entry that ``splice_table`` drops."""

    REMOVE = "remove"


REMOVE = Remove.REMOVE

Value: TypeAlias = (
    bool | int | float | str | bytes | Decimal | Timestamp | list["Value"] | dict[str, "Value"] | None
)
Table: TypeAlias = dict[str, Value]


class Bounds(NamedTuple):
    """Limits of a field table: levels of nesting, and entries in one table or array."""

    depth: int
    entries: int


# RabbitMQ has neither limit. The first keeps a peer from exhausting the stack, the second from exhausting the
# memory with entries of a byte or two; no frame of the default size holds a table with more entries. Encoding
# and decoding have the same limits, so that every encoded table can be decoded.
MAX_DEPTH = 128
MAX_ENTRIES = 65_536  # in one table or array
# The fault and the remedy, the same in every protocol; callers that know the place add it.
TOO_DEEP = f"tables and arrays are nested more than {MAX_DEPTH} deep; use fewer levels"
TOO_MANY = "more than {0} entries in one {1}; use several"
TOO_LARGE = "the number {} does not fit in 64 bits; send it as text"
PEER = Bounds(MAX_DEPTH, MAX_ENTRIES)  # for tables that a peer sends or that are sent to one
# For messages in the broker, which adds headers such as x-death to an accepted message, or nests the headers
# one level deeper for the firehose.
KEPT = Bounds(MAX_DEPTH + 8, MAX_ENTRIES + 64)

_LENGTH = Struct(">I")
_DECIMAL = Struct(">Bi")
_INT32 = Struct(">i")
_INT64 = Struct(">q")
_UINT64 = Struct(">Q")
_DOUBLE = Struct(">d")

# Types of a fixed size. ``l`` and ``L`` are both signed, as in RabbitMQ.
_FIXED = {
    kind.encode(): Struct(layout)
    for kind, layout in {
        "t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I",
        "l": ">q", "L": ">q", "f": ">f", "d": ">d", "T": ">Q", "D": ">Bi", "V": ">",
    }.items()
}  # fmt: skip
_SIZED = frozenset((b"S", b"x", b"A", b"F"))  # a length of four bytes, then as many bytes


def decode_table(data: bytes, offset: int, bounds: Bounds = PEER) -> tuple[Table, int]:
    """Decode the table whose 4-byte length is at ``offset``; return the table and the offset after it.

    Of entries with the same name the first counts, as in RabbitMQ. Strings that are not UTF-8 keep their
    bytes as surrogate escapes, and survive ``encode_table``. Raises SyntaxError_ for malformed ``data``, and
    for a table beyond ``bounds``.
    """
    try:
        end = _end(data, offset, len(data))
        return _table(data, offset + 4, end, bounds), end
    except (error, IndexError) as problem:
        raise SyntaxError_("truncated field table") from problem


def encode_table(table: Mapping[str, Value], bounds: Bounds = PEER) -> bytes:
    """Encode a table with its 4-byte length.

    An ``int`` is sent in 32 bits if it fits, else in 64 (``Long``: always 64). Raises ValueError for a table
    beyond ``bounds``, a name over 255 bytes, a number out of range and a float that is not finite, and
    TypeError for a value of any other type.
    """
    if bounds.depth < 1:
        raise ValueError(TOO_DEEP)
    if len(table) > bounds.entries:
        raise ValueError(TOO_MANY.format(bounds.entries, "table"))
    inner = _inner(bounds)
    return _block([_name(name) + _encode_value(value, inner) for name, value in table.items()])


def splice_table(raw: bytes, replace: Mapping[str, Value | Remove]) -> bytes:
    """Replace, add or (``REMOVE``) drop entries of an encoded table; ``raw`` and the result include the
    length.

    A replaced entry keeps its place, an added one comes last. All others are copied byte for byte, so that
    their wire types survive. Raises SyntaxError_ for a malformed ``raw``, and the errors of ``encode_table``.
    """
    fresh = {name.encode("utf-8", "surrogateescape"): value for name, value in replace.items()}
    pieces: list[bytes] = []
    written: set[bytes] = set()
    try:
        end = _end(raw, 0, len(raw))
        kept = 4  # the entries before this offset are in ``pieces``
        for name, at, _, after in find_entries(raw, 4, end, frozenset(fresh)):
            pieces.append(raw[kept:at])
            kept = after
            if name not in written:
                written.add(name)
                pieces.append(_entry(name, fresh[name]))
        pieces.append(raw[kept:end])
    except (error, IndexError) as problem:
        raise SyntaxError_("truncated field table") from problem
    pieces += [_entry(name, value) for name, value in fresh.items() if name not in written]
    return _block(pieces)


def lengths(count: int) -> bytes:
    """Return a pattern for a length octet less than ``count``, followed by that number of octets."""
    return b"(?:%b)" % b"|".join(re.escape(b"%c" % size) + b".{%d}" % size for size in range(count))


_SKIPPED = rb"[SxAF]\0\0\0%b|V|[Iif].{4}|[tbB].|[lLTd].{8}|[su]..|D.{5}" % lengths(128)
FEW = 2000  # bytes of a table whose entries are passed one by one


@lru_cache(64)
def _other_entries(names: frozenset[bytes]) -> Callable[..., re.Match[bytes]]:
    """Return a function that matches consecutive entries of a well-formed table without these names.

    It passes 60,000 entries in 2 ms. It stops at names of 64 or more octets and values of 128 or more.
    """
    wanted = b"|".join(re.escape(b"%c%b" % (len(name), name)) for name in sorted(names))
    entry = b"(?!%b)%b(?:%b)" % (wanted, lengths(64), _SKIPPED)
    pattern = re.compile(b"(?:%b){0,%d}" % (entry, KEPT.entries), re.DOTALL)
    return pattern.match  # type: ignore[return-value]  # it matches the empty string at least


def find_entries(
    data: bytes, at: int, end: int, names: Collection[bytes]
) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield name, offset, offset of the value and end of each entry with one of these names.

    The entries from ``at`` to ``end`` must be well-formed: faults in them may be overlooked.
    """
    skip = _other_entries(frozenset(names)) if end - at > FEW else None
    while at < end:
        if skip is not None and (at := skip(data, at, end).end()) >= end:
            return
        value = at + 1 + data[at]
        after = after_value(data, value, end)
        if (name := data[at + 1 : value]) in names:
            yield name, at, value, after
        at = after


def _end(data: bytes, offset: int, limit: int) -> int:
    """Return the offset after the block whose 4-byte length stands at ``offset``, at most ``limit``."""
    length: int = _LENGTH.unpack_from(data, offset)[0]
    end = offset + 4 + length
    if end > limit:
        raise SyntaxError_("field table value is longer than what holds it")
    return end


def _inner(bounds: Bounds) -> Bounds:
    """Return the bounds of a table or array one level further down."""
    return Bounds(bounds.depth - 1, bounds.entries)


def _table(data: bytes, offset: int, end: int, bounds: Bounds) -> Table:
    table: Table = {}
    while offset < end:
        start = offset + 1
        offset = start + data[offset]
        name = data[start:offset].decode("utf-8", "surrogateescape")
        value, offset = decode_value(data, offset, end, bounds)
        table.setdefault(name, value)
        if len(table) > bounds.entries:
            raise SyntaxError_(TOO_MANY.format(bounds.entries, "table"))
    return table


def _array(data: bytes, offset: int, end: int, bounds: Bounds) -> list[Value]:
    array: list[Value] = []
    while offset < end:
        value, offset = decode_value(data, offset, end, bounds)
        array.append(value)
        if len(array) > bounds.entries:
            raise SyntaxError_(TOO_MANY.format(bounds.entries, "array"))
    return array


def decode_value(data: bytes, offset: int, end: int, bounds: Bounds) -> tuple[Value, int]:
    """Decode the value whose type character stands at ``offset``; it must not reach past ``end``.

    ``bounds`` are those of the table or array around it.
    """
    kind = data[offset : offset + 1]
    after = after_value(data, offset, end)
    offset += 1
    value: Value
    match kind:
        case b"S":
            value = data[offset + 4 : after].decode("utf-8", "surrogateescape")
        case b"x":
            value = data[offset + 4 : after]
        case b"A" | b"F":
            if bounds.depth == 1:
                raise SyntaxError_(TOO_DEEP)
            read = _table if kind == b"F" else _array
            value = read(data, offset + 4, after, _inner(bounds))
        case b"V":
            value = None
        case b"D":
            scale, unscaled = _DECIMAL.unpack_from(data, offset)
            value = Decimal(unscaled).scaleb(-scale)
        case b"T":
            value = Timestamp(_UINT64.unpack_from(data, offset)[0])
        case _:
            value = _FIXED[kind].unpack_from(data, offset)[0]
            if isinstance(value, float) and not isfinite(value):
                raise SyntaxError_("field table holds a float that is not finite")
    return value, after


class Excerpt(NamedTuple):
    """A part of an array of tables: the items in the first ``size`` bytes, and of each later table the
    entries with these ``names`` whose values have at most ``value_size`` bytes.
    """

    size: int
    names: frozenset[bytes]
    value_size: int = 255


def decode_items(data: bytes, offset: int, count: int, bounds: Bounds, excerpt: Excerpt) -> list[Value]:
    """Decode the first ``count`` items of the well-formed value whose type character stands at ``offset``.

    Returns no items of a value that is not an array. ``bounds`` are those of the table around it.
    """
    items: list[Value] = []
    if data[offset : offset + 1] == b"A":
        end = after_value(data, offset, len(data))
        offset += 5
        whole = offset + excerpt.size
        while offset < end and len(items) < count:
            after = after_value(data, offset, end)
            if after <= whole:
                items.append(decode_value(data, offset, end, _inner(bounds))[0])
            elif data[offset : offset + 1] == b"F":
                items.append(_decode_excerpt(data, offset + 5, after, excerpt))
            offset = after
    return items


def _decode_excerpt(data: bytes, offset: int, end: int, excerpt: Excerpt) -> Table:
    found: Table = {}
    for raw_name, _, value, after in find_entries(data, offset, end, excerpt.names):
        name = raw_name.decode("utf-8", "surrogateescape")
        if name not in found and after - value <= excerpt.value_size:
            found[name] = decode_value(data, value, after, KEPT)[0]
    return found


def after_value(data: bytes, offset: int, end: int) -> int:
    """Return the offset after the value whose type character stands at ``offset``, at most ``end``."""
    kind = data[offset : offset + 1]
    if kind in _SIZED:
        return _end(data, offset + 1, end)
    layout = _FIXED.get(kind)
    if layout is None:
        raise SyntaxError_(f"unknown field type {kind!r}")
    after = offset + 1 + layout.size
    if after > end:
        raise SyntaxError_("field table value is longer than what holds it")
    return after


def _name(name: str) -> bytes:
    return _short(name.encode("utf-8", "surrogateescape"))


def _short(name: bytes) -> bytes:
    if len(name) > SHORTSTR_MAX:
        raise ValueError(f"field name of {len(name)} bytes, at most {SHORTSTR_MAX} are possible")
    return b"%c%b" % (len(name), name)


def _entry(name: bytes, value: Value | Remove) -> bytes:
    return b"" if value is REMOVE else _short(name) + _encode_value(value, _inner(KEPT))


def _block(pieces: list[bytes]) -> bytes:
    content = b"".join(pieces)
    return _LENGTH.pack(len(content)) + content


def _encode_value(value: Value, bounds: Bounds) -> bytes:
    """Encode a value with its type character; ``bounds`` are those of the value if it is a table or array."""
    if isinstance(value, dict):
        return b"F" + encode_table(value, bounds)
    if isinstance(value, list):
        return b"A" + _encode_array(value, bounds)
    encode = _ENCODERS.get(type(value))
    if encode is None:
        raise TypeError(f"no field type holds a {type(value).__name__}")
    return encode(value)


def _encode_array(values: list[Value], bounds: Bounds) -> bytes:
    if bounds.depth < 1:
        raise ValueError(TOO_DEEP)
    if len(values) > bounds.entries:
        raise ValueError(TOO_MANY.format(bounds.entries, "array"))
    inner = _inner(bounds)
    return _block([_encode_value(value, inner) for value in values])


def _encode_int(value: int) -> bytes:
    if -0x8000_0000 <= value <= 0x7FFF_FFFF:
        return b"I" + _INT32.pack(value)
    return _encode_long(value)


def _encode_long(value: int) -> bytes:
    try:
        return b"l" + _INT64.pack(value)
    except error as problem:
        raise ValueError(TOO_LARGE.format(value)) from problem


def _encode_timestamp(value: Timestamp) -> bytes:
    try:
        return b"T" + _UINT64.pack(value)
    except error as problem:
        raise ValueError(f"{value} is no timestamp") from problem


def _encode_float(value: float) -> bytes:
    if not isfinite(value):
        raise ValueError(f"{value} is not finite")
    return b"d" + _DOUBLE.pack(value)


def _encode_decimal(value: Decimal) -> bytes:
    """Encode a decimal: the number of decimal places (one byte), then a signed 32-bit number."""
    exponent = value.as_tuple().exponent
    try:
        scale = max(0, -int(exponent))
        return b"D" + _DECIMAL.pack(scale, int(value.scaleb(scale)))
    except (ValueError, error) as problem:
        raise ValueError(f"{value} does not fit in a decimal") from problem


def _encode_text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogateescape")
    return b"S%b%b" % (_LENGTH.pack(len(content)), content)


_ENCODERS: dict[type, Callable[..., bytes]] = {
    bool: lambda value: b"t\x01" if value else b"t\x00",
    int: _encode_int,
    Long: _encode_long,
    float: _encode_float,
    str: _encode_text,
    bytes: lambda value: b"x%b%b" % (_LENGTH.pack(len(value)), value),
    Decimal: _encode_decimal,
    Timestamp: _encode_timestamp,
    type(None): lambda _: b"V",
    EncodedTable: lambda value: b"F" + value,
}
