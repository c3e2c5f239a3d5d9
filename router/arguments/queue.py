"""The optional arguments of queue.declare: what they may be, and what they amount to together with a policy.

Owns the names, types, ranges and combinations that RabbitMQ accepts (its texts included), and the effective
values of a queue. It does not act on any of them: that is the queue's.

Source: RabbitMQ, "Queues" (optional arguments) and the pages of each feature. The texts are those of
RabbitMQ 3.10. Stricter than that version, like later ones: ``x-delivery-limit`` and ``x-consumer-timeout``
must be integers; and an unknown ``x-queue-master-locator`` ends the channel, not the connection.
``x-queue-mode``, ``x-queue-version``, ``x-dead-letter-strategy`` and the arguments about replicas and memory
are checked and then without effect.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from leveret.protocol.amqp.constants import SHORTSTR_MAX
from leveret.protocol.errors import PreconditionFailed
from leveret.router.deduplication import cache as deduplication
from leveret.router.values.field_values import is_integer, type_name

QueueType = Literal["classic", "quorum", "stream"]
Overflow = Literal["drop-head", "reject-publish", "reject-publish-dlx"]

EXPIRY_MAX = 10 * 365 * 24 * 3600 * 1000  # ms: RabbitMQ's longest TTL, ten years
PRIORITY_MAX = 255
SEGMENT_SIZE, SEGMENT_MAX = "x-stream-max-segment-size-bytes", 3_000_000_000  # bytes of a file of a stream
FILTER_SIZES = 16, 255  # bytes of the filter of a stream's chunk, at least and at most

_AGE = re.compile(r"0*([1-9][0-9]{0,14})([YMDhms])")
_DAY = 24 * 3600
_SECONDS = {"Y": 365 * _DAY, "M": 30 * _DAY, "D": _DAY, "h": 3600, "m": 60, "s": 1}


def parse_age(text: str) -> int | None:
    """Return the ms of an age such as ``7D`` (RabbitMQ, "Streams"); None for other text, and for 0 days."""
    found = _AGE.fullmatch(text)
    if found is None:
        return None
    return int(found[1]) * _SECONDS[found[2]] * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueArguments:
    """What a queue's arguments say, or what they and the policies amount to; None where nothing is said."""

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
    deduplication: bool = False  # whether a message that came lately is not taken again
    deduplication_header: str | None = None
    cache_size: int | None = None  # messages that are remembered for that
    cache_ttl: int | None = None  # ms
    max_age: int | None = None  # ms that a stream keeps its messages for
    stream_segment_size: int | None = None  # bytes
    stream_filter_size: int | None = None  # bytes


# -- one value -------------------------------------------------------------------------------------------
# A check returns what RabbitMQ says about a value it refuses, "" when there is nothing to say.

Check = Callable[[Any], str]


def _integer(value: Any) -> str:
    return "" if is_integer(value) else f'"expected integer, got {type_name(value)}"'


def _natural(value: Any) -> str:
    return _integer(value) or (f"{{value_negative,{value}}}" if value < 0 else "")


def _positive(value: Any) -> str:
    return _natural(value) or ("{value_zero,0}" if value == 0 else "")


def _milliseconds(value: Any) -> str:
    return _natural(value) or (f"{{value_too_large,{value}}}" if value > EXPIRY_MAX else "")


def _positive_milliseconds(value: Any) -> str:
    return _positive(value) or _milliseconds(value)


def _priority(value: Any) -> str:
    return _natural(value) or (f"{{max_value_exceeded,{value}}}" if value > PRIORITY_MAX else "")


def _typed(kind: type, value: object) -> str:
    return "" if isinstance(value, kind) else f"{{unacceptable_type,{type_name(value)}}}"


def _boolean(value: Any) -> str:
    return _typed(bool, value)


def _text(value: Any) -> str:
    return _typed(str, value)


def _one_of(*values: str, otherwise: str) -> Check:
    def check(value: Any) -> str:
        return _text(value) or ("" if value in values else otherwise.format(value))

    return check


def _max_age(value: Any) -> str:
    return _text(value) or ("" if parse_age(value) else "invalid_max_age")


def _filter_size(value: Any) -> str:
    low, high = FILTER_SIZES
    return _natural(value) or ("" if low <= value <= high else f"{{value_out_of_range,{value}}}")


def _version(value: Any) -> str:
    return _integer(value) or ("" if value in (1, 2) else f"\"unsupported queue version '{value}'\"")


_queue_type = _one_of("classic", "quorum", "stream", otherwise="\"unsupported queue type '{}'\"")
_leader = _one_of(
    "client-local", "balanced", "random", "least-leaders", otherwise="invalid_queue_locator_arg"
)
_master = _one_of("min-masters", "client-local", "random", otherwise="invalid_queue_locator_arg")


class Argument(NamedTuple):
    """An argument: the type of its values, and what checks one."""

    kind: type[str] | type[int] | type[bool]
    check: Check


