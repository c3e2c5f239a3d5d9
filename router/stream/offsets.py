"""The start of a stream's reader, and its name: the consumer arguments that set them.

Source: RabbitMQ, "Streams" (Consuming).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from leveret.protocol.amqp.table import Timestamp
from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.checks import parse_age
from leveret.router.values.field_values import is_integer, term, type_name

ARGUMENT, IF_NEW = "x-stream-offset", "x-stream-offset-if-new"
NAME, SINGLE = "x-stream-consumer-name", "x-single-active-consumer"


class Start(NamedTuple):
    """The start of a reader: ``first``, ``last``, ``next``, an ``offset``, or a ``time`` in ms since the
    epoch.

    With ``if_new`` it applies to consumers whose name has no position; others continue at their position.
    """

    kind: str
    value: int = 0
    if_new: bool = False


NEXT = Start("next")


def start_of(arguments: Mapping[str, Any], what: str, wall: int) -> Start | None:
    """Return the start in the arguments of a consumer, or None. ``wall`` is in ms since the epoch.

    Raises PreconditionFailed. An offset below 0 is the first, as in RabbitMQ. ``x-stream-offset-if-new`` is
    leveret's own.
    """
    if IF_NEW not in arguments:
        return _parsed(ARGUMENT, arguments[ARGUMENT], what, wall) if ARGUMENT in arguments else None
    if ARGUMENT in arguments:
        raise PreconditionFailed(f"invalid arg '{IF_NEW}' for {what}: it excludes '{ARGUMENT}'")
    if NAME not in arguments:
        raise PreconditionFailed(f"invalid arg '{IF_NEW}' for {what}: it needs '{NAME}' beside it")
    return _parsed(IF_NEW, arguments[IF_NEW], what, wall)._replace(if_new=True)


def _parsed(argument: str, given: Any, what: str, wall: int) -> Start:
    """Parse the value of one of the two arguments. Raises PreconditionFailed."""
    value = given.decode("utf-8", "surrogateescape") if isinstance(given, bytes) else given
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
        f"invalid arg '{argument}' for {what}: "
        f"{{invalid_stream_offset_arg,{{{type_name(given)},{term(given)}}}}}"
    )


def group_of(arguments: Mapping[str, Any], what: str) -> tuple[str | None, bool]:
    """Return the name of a consumer's position, and True if only one consumer of that name may be active.

    Raises PreconditionFailed.
    """
    name, single = arguments.get(NAME), arguments.get(SINGLE, False)
    if NAME in arguments and (
        not isinstance(name, str) or not 0 < len(name.encode("utf-8", "replace")) < 256
    ):
        raise PreconditionFailed(f"invalid arg '{NAME}' for {what}: a string of 1 to 255 bytes is needed")
    if not isinstance(single, bool):
        raise PreconditionFailed(
            f"invalid arg '{SINGLE}' for {what}: {{unacceptable_type,{type_name(single)}}}"
        )
    if single and name is None:
        raise PreconditionFailed(f"invalid arg '{SINGLE}' for {what}: it needs '{NAME}' beside it")
    return name, single
