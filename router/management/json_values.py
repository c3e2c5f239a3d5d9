"""JSON encoding of responses: field tables and large lists.

Field values lose what JSON has no form for: the width of a number, the type of a timestamp, and bytes, which
become text.
"""

from collections.abc import Sequence
from typing import Any

from leveret.protocol.http import Response
from leveret.protocol.json_text import encode_json
from leveret.router.web.response_steps import Growth, ResponseSteps

SLICE = 200  # items that are encoded before other tasks run
JSON = "application/json"

Object = dict[str, Any]


def answer(value: Any, status: int = 200) -> Response:
    """Return a response with a value as JSON."""
    return Response(status, encode_json(value), JSON)


def empty_response(status: int = 204) -> Response:
    """Return a response without a body."""
    return Response(status)


def encode_list(items: Sequence[Any], size: int = 0) -> ResponseSteps[list[bytes]]:
    """Encode a list as JSON in parts, a slice at a time. ``size`` is the memory of the items, in bytes."""
    parts = [b"["]
    for start in range(0, len(items), SLICE):
        if start:
            parts.append(b",")
            yield Growth(size)
        parts.append(b",".join(encode_json(item) for item in items[start : start + SLICE]))
        size += len(parts[-1])
    parts.append(b"]")
    return parts
