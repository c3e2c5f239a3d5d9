"""The arguments of queues and exchanges, one row for each.

To add an argument of queues, add a row to ``_ROWS``; if the broker acts on the value, name a ``field`` in the
row, add that field to ``QueueArguments``, and write the code that acts on it. An argument that no policy sets
needs no field: ``deduplication.arguments`` reads its own. The checks of declarations and policies, the
comparison with a repeated declaration, the merge with policies and the headers of STOMP follow from the row.
Then run ``python -m leveret.router.arguments.reference > docs/arguments.md``;
``tests/router/arguments/test_table.py`` fails as long as the page, the field or another place lacks the row.

Sources: RabbitMQ, "Queues" (optional arguments), "Policies", and the page of each feature. The function
``capabilities`` of each queue type of 3.10 lists the arguments that the type takes, in the order of
comparison, and the settings of policies that it does not support.
"""

from collections.abc import Mapping

from leveret.router.arguments import checks
from leveret.router.arguments.argument import Argument, Merge, PolicySetting, QueueType, QueueTypes
from leveret.router.arguments.checks import EXPIRY_MAX

CLASSIC: QueueTypes = ("classic",)
QUORUM: QueueTypes = ("quorum",)
STREAM: QueueTypes = ("stream",)
NOT_STREAM: QueueTypes = ("classic", "quorum")
REPLICATED: QueueTypes = ("quorum", "stream")
ALL: QueueTypes = ("classic", "quorum", "stream")

SEGMENT_SIZE, SEGMENT_MAX = "x-stream-max-segment-size-bytes", 3_000_000_000  # bytes


def _limit_or_none(value: int) -> int | None:
    return value if value >= 0 else None


_REPLICAS = "number of replicas: checked, and without effect on a single node"
_PLACEMENT = "node of the queue: checked, and without effect on a single node"
_LOCATOR = "invalid_queue_locator_arg"

