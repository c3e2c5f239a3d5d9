"""A message that a client received, for people or as a line of JSON."""

from typing import TYPE_CHECKING, Any

from leveret.protocol.amqp.plain import body_of, plain_body, plain_properties
from leveret.protocol.json_text import dump_json
from leveret.router.cli.terminal import printable

if TYPE_CHECKING:
    from leveret.protocol.amqp.command import Delivery

FORMATS = ("pretty", "json", "body")


def describe(delivery: "Delivery") -> dict[str, Any]:
    """The message as JSON can hold it, in the form of ``leveret store dump``."""
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
    """One line of JSON."""
    return dump_json(described).encode() + b"\n"


def shown(delivery: "Delivery", form: str) -> bytes:
    """The message in one of ``FORMATS``."""
    if form == "body":
        return delivery.message.body + b"\n"
    return render(describe(delivery), form)


def render(described: dict[str, Any], form: str) -> bytes:
    """Print a described message in one of ``FORMATS``."""
    match form:
        case "body":
            return body_of(described["body"], described["body_encoding"]) + b"\n"
        case "json":
            return as_json(described)
    return pretty(described).encode()


def pretty(described: dict[str, Any]) -> str:
    """A heading, a line for each property and header, and the body."""
    notes = f"  position {described['position']}" if "position" in described else ""
    notes += "  redelivered" if described["redelivered"] else ""
    heading = f"── {shown_name(described['exchange'])} → {shown_name(described['routing_key'])}{notes}"
    return "\n".join([heading, *content_lines(described)]) + "\n"


def content_lines(described: dict[str, Any]) -> list[str]:
    """The lines of properties, headers and body."""
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
    """A name or a key, of which the empty one can be seen."""
    return printable(name) if name else '""'


def _value(value: Any) -> str:
    return printable(value if isinstance(value, str) else dump_json(value))
