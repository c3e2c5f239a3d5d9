"""Limits that an operator sets for a virtual host or a user.

Responsible for their names, their legal values and the error texts of a reached limit. Not for counting (see
``vhost`` and ``auth``). A negative limit means no limit, as in RabbitMQ.

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
    """A refused limit; the text gives the reason."""


def check_limits(limits: Mapping[str, object], names: tuple[str, ...], what: str) -> dict[str, int]:
    """Return the checked limits; ``what`` names them in the texts. Raises LimitError."""
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
    """Return the limit if there is one and ``count`` has reached it, else None."""
    limit = limits.get(name, -1)
    return limit if 0 <= limit <= count else None


def check_vhost_connections(limits: Limits, count: int, *, vhost: str, user: str) -> None:
    """Raise NotAllowed if a virtual host has reached its limit of connections."""
    limit = reached(limits, "max-connections", count)
    if limit is not None:
        raise NotAllowed(
            f"access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        )


def check_user_connections(limits: Limits, count: int, *, user: str) -> None:
    """Raise NotAllowed if a user has reached the limit of connections."""
    limit = reached(limits, "max-connections", count)
    if limit is not None:
        raise NotAllowed(f"connection refused for user '{user}': user connection limit ({limit}) is reached")


def check_user_channels(limits: Limits, count: int, *, user: str) -> None:
    """Raise NotAllowed if a user has reached the limit of channels."""
    limit = reached(limits, "max-channels", count)
    if limit is not None:
        raise NotAllowed(
            f"number of channels opened for user '{user}' has reached "
            f"the maximum allowed user limit of ({limit})"
        )


def check_queues(limits: Limits, count: int, *, vhost: str, queue: str) -> None:
    """Raise PreconditionFailed if a virtual host has reached its limit of queues."""
    limit = reached(limits, "max-queues", count)
    if limit is not None:
        raise PreconditionFailed(
            f"cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached"
        )
