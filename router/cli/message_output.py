"""Formatting of received messages, for people or as lines of JSON."""

from typing import TYPE_CHECKING, Any

from leveret.protocol.amqp.plain import body_of, plain_body, plain_properties
from leveret.protocol.json_text import dump_json
from leveret.router.cli.terminal import printable

if TYPE_CHECKING:
    from leveret.protocol.amqp.command import Delivery

FORMATS = ("pretty", "json", "body")


def describe(delivery: "Delivery") -> dict[str, Any]:
    """Return the message as an object for JSON, in the form of ``leveret store dump``."""
    message = delivery.message
    body, encoding = plain_body(message.body)
    return {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "redelivered": getattr(delivery.method, "redelivered", False),
        "properties": plain_properties(message.properties),
        "body_encoding": encoding,
        "body": body,
    }


def as_json(described: dict[str, Any]) -> bytes:
    """Format a message as a line of JSON."""
    return dump_json(described).encode() + b"\n"


def shown(delivery: "Delivery", form: str) -> bytes:
    """Format a delivery in one of ``FORMATS``."""
    if form == "body":
        return delivery.message.body + b"\n"
    return render(describe(delivery), form)


def render(described: dict[str, Any], form: str) -> bytes:
    """Format a described message in one of ``FORMATS``."""
    match form:
        case "body":
            return body_of(described["body"], described["body_encoding"]) + b"\n"
        case "json":
            return as_json(described)
    return pretty(described).encode()


def pretty(described: dict[str, Any]) -> str:
    """Format a message as a heading, a line for each property and header, and the body."""
    notes = f"  position {described['position']}" if "position" in described else ""
    notes += "  redelivered" if described["redelivered"] else ""
    heading = f"── {shown_name(described['exchange'])} → {shown_name(described['routing_key'])}{notes}"
    return "\n".join([heading, *content_lines(described)]) + "\n"


def content_lines(described: dict[str, Any]) -> list[str]:
    """Return the lines of properties, headers and body."""
    properties = dict(described["properties"])
    headers = properties.pop("headers", {})
    lines = [f"   {name}: {_value(value)}" for name, value in properties.items()]
    lines += [f"   header {printable(name)}: {_value(value)}" for name, value in headers.items()]
    if described["body_encoding"] == "utf-8":
        lines += [printable(line) for line in described["body"].split("\n")]
    else:
        lines.append(f"(base64) {described['body']}")
    return lines


def shown_name(name: str) -> str:
    """Return a name or a key in printable form; an empty one is made visible."""
    return printable(name) if name else '""'


def _value(value: Any) -> str:
    return printable(value if isinstance(value, str) else dump_json(value))
