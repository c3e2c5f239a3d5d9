"""The mapping of a SEND frame's headers to message properties, as raw bytes.

A frame's header that maps to no property is a header of the message. Not for the way back (see
``header_lines``).

Source: RabbitMQ, "STOMP Plugin", "Message Properties".
"""

from collections.abc import Mapping
from functools import lru_cache

from leveret.protocol.amqp import properties as props
from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.values import parse_boolean, parse_number

TEXTS = {
    "content-type": props.CONTENT_TYPE,
    "content-encoding": props.CONTENT_ENCODING,
    "correlation-id": props.CORRELATION_ID,
    "reply-to": props.REPLY_TO,
    "expiration": props.EXPIRATION,
    "amqp-message-id": props.MESSAGE_ID,
    "type": props.TYPE,
    "user-id": props.USER_ID,
    "app-id": props.APP_ID,
}
NUMBERS = {"priority": (props.PRIORITY, 1), "timestamp": (props.TIMESTAMP, 8)}  # flag, and bytes of the value
FLAGS = frozenset(("persistent", "destination"))  # handled on their own, and no headers of the message
KNOWN = 1024  # number of names of headers whose bytes are cached
OWN = frozenset(("destination", "message-id", "subscription", "redelivered", "ack", "content-length"))


def pack_properties(headers: Mapping[str, str]) -> bytes:
    """Return flags and list of the properties for a SEND frame's headers.

    There is always a table of headers, as from RabbitMQ. Raises StompError for values out of range.
    """
    fields: dict[int, bytes] = {}  # by flag
    own: list[bytes] = []
    for header, text in headers.items():
        value = text.encode("utf-8", "surrogateescape")
        if (flag := TEXTS.get(header)) is not None:
            if len(value) > SHORTSTR_MAX:
                raise _too_long(header)
            fields[flag] = b"%c%b" % (len(value), value)
        elif header in NUMBERS:
            flag, size = NUMBERS[header]
            fields[flag] = parse_number(header, text, 0, (1 << 8 * size) - 1).to_bytes(size)
        elif header not in FLAGS:
            own.append(b"%b%b%b" % (_text_begin(header), len(value).to_bytes(4), value))
    if "persistent" in headers and parse_boolean("persistent", headers["persistent"]):
        fields[props.DELIVERY_MODE] = b"%c" % props.PERSISTENT
    table = b"".join(own)
    fields[props.HEADERS] = len(table).to_bytes(4) + table
    return sum(fields).to_bytes(2) + b"".join([fields[flag] for flag in sorted(fields, reverse=True)])


@lru_cache(KNOWN)
def _text_begin(header: str) -> bytes:
    """Return the name and the type of a header with a string."""
    name = header.encode("utf-8", "surrogateescape")
    if len(name) > SHORTSTR_MAX:
        raise _too_long("header name")
    return b"%c%bS" % (len(name), name)


def _too_long(what: str) -> StompError:
    return StompError("Invalid header", f"'{what}' may have {SHORTSTR_MAX} bytes\n")
