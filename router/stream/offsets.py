"""Where a reader of a stream begins: the argument that says it.

Source: RabbitMQ, "Streams" (Consuming).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from protocol.amqp.table import Timestamp
from protocol.errors import PreconditionFailed
from router.queue.arguments import parse_age
from router.terms import is_integer, term, type_name

ARGUMENT = "x-stream-offset"


class Start(NamedTuple):
    """Where to begin: ``first``, ``last``, ``next``, an ``offset``, or a ``time`` in ms since the epoch."""

    kind: str
    value: int = 0


NEXT = Start("next")


def start_of(arguments: Mapping[str, Any], what: str, wall: int) -> Start | None:
    """What the arguments of a consumer say; None when nothing. ``wall`` in ms since the epoch.

    PreconditionFailed for what is none of these. An offset below 0 is the first, as in RabbitMQ.
    """
    if ARGUMENT not in arguments:
        return None
    value = arguments[ARGUMENT]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, Timestamp):
        return Start("time", int(value) * 1000)
    if is_integer(value):
        return Start("offset", max(0, int(value)))
    if isinstance(value, str):
        if value in ("first", "last", "next"):
            return Start(value)
        ago = parse_age(value)
        if ago is not None:
            return Start("time", max(0, wall - ago))
    raise PreconditionFailed(
        f"invalid arg '{ARGUMENT}' for {what}: "
        f"{{invalid_stream_offset_arg,{{{type_name(arguments[ARGUMENT])},{term(arguments[ARGUMENT])}}}}}"
    )