ARGUMENTS: dict[str, Argument] = {  # in the order RabbitMQ makes them
    "x-queue-type": Argument(str, _queue_type),
    "x-expires": Argument(int, _positive_milliseconds),
    "x-message-ttl": Argument(int, _milliseconds),
    "x-dead-letter-exchange": Argument(str, _text),
    "x-dead-letter-routing-key": Argument(str, _text),
    "x-dead-letter-strategy": Argument(
        str, _one_of("at-most-once", "at-least-once", otherwise="invalid_dlx_strategy")
    ),
    "x-max-length": Argument(int, _natural),
    "x-max-length-bytes": Argument(int, _natural),
    "x-max-in-memory-length": Argument(int, _natural),
    "x-max-in-memory-bytes": Argument(int, _natural),
    "x-max-priority": Argument(int, _priority),
    "x-overflow": Argument(
        str, _one_of("drop-head", "reject-publish", "reject-publish-dlx", otherwise="invalid_overflow")
    ),
    "x-queue-mode": Argument(str, _one_of("default", "lazy", otherwise="\"unsupported queue mode '{}'\"")),
    "x-queue-version": Argument(int, _version),
    "x-single-active-consumer": Argument(bool, _boolean),
    "x-quorum-initial-group-size": Argument(int, _positive),
    "x-quorum-target-group-size": Argument(int, _positive),
    "x-queue-leader-locator": Argument(str, _leader),
    "x-queue-master-locator": Argument(str, _master),
    "x-delivery-limit": Argument(int, _integer),
    "x-consumer-timeout": Argument(int, _natural),
    "x-message-deduplication": Argument(bool, _boolean),
    "x-deduplication-header": Argument(str, _text),
    "x-cache-size": Argument(int, _positive),
    "x-cache-ttl": Argument(int, _positive_milliseconds),
    "x-max-age": Argument(str, _max_age),
    "x-stream-max-segment-size-bytes": Argument(int, _natural),
    "x-stream-filter-size-bytes": Argument(int, _filter_size),
    "x-initial-cluster-size": Argument(int, _positive),
}


def is_valid(name: str, value: Any) -> bool:
    """Whether a new queue may have this value of an argument; policies ask it of theirs, too."""
    too_large = name == SEGMENT_SIZE and is_integer(value) and value > SEGMENT_MAX
    return not too_large and not ARGUMENTS[name].check(value)


# -- which arguments a queue type knows ------------------------------------------------------------------

COMPARED: dict[QueueType, tuple[str, ...]] = {  # in the order RabbitMQ compares them
    "classic": (
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-queue-master-locator",
        *deduplication.ARGUMENTS,
    ),
    "quorum": (
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
        *deduplication.ARGUMENTS,
    ),
    "stream": (
        "x-max-length-bytes",
        "x-queue-type",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ),
}
# Known to any type, or to later versions of RabbitMQ, and compared by none.
_ANYWHERE = frozenset({"x-consumer-timeout", "x-quorum-target-group-size"})
_OF_SOME_TYPE = frozenset().union(*COMPARED.values())


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
    """Check the arguments and properties of a new queue and say what they mean.

    ``default_delivery_limit`` holds for quorum queues that set none; there and in ``x-delivery-limit`` any
    negative number is no limit (RabbitMQ 4). Arguments nobody knows are ignored, as in RabbitMQ. Of a queue
    that is ``restored`` a segment size that is too large is taken for the largest. Raises PreconditionFailed.
    """
    what = f"queue '{queue}' in vhost '{vhost}'"
    exchange = arguments.get("x-dead-letter-exchange", "")
    if not isinstance(exchange, str):
        raise PreconditionFailed(
            f"invalid type '{type_name(exchange)}' for arg 'x-dead-letter-exchange' in {what}"
        )
    _check("x-queue-type", arguments, _queue_type, what)  # before it says what else is known
    queue_type = arguments.get("x-queue-type", "classic")
    known = COMPARED[queue_type]
    for name, (_, check) in ARGUMENTS.items():
        if name in known or name in _ANYWHERE:
            _check(name, arguments, check, what)
            if name == "x-dead-letter-routing-key" and name in arguments:
                _check_dead_letter_key(arguments, what)
    for name in arguments:
        if name in _OF_SOME_TYPE and name not in known:
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
    if queue_type == "stream" and arguments.get(SEGMENT_SIZE, 0) > SEGMENT_MAX and not restored:
        raise PreconditionFailed(f"Exceeded max value for {SEGMENT_SIZE}")
    return _meaning(arguments, queue_type, default_delivery_limit)


def check_deduplication(arguments: Mapping[str, Any], what: str) -> None:
    """Check what says that messages are taken once, of a queue or an exchange. Raises PreconditionFailed."""
    for name in deduplication.ARGUMENTS:
        _check(name, arguments, ARGUMENTS[name].check, what)