_ROWS = (  # in the order of RabbitMQ's checks
    Argument(
        "alternate-exchange",
        str,
        checks.text,
        "exchange for messages that this one routes to no queue",
        exchanges="all",
        policy=PolicySetting("{} is not a valid alternate exchange name", Merge.ARGUMENT, queue_types=ALL),
    ),
    Argument(
        "hash-header",
        str,
        checks.text,
        "the header that is hashed, instead of the routing key",
        exchanges="`x-consistent-hash`",
        compared=False,
    ),
    Argument(
        "hash-property",
        str,
        checks.one_of("correlation_id", "message_id", "timestamp", otherwise="Unsupported property: {}"),
        "`correlation_id`, `message_id` or `timestamp`: the property that is hashed",
        exchanges="`x-consistent-hash`",
        compared=False,
    ),
    Argument(
        "x-recent-history-length",
        int,
        checks.positive,
        "how many messages a new queue gets, 20 if it is not given; 1,000 and 8 MiB of them at most",
        exchanges="`x-recent-history`",
        compared=False,
    ),
    Argument(
        "x-queue-type",
        str,
        checks.one_of("classic", "quorum", "stream", otherwise="\"unsupported queue type '{}'\""),
        "`classic` (the default), `quorum` or `stream`",
        ALL,
        field="queue_type",
    ),
    Argument(
        "x-expires",
        int,
        checks.positive_milliseconds,
        "ms without use after which the queue is deleted",
        NOT_STREAM,
        field="expires",
        maximum=EXPIRY_MAX,
        policy=PolicySetting("{} is not a valid queue expiry", Merge.SMALLER, operator=True),
    ),
    Argument(
        "x-message-ttl",
        int,
        checks.milliseconds,
        "ms after which a message expires",
        NOT_STREAM,
        field="message_ttl",
        maximum=EXPIRY_MAX,
        policy=PolicySetting("{} is not a valid message TTL", Merge.SMALLER, operator=True),
    ),
    Argument(
        "x-dead-letter-exchange",
        str,
        checks.text,
        "exchange for messages that are rejected, expire or are dropped; empty for the default exchange",
        NOT_STREAM,
        field="dead_letter_exchange",
        policy=PolicySetting("{} is not a valid dead letter exchange name", Merge.ARGUMENT),
    ),
    Argument(
        "x-dead-letter-routing-key",
        str,
        checks.routing_key,
        "routing key of dead letters; without it they keep their own; needs `x-dead-letter-exchange`",
        NOT_STREAM,
        field="dead_letter_routing_key",
        policy=PolicySetting("{} is not a valid dead letter routing key", Merge.ARGUMENT),
    ),
    Argument(
        "x-dead-letter-strategy",
        str,
        checks.one_of("at-most-once", "at-least-once", otherwise="invalid_dlx_strategy"),
        "`at-most-once` or `at-least-once`: checked, and without effect",
        QUORUM,
        policy=PolicySetting("{} is not a valid dead letter strategy"),
    ),
    Argument(
        "x-max-length",
        int,
        checks.natural,
        "largest number of ready messages",
        NOT_STREAM,
        field="max_length",
        policy=PolicySetting("{} is not a valid maximum length", Merge.SMALLER, operator=True),
    ),
    Argument(
        "x-max-length-bytes",
        int,
        checks.natural,
        "largest size of the bodies of ready messages; of a stream, its size on disk",
        ALL,
        field="max_length_bytes",
        policy=PolicySetting("{} is not a valid maximum length in bytes", Merge.SMALLER, operator=True),
    ),
    Argument(
        "x-max-in-memory-length",
        int,
        checks.natural,
        "the memory of all queues has one bound: checked, and without effect",
        QUORUM,
        policy=PolicySetting(
            "{} is not a valid maximum memory in bytes", operator=True, queue_types=NOT_STREAM
        ),
    ),
    Argument(
        "x-max-in-memory-bytes",
        int,
        checks.natural,
        "the memory of all queues has one bound: checked, and without effect",
        QUORUM,
        policy=PolicySetting(
            "{} is not a valid maximum memory in bytes", operator=True, queue_types=NOT_STREAM
        ),
    ),
    Argument(
        "x-max-priority",
        int,
        checks.priority,
        "highest priority of messages, 255 at most; without it all messages have the same priority",
        CLASSIC,
        field="max_priority",
    ),
    Argument(
        "x-overflow",
        str,
        checks.one_of("drop-head", "reject-publish", "reject-publish-dlx", otherwise="invalid_overflow"),
        "`drop-head` (the default), `reject-publish` or `reject-publish-dlx`: what a queue does at its "
        "limit; a quorum queue treats the last like `drop-head`",
        NOT_STREAM,
        field="overflow",
        policy=PolicySetting("{} is not a valid overflow value", Merge.ARGUMENT),
    ),
    Argument(
        "x-queue-mode",
        str,
        checks.one_of("default", "lazy", otherwise="\"unsupported queue mode '{}'\""),
        "`default` or `lazy`: checked, and without effect",
        CLASSIC,
        policy=PolicySetting("{} is not a valid queue-mode value"),
    ),
    Argument(
        "x-queue-version",
        int,
        checks.version,
        "1 or 2: checked, and without effect",
        CLASSIC,
        policy=PolicySetting("{} is not a valid queue-version value", queue_types=ALL),
    ),
    Argument(
        "x-single-active-consumer",
        bool,
        checks.boolean,
        "true: one consumer at a time receives messages, and the next one when that consumer ends",
        NOT_STREAM,
        field="single_active_consumer",
    ),
    Argument(
        "x-quorum-initial-group-size",
        int,
        checks.positive,
        _REPLICAS,
        QUORUM,
    ),
    Argument(
        "x-quorum-target-group-size",
        int,
        checks.positive,
        _REPLICAS,
        ALL,
        compared=False,
        policy=PolicySetting(
            "{} is not a valid target group size", key="target-group-size", queue_types=QUORUM
        ),
    ),
    Argument(
        "x-queue-leader-locator",
        str,
        checks.one_of("client-local", "balanced", "random", "least-leaders", otherwise=_LOCATOR),
        _PLACEMENT,
        REPLICATED,
        policy=PolicySetting("{} is not a valid queue leader locator value"),
    ),
    Argument(
        "x-queue-master-locator",
        str,
        checks.one_of("min-masters", "client-local", "random", otherwise=_LOCATOR),
        _PLACEMENT,
        CLASSIC,
        policy=PolicySetting("{} invalid queue-master-locator value"),
    ),
    Argument(
        "x-delivery-limit",
        int,
        checks.integer,
        "number of requeues after which a message is dead-lettered or dropped; the default is the setting "
        "`queue.default_delivery_limit`, and a negative number is no limit",
        QUORUM,
        field="delivery_limit",
        read=_limit_or_none,
        policy=PolicySetting("{} is not a valid delivery limit", Merge.SMALLER, operator=True),
    ),
    Argument(
        "x-consumer-timeout",
        int,
        checks.natural,
        "ms after which an unacknowledged delivery closes its channel",
        ALL,
        field="consumer_timeout",
        compared=False,
        policy=PolicySetting("{} is not a valid consumer timeout", Merge.SMALLER, queue_types=NOT_STREAM),
    ),
    Argument(
        "x-message-deduplication",
        bool,
        checks.boolean,
        "true: a message whose value is in the deduplication cache is confirmed and not enqueued",
        NOT_STREAM,
        "durable",
    ),
    Argument(
        "x-deduplication-header",
        str,
        checks.text,
        "name of the header whose value identifies a message; the default is `x-deduplication-header`",
        NOT_STREAM,
        "durable",
        not_in_send="in a SEND the header holds the value that identifies the message",
    ),
    Argument(
        "x-cache-size",
        int,
        checks.positive,
        "largest number of values in the deduplication cache; the default is 128; all values together may "
        "have 64 MiB",
        NOT_STREAM,
        "durable",
    ),
    Argument(
        "x-cache-ttl",
        int,
        checks.positive_milliseconds,
        "ms after which a value is removed from the deduplication cache; without it only the size limits "
        "the cache",
        NOT_STREAM,
        "durable",
    ),
    Argument(
        "x-max-age",
        str,
        checks.max_age,
        "how long messages are kept: a number and one of `Y` `M` `D` `h` `m` `s`",
        STREAM,
        field="max_age",
        read=checks.parse_age,
        policy=PolicySetting("{} is not a valid max age", Merge.SMALLER),
    ),
    Argument(
        SEGMENT_SIZE,
        int,
        checks.natural,
        "size of the stream's segment files in bytes; the default is 500,000,000, the maximum 3,000,000,000; "
        "with 0 each chunk has a file of its own",
        STREAM,
        field="stream_segment_size",
        read=lambda size: min(size, SEGMENT_MAX),
        maximum=SEGMENT_MAX,
        policy=PolicySetting("{} is not a valid segment size", Merge.ARGUMENT),
    ),
    Argument(
        "x-stream-filter-size-bytes",
        int,
        checks.filter_size,
        "bytes of the filter of each chunk, 16 (the default) to 255",
        STREAM,
        field="stream_filter_size",
    ),
    Argument(
        "x-initial-cluster-size",
        int,
        checks.positive,
        _REPLICAS,
        STREAM,
        policy=PolicySetting("{} is not a valid cluster size"),
    ),
)

ARGUMENTS: Mapping[str, Argument] = {row.name: row for row in _ROWS}
QUEUE_ARGUMENTS: Mapping[str, Argument] = {row.name: row for row in _ROWS if row.queue_types}
EXCHANGE_ARGUMENTS: Mapping[str, Argument] = {row.name: row for row in _ROWS if row.exchanges}
POLICY_SETTINGS: Mapping[str, Argument] = {row.policy_key: row for row in _ROWS if row.policy is not None}

# RabbitMQ compares arguments in this order, and answers with the first difference.
RABBITMQ_ORDER: Mapping[QueueType, tuple[str, ...]] = {
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
    ),
    "stream": (
        "x-max-length-bytes",
        "x-queue-type",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",  # 3.13
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ),
}


def _compared(queue_type: QueueType) -> tuple[str, ...]:
    names = (row.name for row in _ROWS if row.compared and queue_type in row.queue_types)
    return tuple(dict.fromkeys((*RABBITMQ_ORDER[queue_type], *names)))


COMPARED: Mapping[QueueType, tuple[str, ...]] = {queue_type: _compared(queue_type) for queue_type in ALL}
COMPARED_OF_EXCHANGES = tuple(name for name, row in EXCHANGE_ARGUMENTS.items() if row.compared)
