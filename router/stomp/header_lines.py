"""The lines of a MESSAGE frame that depend on the message alone: its destination and its properties.

The lines are made from the raw bytes of the properties, most of which are text that a frame can hold as it
is.

Source: RabbitMQ, "STOMP Plugin", "Message Properties".
"""

import re
from functools import lru_cache
from struct import Struct

from leveret.protocol.amqp import properties as props
from leveret.protocol.amqp.header_picker import value_end
from leveret.protocol.amqp.message import Message, unpack_route
from leveret.protocol.amqp.properties import PERSISTENT
from leveret.protocol.stomp.frames import encode_headers
from leveret.router.stomp.destinations import destination_of, reply_destination
from leveret.router.stomp.properties import NUMBERS, OWN, TEXTS
from leveret.router.turns.backlog import Slicing

KNOWN, KNOWN_BYTES = 1024, 256  # number of cached lines, and the largest properties that they are made from
LONG = 2048  # bytes of properties; more may take longer than half a millisecond
SLICE = 400  # headers

_LENGTH = Struct(">I").unpack_from
_FLAGS = Struct(">H").unpack_from
# Types of headers that can be text: text and bytes, integers, floats, booleans
_VERBATIM, _BOOLEAN = b"Sx", ord("t")
_INTEGERS = {
    ord(kind): Struct(">" + layout).unpack_from for kind, layout in zip("bBsuIilLT", "bBhHiIqqQ", strict=True)
}
_FLOATS = {ord(kind): Struct(">" + kind).unpack_from for kind in "fd"}
_OWN = frozenset(name.encode() for name in OWN)
# The flags of the properties that have headers of their own in a frame.
_FLAG_OF = {
    **{header.encode(): flag for header, flag in TEXTS.items()},
    **{header.encode(): flag for header, (flag, _) in NUMBERS.items()},
}
_NAME_OF = {flag: header for header, flag in _FLAG_OF.items()}
_SIZES = {props.DELIVERY_MODE: 1, props.PRIORITY: 1, props.TIMESTAMP: 8}
_ESCAPED = re.compile(rb"[\\\n\r:\0]").search  # bytes that are escaped in any version


def header_lines(message: Message, version: str) -> bytes:
    """Return the destination and the properties of a message as lines of a frame.

    Messages of an application often have the same ones: the latest KNOWN that are short are cached. For
    messages with more than LONG bytes of properties use ``lines_in_slices``.
    """
    raw = message.raw_properties
    key = message.route, raw, version
    lines = _known.get(key)
    if lines is None:
        properties, own = _property_lines(raw, version)
        lines = b"".join((_destination_line(message.route, version), *properties, *own.take(len(raw))))
        if len(raw) <= KNOWN_BYTES:
            if len(_known) >= KNOWN:
                _known.clear()
            _known[key] = lines
    return lines


def lines_in_slices(message: Message, version: str) -> Slicing[bytes]:
    """Return the lines of ``header_lines`` in slices: a message may have tens of thousands of headers."""
    properties, own = _property_lines(message.raw_properties, version)
    pieces = [_destination_line(message.route, version), *properties]
    while not own.ended:
        pieces += own.take(SLICE)
        yield
    return b"".join(pieces)


_known: dict[tuple[bytes, bytes, str], bytes] = {}


@lru_cache(KNOWN)
def _destination_line(route: bytes, version: str) -> bytes:
    return encode_headers({"destination": destination_of(*unpack_route(route))}, version)


@lru_cache(256)
def _fields(flags: int) -> tuple[int, ...]:
    """Return the flags of the properties in a list with these flags, in their order."""
    return tuple(1 << place for place in range(15, 1, -1) if flags & 1 << place)


