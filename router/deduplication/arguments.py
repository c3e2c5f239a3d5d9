"""The arguments of queues and exchanges that switch deduplication on.

Source: LavinMQ, "Message deduplication".
"""

from collections.abc import Mapping
from typing import Any

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.queue import check_shared_arguments
from leveret.router.deduplication.cache import HEADER, SIZE, DeduplicationCache

SWITCH = "x-message-deduplication"


def cache_of(arguments: Mapping[str, Any]) -> DeduplicationCache | None:
    """Return the deduplication cache for valid arguments of a queue; None if they do not switch it on."""
    if not arguments.get(SWITCH):
        return None
    return DeduplicationCache(
        arguments.get("x-deduplication-header") or HEADER,
        arguments.get("x-cache-size", SIZE),
        arguments.get("x-cache-ttl", 0),
    )


def exchange_cache(arguments: Mapping[str, Any], what: str, *, durable: bool) -> DeduplicationCache | None:
    """Check the arguments of the exchange ``what`` and return its cache; None if they do not switch it on.

    Without ``x-message-deduplication`` the other arguments are not checked: they may have a meaning for the
    exchange's type. Raises PreconditionFailed, also for an exchange that is not durable, because its cache
    would not be stored.
    """
    if SWITCH not in arguments:
        return None
    check_shared_arguments(arguments, what)
    if arguments[SWITCH] and not durable:
        raise PreconditionFailed(f"invalid arg '{SWITCH}' for {what}: the exchange has to be durable")
    return cache_of(arguments)
