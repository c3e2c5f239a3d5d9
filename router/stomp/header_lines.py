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
from leveret.protocol.amqp.table import KEPT, decode_value
from leveret.protocol.stomp.frames import encode_headers
from leveret.router.stomp.destinations import destination_of, reply_destination
from leveret.router.stomp.properties import NUMBERS, OWN, TEXTS

KNOWN, KNOWN_BYTES = 1024, 256  # number of cached lines, and the largest properties that they are made from

_LENGTH = Struct(">I").unpack_from
_FLAGS = Struct(">H").unpack_from
_TEXT, _BYTES, _BOOLEAN = b"Sxt"  # types of headers that can be text
_NUMBERS = b"bBsuIilLTfd"
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

    Messages of an application often have the same ones: the latest KNOWN that are short are cached.
    """
    raw = message.raw_properties
    key = message.route, raw, version
    lines = _known.get(key)
    if lines is None:
        lines = _destination_line(message.route, version) + _property_lines(raw, version)
        if len(raw) <= KNOWN_BYTES:
            if len(_known) >= KNOWN:
                _known.clear()
            _known[key] = lines
    return lines


_known: dict[tuple[bytes, bytes, str], bytes] = {}


@lru_cache(KNOWN)
def _destination_line(route: bytes, version: str) -> bytes:
    return encode_headers({"destination": destination_of(*unpack_route(route))}, version)


@lru_cache(256)
def _fields(flags: int) -> tuple[int, ...]:
    """Return the flags of the properties in a list with these flags, in their order."""
    return tuple(1 << place for place in range(15, 1, -1) if flags & 1 << place)


def _property_lines(raw: bytes, version: str) -> bytes:
    """Return the lines of raw properties: texts, numbers, the message's own headers.

    A property wins over a header of the same name.
    """
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
    own = _own_lines(raw, *table, flags, persistent, version)
    return b"".join((*texts, *numbers, *own))


def _own_lines(  # noqa: PLR0917 - called once a message
    raw: bytes, at: int, end: int, flags: int, persistent: bool, version: str
) -> list[bytes]:
    """Return the lines of the message's own headers that can be text; if a name is repeated, its
    first line.
    """
    lines: list[bytes] = []
    seen: set[bytes] = set()
    value: bytes | None
    while at < end:
        name_end = at + 1 + raw[at]
        name = raw[at + 1 : name_end]
        kind = raw[name_end]
        if kind == _TEXT:
            at = name_end + 5 + _LENGTH(raw, name_end + 1)[0]
            value = raw[name_end + 5 : at]
        else:
            at = value_end(raw, name_end)
            value = _as_text(raw, name_end, at)
        if name in seen:
            continue
        seen.add(name)
        begin, flag = _line_begin(name, version)
        if not begin or flag & flags or (persistent and name == b"persistent") or value is None:
            continue
        lines.append(_line(name, value, version) if _ESCAPED(value) else b"%b%b\n" % (begin, value))
    return lines


def _as_text(raw: bytes, at: int, end: int) -> bytes | None:
    """Return the value whose type character stands at ``at`` as text, or None if it cannot be text."""
    kind = raw[at]
    if kind == _BYTES:
        return raw[at + 5 : end]
    if kind == _BOOLEAN:
        return b"true" if raw[at + 1] else b"false"
    return str(decode_value(raw, at, end, KEPT)[0]).encode() if kind in _NUMBERS else None


@lru_cache(KNOWN)
def _line_begin(name: bytes, version: str) -> tuple[bytes, int]:
    """Return the beginning of the line of a header of the message, up to the colon, and the flag of the
    property that wins over it. The beginning is empty for a header that only the broker may send.
    """
    begin = b"" if name in _OWN else encode_headers({_decode(name): ""}, version)[:-1]
    return begin, _FLAG_OF.get(name, 0)


def _line(name: bytes, value: bytes, version: str) -> bytes:
    """Return the line of a header with a value that may need escapes."""
    return encode_headers({_decode(name): _decode(value)}, version)


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
