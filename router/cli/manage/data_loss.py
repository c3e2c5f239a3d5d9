"""Warn of policies and queue arguments that delete messages or queues, before they are set.

Owns which settings do that, in words, and what an operator is asked. ``expires`` of a policy is confirmed
(``--yes`` in a script): it deletes whole queues. So is a length limit that deletes messages which are there
now. The other settings are warned of only.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

from router.cli.amqp import notice
from router.cli.api import Api
from router.cli.failure import WrongUsage
from router.cli.manage.common import confirm, listed
from router.cli.table import Object
from router.cli.terminal import counted, printable, shown_duration

QUEUE_TYPES = {"classic_queues": "classic", "quorum_queues": "quorum", "streams": "stream"}
REJECTING = ("reject-publish", "reject-publish-dlx")


def describe_loss(settings: Object) -> Iterator[str]:
    """Yield a sentence for each setting that deletes something. Names are those of policies."""
    expires, ttl = settings.get("expires"), settings.get("message-ttl")
    if _is_number(expires):
        yield (
            f"expires={expires} deletes a queue with its messages when for {shown_duration(expires)} it had "
            "no consumer, no get and no declaration"
        )
    if _is_number(ttl):
        yield f"message-ttl={ttl} {_REMOVES} messages that have waited for {shown_duration(ttl)}"
    overflow = settings.get("overflow")
    for name, unit in (("max-length", "messages"), ("max-length-bytes", "bytes")):
        limit = settings.get(name)
        if _is_number(limit) and overflow not in REJECTING:
            yield (
                f"{name}={limit} {_REMOVES} the oldest messages of a queue beyond {limit} {unit}; one "
                "with overflow=reject-publish refuses new messages instead"
            )
    if overflow == "drop-head" and not settings.keys() & {"max-length", "max-length-bytes"}:
        yield f"overflow=drop-head {_REMOVES} the oldest messages of a queue at its length limit"
    limit = settings.get("delivery-limit")
    if _is_number(limit):
        yield (
            f"delivery-limit={limit} {_REMOVES} a message of a quorum queue that is returned more than "
            f"{limit} times"
        )
    age = settings.get("max-age")
    if isinstance(age, str):
        yield f"max-age={age} deletes messages of a stream that are older than that"


_REMOVES = "deletes (or dead-letters)"


def confirm_policy(api: Api, vhost: str, path: tuple[str, ...], body: dict[str, Any], yes: bool) -> None:
    """Warn of a policy that deletes something, and ask where that is due.

    A policy that is there already, with the same content, is neither warned of nor asked about. Raises
    click.Abort for no, and WrongUsage if nobody can be asked.
    """
    settings = body["definition"]
    warnings = list(describe_loss(settings))
    if not warnings or body["apply-to"] == "exchanges" or _is_set(api, vhost, path, body):
        return
    queues = matching_queues(api, vhost, body["pattern"], body["apply-to"])
    for warning in warnings:
        notice(warning)
    messages = sum(_count(row, "messages") for row in queues)
    notice(
        f"the pattern matches {counted(len(queues), 'existing queue')} in {printable(vhost)!r}, "
        f"with {counted(messages, 'message')}"
    )
    operator = path[0] == "operator-policies"
    dropped = sum(_dropped_now(row, settings, operator) for row in queues)
    if dropped:
        notice(f"{counted(dropped, 'message')} of them are beyond the limit, and are deleted at once")
    if "expires" in settings or dropped:
        confirm(f"Set the policy {path[-1]!r} at {api.shown}?", yes)


def matching_queues(api: Api, vhost: str, pattern: str, apply_to: str) -> list[Object]:
    """Return the queues of a virtual host that a policy applies to. Raises WrongUsage for a bad pattern."""
    from router.patterns import PatternError, compile_pattern

    try:
        matches = compile_pattern(pattern)
    except PatternError as error:
        raise WrongUsage(str(error)) from None
    kind = QUEUE_TYPES.get(apply_to)
    return [
        row
        for row in listed(api, "queues", vhost)
        if matches(row["name"]) and kind in (None, row.get("type", "classic"))
    ]


def warn_of_queue(name: str, arguments: Object, what: str = "queue") -> None:
    """Warn of the arguments of a queue or a stream that delete something."""
    settings = {key.removeprefix("x-"): value for key, value in arguments.items() if key.startswith("x-")}
    for warning in describe_loss(settings):
        notice(f"{what} {printable(name)!r}: {warning}")


def _is_set(api: Api, vhost: str, path: tuple[str, ...], body: dict[str, Any]) -> bool:
    """Whether setting the policy changes nothing."""
    kind, name = path
    for row in listed(api, kind, vhost):
        if row["name"] == name:
            return all(row.get(key) == value for key, value in body.items())
    return False


def _dropped_now(row: Object, settings: Object, operator: bool) -> int:
    """How many ready messages of a queue are beyond a length limit that is to be set."""
    limit = settings.get("max-length")
    if not _is_number(limit) or row.get("type") == "stream" or _rejects(row, settings, operator):
        return 0
    return max(0, _count(row, "messages_ready") - limit)


def _rejects(row: Object, settings: Object, operator: bool) -> bool:
    """Whether a queue will refuse messages at its limit. An operator policy leaves that to the others."""
    own = (row.get("arguments") or {}).get("x-overflow")
    policy = (row.get("effective_policy_definition") or {}) if operator else settings
    return own in REJECTING or (own is None and policy.get("overflow") in REJECTING)


def _count(row: Object, name: str) -> int:
    value = row.get(name, 0)
    return value if isinstance(value, int) else 0


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
