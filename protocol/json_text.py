"""JSON of values that hold what clients sent: names, headers, arguments and their like.

Everything that is printed, logged or answered as JSON passes here. Text whose bytes were not UTF-8 holds them
as surrogate escapes, which strict JSON parsers refuse. It is shown as RabbitMQ's management API shows such
header values: ``Not UTF-8, base64 is:`` and the bytes, in lines of 76 characters. RabbitMQ shows header names
and short strings, such as a routing key, with U+FFFD instead of the bytes; here they have the same form.
"""

import base64
import json
from typing import Any

import msgspec

PREFIX = "Not UTF-8, base64 is: "
LINE = 76  # characters of base64 on a line


def representable(value: Any) -> Any:
    """The value with all its text, keys of objects included, as Unicode that every JSON parser accepts."""
    match value:
        case str():
            return value if _is_unicode(value) else _shown(value)
        case dict():
            return {representable(key): representable(item) for key, item in value.items()}
        case list() | tuple():
            return [representable(item) for item in value]
    return value


def restored(value: Any) -> Any:
    """The value that ``representable`` was given, but for tuples; text that it never makes stays as it is."""
    match value:
        case str() if value.startswith(PREFIX):
            try:
                data = base64.b64decode(value.removeprefix(PREFIX).replace("\n", ""), validate=True)
                found = data.decode("utf-8", "surrogateescape")
            except ValueError:
                return value
            return value if _is_unicode(found) else found
        case dict():
            return {restored(key): restored(item) for key, item in value.items()}
        case list():
            return [restored(item) for item in value]
    return value


def encode_json(value: Any) -> bytes:
    """Compact JSON."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(representable(value))


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """JSON for people: with spaces, and without escapes for letters of other scripts."""
    return json.dumps(representable(value), ensure_ascii=False, indent=indent)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no bytes
        data = text.encode("utf-8", "surrogatepass")
    encoded = base64.b64encode(data).decode()
    return PREFIX + "\n".join(encoded[start : start + LINE] for start in range(0, len(encoded), LINE))
