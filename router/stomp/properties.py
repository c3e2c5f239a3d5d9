"""The mapping between headers of SEND and MESSAGE frames and message properties.

A frame's header that maps to no property is a header of the message.

Source: RabbitMQ, "STOMP Plugin", "Message Properties".
"""

from collections.abc import Mapping

from leveret.protocol.amqp.message import Message, unpack_route
from leveret.protocol.amqp.properties import PERSISTENT, Properties
from leveret.protocol.amqp.table import Table
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import encode_headers
from leveret.protocol.stomp.values import parse_boolean, parse_number
from leveret.router.stomp.destinations import destination_of, reply_destination

TEXTS = {
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "expiration": "expiration",
    "amqp-message-id": "message_id",
    "type": "type",
    "user-id": "user_id",
    "app-id": "app_id",
}
NUMBERS = {"priority": ("priority", 255), "timestamp": ("timestamp", 2**64 - 1)}
FLAGS = frozenset(("persistent", "destination"))  # handled on their own, and no headers of the message
OWN = frozenset(("destination", "message-id", "subscription", "redelivered", "ack", "content-length"))
SHORT = 255  # bytes of a text property and of a header's name
KNOWN, KNOWN_BYTES = (
    1024,
    256,
)  # number of cached lines; bytes of the largest properties whose lines are cached


def properties_of(headers: Mapping[str, str]) -> Properties:
    """Return the properties for a SEND frame's headers. Raises StompError for values out of range.

    There is always a table of headers, as from RabbitMQ.
    """
    own: Table = {}
    properties = Properties(headers=own)
    for header, text in headers.items():
        if (field := TEXTS.get(header)) is not None:
            _check_short(header, text)
            setattr(properties, field, text)
        elif header in NUMBERS:
            field, highest = NUMBERS[header]
            setattr(properties, field, parse_number(header, text, 0, highest))
        elif header not in FLAGS:
            _check_short("header name", header)
            own[header] = text
    if "persistent" in headers and parse_boolean("persistent", headers["persistent"]):
        properties.delivery_mode = PERSISTENT
    return properties


def _check_short(what: str, text: str) -> None:
    if len(text) * 4 > SHORT and len(text.encode("utf-8", "surrogateescape")) > SHORT:
        raise StompError("Invalid header", f"'{what}' may have {SHORT} bytes\n")


def header_lines(message: Message, version: str) -> bytes:
    """Return the lines of a MESSAGE frame that depend on the message alone: destination and properties.

    Most messages of an application have the same lines, so those of short properties are cached.
    """
    raw = message.raw_properties
    key = message.route, raw, version
    lines = _known.get(key)
    if lines is None:
        destination = destination_of(*unpack_route(message.route))
        lines = encode_headers({"destination": destination, **headers_of(message.properties)}, version)
        if len(raw) <= KNOWN_BYTES:
            if len(_known) >= KNOWN:
                _known.clear()
            _known[key] = lines
    return lines


# Not lru_cache: the lines are made from decoded properties, which cannot be part of a key.
_known: dict[tuple[bytes, bytes, str], bytes] = {}


def headers_of(properties: Properties) -> dict[str, str]:
    """Return the headers for these properties. A mapped name wins over a header of the message."""
    found: dict[str, str] = {}
    for header, field in TEXTS.items():
        if (text := getattr(properties, field)) is not None:
            found[header] = reply_destination(text) if field == "reply_to" else text
    for header, (field, _) in NUMBERS.items():
        if (number := getattr(properties, field)) is not None:
            found[header] = str(number)
    if properties.delivery_mode == PERSISTENT:
        found["persistent"] = "true"
    for name, text in _texts_of(properties.headers or {}).items():
        if name not in OWN:
            found.setdefault(name, text)
    return found


def _texts_of(headers: Table) -> dict[str, str]:
    """Return the message's headers that can be text: strings, numbers, booleans, bytes."""
    texts: dict[str, str] = {}
    for name, value in headers.items():
        if isinstance(value, bool):
            texts[name] = "true" if value else "false"
        elif isinstance(value, str):
            texts[name] = value
        elif isinstance(value, int | float):
            texts[name] = str(value)
        elif isinstance(value, bytes):
            texts[name] = value.decode("utf-8", "surrogateescape")
    return texts
