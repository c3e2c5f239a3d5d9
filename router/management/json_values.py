"""Answers in JSON: field tables, large lists.

Owns nothing of what is told. Field values lose what JSON cannot show: the width of a number, a timestamp's
type, and bytes, which become text.
"""

from collections.abc import Sequence
from typing import Any

from leveret.protocol.http import Response
from leveret.protocol.json_text import encode_json
from leveret.router.web.response_steps import Steps

SLICE = 200  # items that are made into JSON before others have their turn
JSON = "application/json"

Object = dict[str, Any]


def answer(value: Any, status: int = 200) -> Response:
    """A value as a response."""
    return Response(status, encode_json(value), JSON)


def nothing(status: int = 204) -> Response:
    """A response without a body."""
    return Response(status)


def encode_list(items: Sequence[Any]) -> Steps[list[bytes]]:
    """JSON of a list in parts, a slice at a time."""
    parts = [b"["]
    for start in range(0, len(items), SLICE):
        if start:
            parts.append(b",")
            yield 0
        parts.append(b",".join(encode_json(item) for item in items[start : start + SLICE]))
    parts.append(b"]")
    return parts