def _property_lines(raw: bytes, version: str) -> "tuple[list[bytes], OwnHeaders]":
    """Return the lines of raw properties, texts before numbers, and a reader of the message's own headers."""
    flags: int = _FLAGS(raw)[0]
    texts: list[bytes] = []
    numbers: list[bytes] = []
    table = 0, 0
    persistent = False
    at = 2
    for flag in _fields(flags):
        if flag == props.HEADERS:
            end = at + 4 + _LENGTH(raw, at)[0]
            table = at + 4, end
        elif (size := _SIZES.get(flag)) is not None:
            end = at + size
            if flag == props.DELIVERY_MODE:
                persistent = raw[at] == PERSISTENT
            else:
                numbers.append(b"%b:%d\n" % (_NAME_OF[flag], int.from_bytes(raw[at:end])))
        else:
            end = at + 1 + raw[at]
            value = raw[at + 1 : end]
            if flag == props.REPLY_TO:
                value = _encode(reply_destination(_decode(value)))
            if flag in _NAME_OF:
                name = _NAME_OF[flag]
                escaped = _ESCAPED(value) is not None
                texts.append(_line(name, value, version) if escaped else b"%b:%b\n" % (name, value))
        at = end
    if persistent:
        numbers.append(b"persistent:true\n")
    return texts + numbers, OwnHeaders(raw, *table, flags, persistent=persistent, version=version)


class OwnHeaders:
    """The message's own headers that can be text, read piece by piece. A property wins over a header of the
    same name, and of a repeated name the first header counts.

    ``ended`` is True after the last header.
    """

    __slots__ = ("_at", "_end", "_flags", "_persistent", "_raw", "_seen", "_version", "ended")

    def __init__(self, raw: bytes, at: int, end: int, flags: int, *, persistent: bool, version: str) -> None:
        """Read the table between two offsets of raw properties with these flags."""
        self._raw = raw
        self._at = at
        self._end = end
        self._flags = flags
        self._persistent = persistent
        self._version = version
        self._seen: set[bytes] = set()
        self.ended = at >= end

    def take(self, count: int) -> list[bytes]:
        """Return the lines of the next headers, at most ``count``."""
        raw, at, end, flags, version = self._raw, self._at, self._end, self._flags, self._version
        seen = self._seen
        lines: list[bytes] = []
        while at < end and count:
            count -= 1
            name_end = at + 1 + raw[at]
            name = raw[at + 1 : name_end]
            at = value_end(raw, name_end)
            if name in seen:
                continue
            seen.add(name)
            begin, flag = _line_begin(name, version)
            if not begin or flag & flags or (self._persistent and name == b"persistent"):
                continue
            kind = raw[name_end]
            if kind in _VERBATIM:
                value = raw[name_end + 5 : at]
                lines.append(_line(name, value, version) if _ESCAPED(value) else b"%b%b\n" % (begin, value))
            elif (layout := _INTEGERS.get(kind)) is not None:
                lines.append(b"%b%d\n" % (begin, layout(raw, name_end + 1)[0]))
            elif (layout := _FLOATS.get(kind)) is not None:
                lines.append(b"%b%b\n" % (begin, repr(layout(raw, name_end + 1)[0]).encode()))
            elif kind == _BOOLEAN:
                lines.append(begin + (b"true\n" if raw[name_end + 1] else b"false\n"))
        self._at = at
        self.ended = at >= end
        return lines


@lru_cache(KNOWN)
def _line_begin(name: bytes, version: str) -> tuple[bytes, int]:
    """Return the beginning of the line of a header of the message, up to the colon, and the flag of the
    property that wins over it. The beginning is empty for a header that only the broker may send.
    """
    if name in _OWN:
        return b"", 0
    begin = encode_headers({_decode(name): ""}, version)[:-1] if _ESCAPED(name) else name + b":"
    return begin, _FLAG_OF.get(name, 0)


def _line(name: bytes, value: bytes, version: str) -> bytes:
    """Return the line of a header with a value that may need escapes."""
    return encode_headers({_decode(name): _decode(value)}, version)


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
