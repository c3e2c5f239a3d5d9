"""Conversion of messages to JSON values and back.

Responsible for the spelling of field table values that JSON has no type for. Not for JSON text (see
``json_text``).
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
    """Return a body as text, and its encoding: "utf-8", or "base64" if it is not UTF-8."""
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def plain_properties(properties: Properties) -> dict[str, Any]:
    """Return the properties that are set, by name."""
    values = ((name, getattr(properties, name)) for name in Properties.__dataclass_fields__)
    return {name: plain_value(value) for name, value in values if value is not None}


def plain_value(value: Value) -> Any:
    """Convert a value of a table; types that JSON lacks become an object whose one key names the type."""
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
    """Undo ``plain_body``. Raises ValueError for a text or an encoding that ``plain_body`` never returns."""
    if encoding == "utf-8":
        return text.encode()
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    raise ValueError(f"unknown encoding of a body {encoding!r}: utf-8 or base64")


def properties_of(plain: Mapping[str, Any]) -> Properties:
    """Undo ``plain_properties``. Raises ValueError for properties that it never returns."""
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
    """Undo ``plain_value``; other JSON values are converted too."""
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
