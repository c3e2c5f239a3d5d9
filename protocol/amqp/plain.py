"""Messages as JSON can hold them: for whoever prints them.

Owns how the values of field tables that JSON has no type for are spelled, in both directions.
"""

import base64
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.amqp.table import Timestamp, Value

_TYPES: dict[str, type] = {"headers": dict, "delivery_mode": int, "priority": int, "timestamp": int}


def plain_body(body: bytes) -> tuple[str, str]:
    """A body as text, and how it stands there: "utf-8", or "base64" for what is no UTF-8."""
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def plain_properties(properties: Properties) -> dict[str, Any]:
    """The properties that a message has, by name."""
    values = ((name, getattr(properties, name)) for name in Properties.__dataclass_fields__)
    return {name: plain_value(value) for name, value in values if value is not None}


def plain_value(value: Value) -> Any:
    """A value of a table; types that JSON does not have become an object with one key that names them."""
    match value:
        case dict():
            return {name: plain_value(each) for name, each in value.items()}
        case list():
            return [plain_value(each) for each in value]
        case bytes():
            plain: Any = {"base64": base64.b64encode(value).decode()}
        case Decimal():
            plain = {"decimal": str(value)}
        case Timestamp():
            plain = {"timestamp": int(value)}
        case float() if not isfinite(value):
            plain = {"float": str(value)}
        case _:
            plain = value
    return plain


def body_of(text: str, encoding: str) -> bytes:
    """The body that ``plain_body`` gave. Raises ValueError for what it never gives."""
    if encoding == "utf-8":
        return text.encode()
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    raise ValueError(f"unknown encoding of a body {encoding!r}: utf-8 or base64")


def properties_of(plain: Mapping[str, Any]) -> Properties:
    """The properties that ``plain_properties`` gave. Raises ValueError for what it never gives."""
    unknown = plain.keys() - Properties.__dataclass_fields__.keys()
    if unknown:
        raise ValueError(f"unknown property {min(unknown)!r}")
    for name, value in plain.items():
        wanted = _TYPES.get(name, str)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"property {name}: {value!r} is no {wanted.__name__}")
    values: dict[str, Any] = {name: value_of(value) for name, value in plain.items()}
    return Properties(**values)


def value_of(plain: Any) -> Value:
    """The value of a table that ``plain_value`` gave, or that JSON can hold."""
    match plain:
        case {"base64": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"decimal": str(text), **rest} if not rest:
            try:
                return Decimal(text)
            except InvalidOperation:
                raise ValueError(f"{text!r} is no decimal number") from None
        case {"timestamp": int(seconds), **rest} if not rest:
            return Timestamp(seconds)
        case dict():
            return {name: value_of(each) for name, each in plain.items()}
        case list():
            return [value_of(each) for each in plain]
    found: Value = plain
    return found
