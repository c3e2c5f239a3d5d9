"""JSON encoding of clients' names, headers and arguments, whose text may hold bytes that are not UTF-8.

Responsible for the JSON of responses, log lines and the output of commands. Text keeps bytes that are not
UTF-8 as surrogate escapes, which strict JSON parsers refuse. Such text is written as RabbitMQ's management
API writes header values of that kind: ``Not UTF-8, base64 is:`` and the bytes in base64, in lines of 76
characters. For header names and short strings, such as a routing key, RabbitMQ writes U+FFFD instead; here
all text has the same form.
"""

import base64
import json
from typing import Any

import msgspec

PREFIX = "Not UTF-8, base64 is: "
LINE = 76  # characters of base64 on a line


def representable(value: Any) -> Any:
    """Return the value with all text, including the keys of objects, as Unicode without surrogates."""
    match value:
        case str():
            return value if _is_unicode(value) else _shown(value)
        case dict():
            return {representable(key): representable(item) for key, item in value.items()}
        case list() | tuple():
            return [representable(item) for item in value]
    return value


def restored(value: Any) -> Any:
    """Undo ``representable``, except that tuples stay lists. Text that ``representable`` cannot have made is
    returned unchanged.
    """
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
    """Return a value as compact JSON."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(representable(value))


def dump_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON for people: with spaces, and with letters outside ASCII unescaped."""
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
    except UnicodeEncodeError:  # surrogates that are not escaped bytes
        data = text.encode("utf-8", "surrogatepass")
    encoded = base64.b64encode(data).decode()
    return PREFIX + "\n".join(encoded[start : start + LINE] for start in range(0, len(encoded), LINE))
