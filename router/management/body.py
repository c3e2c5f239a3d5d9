"""Validation of JSON request bodies, with RabbitMQ's texts for errors.

As in RabbitMQ, booleans and most numbers may be strings, which ``rabbitmqadmin`` sends; an empty body and
``null`` are an empty object.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from leveret.protocol.amqp.table import MAX_DEPTH, TOO_DEEP, TOO_LARGE
from leveret.protocol.json_text import encode_json
from leveret.router.management.errors import bad_request
from leveret.router.management.json_values import Object
from leveret.router.values.bounds import INTEGER_MAX, INTEGER_MIN

# RabbitMQ's text.
DOUBLE_ENCODED = (
    "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?"
)
LARGE = 1 << 17  # bytes; a field table in one frame of AMQP's default size is no larger
_TRUTH = {True: True, False: False, "true": True, "false": False}
_INTEGER = re.compile("[+-]?[0-9]{1,18}")


def parse_object(body: bytes) -> Object:
    """Parse a body that is a JSON object. Raises HttpError 400."""
    if not body or body.isspace():  # ``strip`` would copy a large body
        return {}
    try:
        value = _parse_large(body) if len(body) > LARGE else msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("not_json") from None
    if value is None:
        return {}
    if isinstance(value, str):
        raise bad_request(DOUBLE_ENCODED)
    if not isinstance(value, dict):
        raise bad_request("not_json")
    return value


class _Message(msgspec.Struct):
    """The payload of a message; decoding skips all other members."""

    payload: msgspec.Raw = msgspec.Raw()


_message = msgspec.json.Decoder(_Message)


def _parse_large(body: bytes) -> Object:
    """Parse a large body. Raises HttpError 400 for more than ``LARGE`` bytes besides a message's payload:
    decoding them, and encoding them in a response, would block all clients.
    """
    payload = memoryview(_message.decode(body).payload)
    rest = len(body) - (len(payload) if bytes(payload[:1]) == b'"' else 0)
    if rest > LARGE:
        raise bad_request(
            f"the body has {rest} bytes besides the payload of a message; it may have {LARGE} here"
        )
    value: Object = msgspec.json.decode(body)
    return value


def demand(body: Object, names: Iterable[str]) -> None:
    """Raise HttpError 400 unless the body has all of these members."""
    missing = [f"{{key_missing,{name}}}" for name in names if name not in body]
    if missing:
        raise bad_request(f"[{','.join(missing)}]")


def boolean(body: Object, name: str, default: bool = False) -> bool:
    """Return a boolean member. Raises HttpError 400."""
    value = body.get(name, default)
    if isinstance(value, bool | str) and value in _TRUTH:
        return _TRUTH[value]
    raise bad_request(f"'{name}' should be true or false, actually was {_shown(value)}")


def integer(body: Object, name: str, default: int | None = None) -> int:
    """Return an integer member. Raises HttpError 400."""
    value = body.get(name, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise bad_request(f"'{name}' should be a whole number, actually was {_shown(value)}")


def number(body: Object, name: str, default: int) -> int:
    """Return an integer member that may not be a string, as in policies, which RabbitMQ checks
    differently.
    """
    value = body.get(name, default)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise bad_request(f"Validation failed\n\n{name} should be a number, actually was {_shown(value)}\n")


def text(body: Object, name: str, default: str | None = None) -> str:
    """Return a string member. Raises HttpError 400."""
    value = body.get(name, default)
    if isinstance(value, str):
        return value
    raise bad_request(f"'{name}' should be a text, actually was {_shown(value)}")


def table(body: Object, name: str) -> Object:
    """Return an object member, such as arguments; an empty list is an empty object."""
    value = body.get(name, {})
    if value == []:
        return {}
    if isinstance(value, dict):
        return fields("argument", value)
    raise bad_request(f"'{name}' should be an object, actually was {_shown(value)}")


def fields(what: str, values: Object) -> Object:
    """Convert a JSON object to a field table; ``what`` is the word for one of its entries in errors.

    Raises HttpError 400 for a value that a field table cannot hold.
    """
    found = {}
    for name, value in values.items():
        try:
            found[name] = _field(value, MAX_DEPTH - 1)
        except ValueError as error:
            raise bad_request(f"invalid {what} '{name}': {error}") from None
    return found


def _field(value: Any, depth: int) -> Any:
    """Convert a JSON value to a value of a field table.

    Raises ValueError for a number of more than 64 bits, and for more than ``depth`` levels of nesting.
    """
    if not depth and isinstance(value, list | dict):
        raise ValueError(TOO_DEEP)
    match value:
        case bool() | float() | str() | None:
            return value
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise ValueError(TOO_LARGE.format(value))
            return value
        case list():
            return [_field(item, depth - 1) for item in value]
        case dict():
            return {key: _field(item, depth - 1) for key, item in value.items()}
    raise AssertionError(f"{type(value).__name__} is not of JSON")


def _shown(value: Any) -> str:
    return encode_json(value).decode()[:200]
