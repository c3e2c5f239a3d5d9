"""Values of arguments at the edges of what is valid, and whether a declaration accepts one."""

from typing import Any

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.argument import Argument
from leveret.router.arguments.checks import EXPIRY_MAX
from leveret.router.arguments.queue import parse_arguments
from leveret.router.arguments.table import QUEUE_ARGUMENTS, SEGMENT_MAX

INTEGERS = (-1, 0, 1, 2, 3, 16, 255, 256, EXPIRY_MAX, EXPIRY_MAX + 1, SEGMENT_MAX, SEGMENT_MAX + 1, 10**13)
AGES = ("7D", "0000000000000007D", "0D", "1" + "0" * 30 + "Y")
OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
LOCATORS = ("client-local", "balanced", "random", "least-leaders", "min-masters")
KEYS = ("", "x", "k" * 255, "k" * 256)
OTHERS = ("default", "lazy", "at-most-once", "at-least-once", "quorum", "message_id")
VALUES = (*INTEGERS, *AGES, *OVERFLOWS, *LOCATORS, *KEYS, *OTHERS, 1.5, True, False, None, [], {})


def valid_value(row: Argument) -> Any:
    return next(value for value in VALUES if row.is_valid(value))


def accepts(name: str, value: object, queue_type: str | None = None) -> bool:
    """Return True if a new queue may have this argument; by default, a queue of a type that takes it."""
    arguments = {"x-queue-type": queue_type or QUEUE_ARGUMENTS[name].queue_types[0], name: value}
    if name == "x-dead-letter-routing-key":
        arguments["x-dead-letter-exchange"] = ""
    try:
        parse_arguments(
            arguments,
            vhost="/",
            queue="q",
            durable=True,
            exclusive=False,
            auto_delete=False,
            default_delivery_limit=20,
        )
    except PreconditionFailed:
        return False
    return True