def _check(name: str, arguments: Mapping[str, Any], check: Check, what: str) -> None:
    if name in arguments and (error := check(arguments[name])):
        raise PreconditionFailed(f"invalid arg '{name}' for {what}: {error}")


def _check_dead_letter_key(arguments: Mapping[str, Any], what: str) -> None:
    if "x-dead-letter-exchange" not in arguments:
        raise PreconditionFailed(
            f"invalid arg 'x-dead-letter-routing-key' for {what}: routing_key_but_no_dlx_defined"
        )
    if len(arguments["x-dead-letter-routing-key"].encode("utf-8", "surrogateescape")) > SHORTSTR_MAX:
        raise PreconditionFailed(  # it could not be told to anyone whom the dead letter is delivered to
            f"invalid arg 'x-dead-letter-routing-key' for {what}: longer than {SHORTSTR_MAX} bytes"
        )


def _meaning(
    arguments: Mapping[str, Any], queue_type: QueueType, default_delivery_limit: int
) -> QueueArguments:
    limit = arguments.get("x-delivery-limit", default_delivery_limit) if queue_type == "quorum" else -1
    size = arguments.get("x-stream-max-segment-size-bytes")
    return QueueArguments(
        queue_type=queue_type,
        message_ttl=arguments.get("x-message-ttl"),
        expires=arguments.get("x-expires"),
        max_length=arguments.get("x-max-length"),
        max_length_bytes=arguments.get("x-max-length-bytes"),
        overflow=_overflow(queue_type, arguments.get("x-overflow")),
        dead_letter_exchange=arguments.get("x-dead-letter-exchange"),
        dead_letter_routing_key=arguments.get("x-dead-letter-routing-key"),
        max_priority=arguments.get("x-max-priority"),
        single_active_consumer=arguments.get("x-single-active-consumer", False),
        delivery_limit=limit if limit >= 0 else None,
        delivery_limit_given="x-delivery-limit" in arguments,
        consumer_timeout=arguments.get("x-consumer-timeout"),
        deduplication=arguments.get("x-message-deduplication", False),
        deduplication_header=arguments.get("x-deduplication-header"),
        cache_size=arguments.get("x-cache-size"),
        cache_ttl=arguments.get("x-cache-ttl"),
        max_age=parse_age(arguments.get("x-max-age", "")),
        stream_segment_size=None if size is None else min(size, SEGMENT_MAX),
        stream_filter_size=arguments.get("x-stream-filter-size-bytes"),
    )


def _overflow(queue_type: QueueType, overflow: Overflow | None) -> Overflow | None:
    """Quorum queues accept reject-publish-dlx and then drop from the head, as in RabbitMQ."""
    return "drop-head" if queue_type == "quorum" and overflow == "reject-publish-dlx" else overflow


# -- with a policy ---------------------------------------------------------------------------------------

_SMALLER = {
    "message-ttl": "message_ttl",
    "expires": "expires",
    "max-length": "max_length",
    "max-length-bytes": "max_length_bytes",
    "consumer-timeout": "consumer_timeout",
}
_ARGUMENT_FIRST = {
    "overflow": "overflow",
    "dead-letter-exchange": "dead_letter_exchange",
    "dead-letter-routing-key": "dead_letter_routing_key",
    "stream-max-segment-size-bytes": "stream_segment_size",
}


def merge_policy(base: QueueArguments, policy: Mapping[str, Any]) -> QueueArguments:
    """What holds for a queue with these arguments under this policy definition (already validated).

    Of two limits the smaller holds, else the argument; but for ``overflow`` of a quorum queue the policy.
    Keys that say nothing to a queue are ignored.
    """
    changes: dict[str, Any] = {}
    for key, value in policy.items():
        if key in _SMALLER:
            own = getattr(base, _SMALLER[key])
            changes[_SMALLER[key]] = value if own is None else min(own, value)
        elif key == "overflow" and base.queue_type == "quorum":
            changes["overflow"] = _overflow("quorum", value)
        elif key == "max-age":
            ages = [each for each in (base.max_age, parse_age(value)) if each is not None]
            changes["max_age"] = min(ages, default=None)
        elif key in _ARGUMENT_FIRST:
            if getattr(base, _ARGUMENT_FIRST[key]) is None:
                changes[_ARGUMENT_FIRST[key]] = value
        elif key == "delivery-limit" and base.queue_type == "quorum":
            changes["delivery_limit"] = _delivery_limit(base, value)
    return replace(base, **changes) if changes else base


def _delivery_limit(base: QueueArguments, policy: int) -> int | None:
    """The smaller of two limits; no limit yields to any, and the default to whatever the policy says."""
    limit = policy if policy >= 0 else None
    if not base.delivery_limit_given or base.delivery_limit is None:
        return limit
    return base.delivery_limit if limit is None else min(limit, base.delivery_limit)
