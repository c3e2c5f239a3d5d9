"""Describe the settings of policies and queue arguments that delete messages or queues.

Builds the warning sentences. ``policy_loss`` finds what a policy change deletes now, and prompts for
confirmation.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

from leveret.router.cli.amqp import notice
from leveret.router.cli.table import Object
from leveret.router.cli.terminal import printable, shown_duration

# The overflow settings that refuse new messages. Quorum queues take reject-publish-dlx for drop-head, and
# streams ignore the setting, as in RabbitMQ.
REJECTING = {"classic": ("reject-publish", "reject-publish-dlx"), "quorum": ("reject-publish",), "stream": ()}
LENGTHS = (("max-length", "messages"), ("max-length-bytes", "bytes"))


def describe_loss(settings: Object, queue_type: str = "classic") -> Iterator[str]:
    """Yield a sentence for each setting that deletes something. Names are those of policies."""
    expires, ttl = settings.get("expires"), settings.get("message-ttl")
    if is_number(expires):
        yield (
            f"expires={expires} deletes a queue with its messages after {shown_duration(expires)} with "
            "no consumer, no get and no declaration"
        )
    if is_number(ttl):
        which = f"have waited for {shown_duration(ttl)}" if ttl else "no consumer takes at once"
        yield f"message-ttl={ttl} {_REMOVES} messages that {which}"
    overflow = settings.get("overflow")
    for name, unit in LENGTHS:
        limit = settings.get(name)
        if not is_number(limit) or overflow in REJECTING[queue_type]:
            continue
        if queue_type == "stream":
            if unit == "bytes":
                yield f"{name}={limit} deletes the oldest messages of a stream beyond {limit} bytes"
            continue
        yield (
            f"{name}={limit} {_REMOVES} the oldest messages of a queue beyond {limit} {unit}; one "
            "with overflow=reject-publish refuses new messages instead"
        )
    if overflow == "drop-head" and not settings.keys() & {"max-length", "max-length-bytes"}:
        yield f"overflow=drop-head {_REMOVES} the oldest messages of a queue at its length limit"
    limit = settings.get("delivery-limit")
    if is_number(limit):
        yield (
            f"delivery-limit={limit} {_REMOVES} a message of a quorum queue that is returned more than "
            f"{limit} times"
        )
    age = settings.get("max-age")
    if isinstance(age, str):
        yield f"max-age={age} deletes messages of a stream that are older than that"


_REMOVES = "deletes (or dead-letters)"


def warn_of_queue(name: str, arguments: Object, what: str = "queue") -> None:
    """Warn of the arguments of a queue or a stream that delete something."""
    settings = {key.removeprefix("x-"): value for key, value in arguments.items() if key.startswith("x-")}
    kind = settings.get("queue-type")
    for warning in describe_loss(settings, kind if kind in REJECTING else "classic"):
        notice(f"{what} {printable(name)!r}: {warning}")


def is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
