"""Generic encoding and decoding of methods (AMQP 0-9-1 4.2.4).

Responsible for compiling the wire layout of each class in ``methods``, once, to a list of readers and a list
of writers. Methods that are written once for each message are not encoded here: ``encode`` packs them by
hand.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from struct import Struct, error
from typing import Any, ClassVar, TypeAlias, get_args, get_origin

from leveret.protocol.amqp.constants import FRAME_END, FRAME_METHOD, SHORTSTR_MAX
from leveret.protocol.amqp.methods import METHODS, Method
from leveret.protocol.amqp.table import decode_table, encode_table
from leveret.protocol.errors import FrameError, NotImplemented_

# A reader appends the values at the offset of a method's payload and returns the offset after them.
Reader: TypeAlias = Callable[[bytes, int, list[object]], int]
# A writer encodes the values of a method's fields.
Writer: TypeAlias = Callable[[Method], bytes]

NUMBERS = {"octet": "B", "short": "H", "long": "I", "longlong": "Q"}

_IDS = Struct(">HH")
_LENGTH = Struct(">I")
_FRAME = Struct(">BHI")
_END = bytes((FRAME_END,))


def decode_method(data: bytes, offset: int, end: int) -> Method:
    """Decode the method whose class id stands at ``offset`` and whose arguments end at ``end``.

    Raises FrameError when the arguments are truncated, too long or hold a short string that is not UTF-8. In
    methods that carry content, short strings are not checked, as in RabbitMQ: other bytes become surrogate
    escapes. Raises NotImplemented_ for an unknown method and SyntaxError_ for a malformed table; in both
    cases RabbitMQ closes the connection without a frame.
    """
    payload = data[offset:end]
    if len(payload) < _IDS.size:
        raise FrameError(f"type {FRAME_METHOD}, all octets = {_octets(payload)}: unknown_frame")
    ids = _IDS.unpack_from(payload)
    if ids not in _LAYOUTS:
        raise NotImplemented_("unknown method {} of class {}".format(*reversed(ids)))
    readers, _ = _LAYOUTS[ids]
    values: list[object] = []
    offset = 4
    try:
        for read in readers:
            offset = read(payload, offset, values)
    except UnicodeDecodeError as problem:
        raise FrameError("Malformed UTF-8 in shortstr") from problem
    except (error, IndexError) as problem:
        raise _undecodable(payload, METHODS[ids]) from problem
    if offset != len(payload):
        raise _undecodable(payload, METHODS[ids])
    return METHODS[ids](*values)


def encode_method(method: Method) -> bytes:
    """Return class id, method id and arguments. Raises ValueError for a value beyond its wire type."""
    ids = (method.CLASS_ID, method.METHOD_ID)
    try:
        return _IDS.pack(*ids) + b"".join([write(method) for write in _LAYOUTS[ids][1]])
    except error as problem:
        raise ValueError(f"{method} does not fit its wire types") from problem


def method_frame(channel: int, method: Method) -> bytes:
    """Return a method as a whole frame."""
    payload = encode_method(method)
    return b"%b%b%b" % (_FRAME.pack(FRAME_METHOD, channel, len(payload)), payload, _END)


def _undecodable(payload: bytes, method: type[Method]) -> FrameError:
    return FrameError(f"cannot decode {_octets(payload[4:])}", cause=method)


def _octets(data: bytes) -> str:
    """Return bytes in Erlang's notation, as in RabbitMQ's texts, cut to the size of a reply text."""
    return f"<<{','.join(map(str, data[:SHORTSTR_MAX]))}>>"


def _layout(cls: type[Method]) -> tuple[list[Reader], list[Writer]]:
    """Compile the fields of a method; adjacent fields that are all numbers or all bits become one codec."""
    readers: list[Reader] = []
    writers: list[Writer] = []
    for (kind, reserved), run in groupby(cls.__annotations__.items(), lambda each: _kind(each[1])):
        names, types = zip(*((name, _wire_type(hint)) for name, hint in run), strict=True)
        for read, write in _codecs(kind, names, types, checked=not cls.CONTENT):
            readers.append(_ignoring(read) if reserved else read)
            writers.append(write)
    return readers, writers


def _wire_type(hint: Any) -> str:
    """Return the wire type of an annotation such as ``ShortStr`` or ``ClassVar[Short]``."""
    (name,) = (get_args(hint)[0] if get_origin(hint) is ClassVar else hint).__metadata__
    return str(name)


def _kind(hint: Any) -> tuple[str, bool]:
    """Return the key by which adjacent fields share a codec, and True if the field is reserved."""
    wire = _wire_type(hint)
    return "number" if wire in NUMBERS else wire, get_origin(hint) is ClassVar


def _codecs(
    kind: str, names: tuple[str, ...], types: tuple[str, ...], checked: bool
) -> Iterable[tuple[Reader, Writer]]:
    match kind:
        case "number":
            yield _numbers(names, types)
        case "bit":
            yield _bits(names)
        case "shortstr":
            yield from (_shortstr(name, checked) for name in names)
        case "longstr":
            yield from (_longstr(name) for name in names)
        case "table":
            yield from (_table(name) for name in names)


def _ignoring(read: Reader) -> Reader:
    """Return a reader that skips a reserved field."""
    return lambda payload, offset, values: read(payload, offset, [])


def _numbers(names: tuple[str, ...], types: tuple[str, ...]) -> tuple[Reader, Writer]:
    layout = Struct(">" + "".join(NUMBERS[wire] for wire in types))

    def read(payload: bytes, offset: int, values: list[object]) -> int:
        values += layout.unpack_from(payload, offset)
        return offset + layout.size

    def write(method: Method) -> bytes:
        return layout.pack(*(getattr(method, name) for name in names))

    return read, write


def _bits(names: tuple[str, ...]) -> tuple[Reader, Writer]:
    """Make the codec of up to eight bits in an octet, the first in the lowest bit; others are ignored."""

    def read(payload: bytes, offset: int, values: list[object]) -> int:
        octet = payload[offset]
        values += [bool(octet >> place & 1) for place in range(len(names))]
        return offset + 1

    def write(method: Method) -> bytes:
        return bytes((sum(bool(getattr(method, name)) << place for place, name in enumerate(names)),))

    return read, write


def _shortstr(name: str, checked: bool) -> tuple[Reader, Writer]:
    errors = "strict" if checked else "surrogateescape"
    get = attrgetter(name)

    def read(payload: bytes, offset: int, values: list[object]) -> int:
        start = offset + 1
        offset = start + payload[offset]
        values.append(payload[start:offset].decode("utf-8", errors))
        return offset

    def write(method: Method) -> bytes:
        content = get(method).encode("utf-8", "surrogateescape")
        if len(content) > SHORTSTR_MAX:
            raise ValueError(f"{name} of {len(content)} bytes, at most {SHORTSTR_MAX} are possible")
        return b"%c%b" % (len(content), content)

    return read, write


def _longstr(name: str) -> tuple[Reader, Writer]:
    get = attrgetter(name)

    def read(payload: bytes, offset: int, values: list[object]) -> int:
        start = offset + 4
        offset = start + int(_LENGTH.unpack_from(payload, offset)[0])
        values.append(payload[start:offset])
        return offset

    def write(method: Method) -> bytes:
        content = get(method)
        return b"%b%b" % (_LENGTH.pack(len(content)), content)

    return read, write


def _table(name: str) -> tuple[Reader, Writer]:
    get = attrgetter(name)

    def read(payload: bytes, offset: int, values: list[object]) -> int:
        end = offset + 4 + int(_LENGTH.unpack_from(payload, offset)[0])
        if end <= len(payload):  # else the arguments are too short, which is no fault of the table
            values.append(decode_table(payload, offset)[0])
        return end

    def write(method: Method) -> bytes:
        return encode_table(get(method))

    return read, write


_LAYOUTS = {ids: _layout(cls) for ids, cls in METHODS.items()}
