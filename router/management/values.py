"""JSON for the values that a broker knows: field tables, names that are no UTF-8, large lists.

Owns nothing of what is told. Field values lose what JSON cannot show: the width of a number, a timestamp's
type, and bytes, which become text.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from protocol.http import Response
from router.web.steps import Steps

SLICE = 200  # items that are made into JSON before others have their turn
JSON = "application/json"

Object = dict[str, Any]


def encode(value: Any) -> bytes:
    """JSON. Bytes of names that are no UTF-8 are shown as lone surrogates, escaped."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def answer(value: Any, status: int = 200) -> Response:
    """A value as a response."""
    return Response(status, encode(value), JSON)


def nothing(status: int = 204) -> Response:
    """A response without a body."""
    return Response(status)


def encode_list(items: Sequence[Any]) -> Steps[bytes]:
    """JSON of a list, a slice at a time."""
    pieces: list[bytes] = []
    for start in range(0, len(items), SLICE):
        if start:
            yield 0
        pieces.append(b",".join(encode(item) for item in items[start : start + SLICE]))
    return b"[" + b",".join(pieces) + b"]"
