"""Limits that an operator sets for a virtual host or a user.

Owns their names, what values they take, and how a reached limit is told. What is counted, and when, is the
business of whoever counts it. A negative limit is none, as in RabbitMQ.

Sources: RabbitMQ, "Virtual Hosts" (limits) and "User Limits"; the texts are those of 3.10.
"""

from collections.abc import Mapping

from leveret.protocol.errors import NotAllowed, PreconditionFailed
from leveret.router.values.bounds import check_json
from leveret.router.values.field_values import json_term, term

Limits = Mapping[str, int]

VHOST_LIMITS = ("max-connections", "max-queues")
USER_LIMITS = ("max-connections", "max-channels")


class LimitError(ValueError):
    """A limit is refused; the text says why."""


def check_limits(limits: Mapping[str, object], names: tuple[str, ...], what: str) -> dict[str, int]:
    """The limits as they are to be kept; ``what`` stands in the texts. Raises LimitError."""
    try:
        check_json(what, limits)
    except ValueError as error:
        raise LimitError(str(error)) from None
    unknown = [f"{{{term(name)},{json_term(value)}}}" for name, value in limits.items() if name not in names]
    if unknown:
        raise LimitError(f"Unrecognised terms [{','.join(unknown)}] in {what}")
    checked = {}
    for name, value in limits.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise LimitError(f"{name} should be a number, actually was {json_term(value)}")
        checked[name] = value
    return checked


def reached(limits: Limits, name: str, count: int) -> int | None:
    """The limit, if there is one and ``count`` has come to it."""
    limit = limits.get(name, -1)
    return limit if 0 <= limit <= count else None


def check_vhost_connections(limits: Limits, count: int, *, vhost: str, user: str) -> None:
    """Raise NotAllowed when a virtual host has as many connections as it may have."""
    limit = reached(limits, "max-connections", count)
    if limit is not None:
        raise NotAllowed(
            f"access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        )


def check_user_connections(limits: Limits, count: int, *, user: str) -> None:
    """Raise NotAllowed when a user has as many connections as it may have."""
    limit = reached(limits, "max-connections", count)
    if limit is not None:
        raise NotAllowed(f"connection refused for user '{user}': user connection limit ({limit}) is reached")


def check_user_channels(limits: Limits, count: int, *, user: str) -> None:
    """Raise NotAllowed when a user has as many channels as it may have."""
    limit = reached(limits, "max-channels", count)
    if limit is not None:
        raise NotAllowed(
            f"number of channels opened for user '{user}' has reached "
            f"the maximum allowed user limit of ({limit})"
        )


def check_queues(limits: Limits, count: int, *, vhost: str, queue: str) -> None:
    """Raise PreconditionFailed when a virtual host has as many queues as it may have."""
    limit = reached(limits, "max-queues", count)
    if limit is not None:
        raise PreconditionFailed(
            f"cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
        )
