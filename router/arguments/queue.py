"""The arguments of a new queue: their check, and their effective values together with a policy.

``table`` has the arguments and their valid values. The queue applies the values.

The texts are those of RabbitMQ 3.10. Two checks are those of later versions: ``x-delivery-limit`` and
``x-consumer-timeout`` must be integers, and an unknown ``x-queue-master-locator`` ends the channel, not the
connection.
"""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.argument import Argument, Merge, QueueType
from leveret.router.arguments.table import ALL, EXCHANGE_ARGUMENTS, POLICY_SETTINGS, QUEUE_ARGUMENTS
from leveret.router.values.field_values import type_name

Overflow = Literal["drop-head", "reject-publish", "reject-publish-dlx"]


class QueueArguments(Struct, frozen=True, kw_only=True):
    """The values of a queue's arguments, or the effective values of arguments and policies.

    None stands for an argument that is not set.
    """

    queue_type: QueueType = "classic"
    message_ttl: int | None = None  # ms
    expires: int | None = None  # ms without use
    max_length: int | None = None  # ready messages
    max_length_bytes: int | None = None  # of the bodies of ready messages
    overflow: Overflow | None = None  # None is drop-head
    dead_letter_exchange: str | None = None  # "" is the default exchange
    dead_letter_routing_key: str | None = None
    max_priority: int | None = None  # None: no priorities, all messages are in one order
    single_active_consumer: bool = False
    delivery_limit: int | None = None  # None: no limit
    delivery_limit_given: bool = False  # by the arguments; the default yields to a policy
    consumer_timeout: int | None = None  # ms; None is the broker's
    max_age: int | None = None  # ms that a stream keeps its messages for
    stream_segment_size: int | None = None  # bytes
    stream_filter_size: int | None = None  # bytes


_BY_TYPE: Mapping[QueueType, tuple[Argument, ...]] = {
    queue_type: tuple(row for row in QUEUE_ARGUMENTS.values() if queue_type in row.queue_types)
    for queue_type in ALL
}


def parse_arguments(
    arguments: Mapping[str, Any],
    *,
    vhost: str,
    queue: str,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    default_delivery_limit: int,
    restored: bool = False,
) -> QueueArguments:
    """Check the arguments and properties of a new queue, and return the values of the arguments.

    ``default_delivery_limit`` is the limit of quorum queues without ``x-delivery-limit``; for both any
    negative number is no limit (RabbitMQ 4). Unknown arguments are ignored, as in RabbitMQ. For a
    ``restored`` queue a segment size that is too large is replaced by the largest. Raises PreconditionFailed.
    """
    what = f"queue '{queue}' in vhost '{vhost}'"
    exchange = arguments.get("x-dead-letter-exchange", "")
    if not isinstance(exchange, str):
        raise PreconditionFailed(
            f"invalid type '{type_name(exchange)}' for arg 'x-dead-letter-exchange' in {what}"
        )
    _check(QUEUE_ARGUMENTS["x-queue-type"], arguments, what)  # decides which other arguments are valid
    queue_type: QueueType = arguments.get("x-queue-type", "classic")
    given = [row for row in _BY_TYPE[queue_type] if row.name in arguments]
    for row in given:
        _check(row, arguments, what)
        if row.name == "x-dead-letter-routing-key" and "x-dead-letter-exchange" not in arguments:
            raise PreconditionFailed(f"invalid arg '{row.name}' for {what}: routing_key_but_no_dlx_defined")
    for name in arguments:
        if name in QUEUE_ARGUMENTS and queue_type not in QUEUE_ARGUMENTS[name].queue_types:
            raise PreconditionFailed(
                f"invalid arg '{name}' for {what} of queue type rabbit_{queue_type}_queue"
            )
    if queue_type != "classic":
        for refused, name in (
            (auto_delete, "auto-delete"),
            (exclusive, "exclusive-owner"),
            (not durable, "non-durable"),
        ):
            if refused:
                raise PreconditionFailed(f"invalid property '{name}' for {what}")
    for row in given:
        if row.is_too_large(arguments[row.name]) and not restored:
            raise PreconditionFailed(f"Exceeded max value for {row.name}")
    values = {row.field: row.read(arguments[row.name]) for row in given if row.field is not None}
    if queue_type == "quorum":
        values["delivery_limit_given"] = "delivery_limit" in values
        default = QUEUE_ARGUMENTS["x-delivery-limit"].read(default_delivery_limit)
        values.setdefault("delivery_limit", default)
        values["overflow"] = _overflow_of_quorum_queue(values.get("overflow"))
    return QueueArguments(**values)


def check_shared_arguments(arguments: Mapping[str, Any], what: str) -> None:
    """Check the arguments that exchanges share with queues. Raises PreconditionFailed."""
    for name, row in EXCHANGE_ARGUMENTS.items():
        if name in QUEUE_ARGUMENTS:
            _check(row, arguments, what)


def _check(row: Argument, arguments: Mapping[str, Any], what: str) -> None:
    if row.name in arguments and (error := row.check(arguments[row.name])):
        raise PreconditionFailed(f"invalid arg '{row.name}' for {what}: {error}")


def _overflow_of_quorum_queue(overflow: Overflow | None) -> Overflow | None:
    """Return the effective overflow: ``reject-publish-dlx`` has the effect of drop-head, as in RabbitMQ."""
    return "drop-head" if overflow == "reject-publish-dlx" else overflow


# -- with a policy ---------------------------------------------------------------------------------------


def merge_policy(base: QueueArguments, policy: Mapping[str, Any]) -> QueueArguments:
    """Return the effective values of a queue with these arguments under a valid policy definition.

    Settings that have no effect on the queue's type are ignored.
    """
    changes: dict[str, Any] = {}
    for key, value in policy.items():
        row = POLICY_SETTINGS.get(key)
        if row is not None and row.field is not None and base.queue_type in row.policy_queue_types:
            changes[row.field] = _merged(base, row, row.field, row.read(value))
    return replace(base, **changes) if changes else base


def _merged(base: QueueArguments, row: Argument, field: str, value: Any) -> Any:
    own = getattr(base, field)
    if field == "overflow" and base.queue_type == "quorum":
        return _overflow_of_quorum_queue(value)  # the policy has precedence, as in RabbitMQ
    if field == "delivery_limit" and not base.delivery_limit_given:
        return value
    if row.policy is not None and row.policy.merge is Merge.SMALLER:
        return min((limit for limit in (own, value) if limit is not None), default=None)
    return value if own is None else own
