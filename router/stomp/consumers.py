"""Conversion of headers of SUBSCRIBE to consumer arguments: priority, selector, and position in a stream.

The queue interprets the arguments.

Source: RabbitMQ, "STOMP Plugin", "Stream Support".
"""

from collections.abc import Mapping
from typing import Any

from leveret.protocol.amqp.table import Long, Timestamp
from leveret.protocol.stomp.values import parse_boolean, parse_number
from leveret.router.stomp.destinations import StompDestination

OFFSETS = "x-stream-offset", "x-stream-offset-if-new"
CONSUMER_NAME, SINGLE = "x-stream-consumer-name", "x-single-active-consumer"
UNFILTERED = "x-stream-match-unfiltered"


def consumer_arguments(destination: StompDestination, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a subscription's consumer. Raises StompError for a malformed number."""
    arguments: dict[str, Any] = {}
    if "x-priority" in headers:
        arguments["x-priority"] = parse_number("x-priority", headers["x-priority"])
    for name in OFFSETS:
        if name in headers:
            arguments[name] = _offset(name, headers[name])
    if CONSUMER_NAME in headers:
        arguments[CONSUMER_NAME] = headers[CONSUMER_NAME]
        if SINGLE in headers:  # without a name it is a queue argument
            arguments[SINGLE] = parse_boolean(SINGLE, headers[SINGLE])
    if "x-stream-filter" in headers:
        arguments["x-stream-filter"] = headers["x-stream-filter"].split(",")
    if UNFILTERED in headers:
        arguments[UNFILTERED] = parse_boolean(UNFILTERED, headers[UNFILTERED])
    if "x-selector" in headers and not destination.own_queue:  # else it is the binding's
        arguments["x-selector"] = headers["x-selector"]
    return arguments


def _offset(name: str, text: str) -> Any:
    """Parse ``offset=`` or ``timestamp=`` (s) with a number. Other text is returned as it is, as for AMQP."""
    kind, found, value = text.partition("=")
    if found and kind == "offset":
        return Long(parse_number(name, value))
    if found and kind == "timestamp":
        return Timestamp(parse_number(name, value, 0))
    return text
