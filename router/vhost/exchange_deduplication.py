"""The arguments by which an exchange takes messages once, as a queue does by those of the same names.

Source: LavinMQ, "Message deduplication".
"""

from collections.abc import Mapping
from typing import Any

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.queue import check_deduplication
from leveret.router.deduplication.cache import HEADER, SIZE, Deduplication
from leveret.router.exchange.base import Exchange


def window_of(exchange: Exchange, what: str) -> Deduplication | None:
    """What an exchange remembers of messages that it takes once; None when it takes all. PreconditionFailed
    for arguments that say no such thing, and where nobody would keep it.
    """
    arguments: Mapping[str, Any] = exchange.arguments
    if "x-message-deduplication" not in arguments:
        return None
    check_deduplication(arguments, what)
    if not arguments["x-message-deduplication"]:
        return None
    if not exchange.durable:
        raise PreconditionFailed(
            f"invalid arg 'x-message-deduplication' for {what}: the exchange has to be durable"
        )
    return Deduplication(
        arguments.get("x-deduplication-header") or HEADER,
        arguments.get("x-cache-size", SIZE),
        arguments.get("x-cache-ttl", 0),
    )
