"""Which metrics there are, under RabbitMQ's names where RabbitMQ has them.

Those of the broker, and those of queues, connections and channels, which are added up or told for each, no
more than ``MOST`` of a kind. How they are written is ``exposition``'s.

Source: RabbitMQ's ``rabbitmq_prometheus`` plugin.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from router.drops import REASONS
from router.management.call import World
from router.management.clients import Connection, connections
from router.management.node import MANAGEMENT_VERSION
from router.management.sampling import TOTAL, VHOST, added, of_churn, totals
from router.queue.kind import AnyQueue
from router.queue.paging import COST
from router.queue.queue import Queue
from router.session.session import Session
from router.stream.lag import lags
from router.stream.stream import Stream

MOST = 20_000  # objects of a kind that are told one by one
OWN = "leveret_"  # how metrics begin that RabbitMQ does not have
PROTOCOL = (("protocol", "all"),)  # RabbitMQ tells one from the other here

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """A metric: its name, without ``rabbitmq_`` where RabbitMQ has it, and what is told."""

    name: str
    help: str
    counter: bool = False


class Value(NamedTuple):
    """A metric of the broker, with its value."""

    family: Family
    value: float
    labels: Labels = ()


# -- the broker ----------------------------------------------------------------------------------------------


def of_broker(world: World) -> Iterator[Value]:
    """The metrics of the broker itself."""
    broker, node = world.broker, world.node
    raised, measured = broker.alarms.raised, node.measured()
    numbers = dict(
        zip(TOTAL, (*added((0,) * len(VHOST), *totals(broker).values()), *of_churn(broker)), strict=True)
    )

    def gauge(name: str, text: str, value: float, labels: Labels = ()) -> Value:
        return Value(Family(name, text), value, labels)

    def counter(name: str, text: str, value: float, labels: Labels = ()) -> Value:
        return Value(Family(name, text, counter=True), value, labels)

    name = broker.global_parameters.get("cluster_name", node.name)
    permanent = broker.global_parameters.get("internal_cluster_id", node.name)
    identity = (
        ("rabbitmq_node", node.name),
        ("rabbitmq_cluster", str(name)),
        ("rabbitmq_cluster_permanent_id", str(permanent)),
    )
    build = (
        ("rabbitmq_version", broker.settings.amqp.version),
        ("prometheus_plugin_version", MANAGEMENT_VERSION),
        ("product_name", "leveret"),
        ("product_version", node.version),
    )
    yield gauge("identity_info", "RabbitMQ node & cluster identity info", 1, identity)
    yield gauge("build_info", "RabbitMQ & Erlang/OTP version info", 1, build)
    yield gauge("alarms_memory_used_watermark", "is 1 if the memory alarm is in effect", "memory" in raised)
    yield gauge("alarms_free_disk_space_watermark", "is 1 if the disk alarm is in effect", "disk" in raised)
    yield gauge(
        "leveret_alarms_store_failing", "is 1 if writing to the data directory fails", "store" in raised
    )
    for kind in ("connection", "channel"):
        yield counter(f"{kind}s_opened", f"{kind.title()}s opened", numbers[f"{kind}_created"])
        yield counter(f"{kind}s_closed", f"{kind.title()}s closed", numbers[f"{kind}_closed"])
    for what in ("declared", "created", "deleted"):
        yield counter(f"queues_{what}", f"Queues {what}", numbers[f"queue_{what}"])
    yield gauge("process_open_fds", "Open file descriptors", measured.files)
    yield gauge("process_max_fds", "Open file descriptors limit", measured.files_max)
    yield gauge("process_open_tcp_sockets", "Open TCP sockets", measured.sockets)
    yield gauge("process_resident_memory_bytes", "Memory used in bytes", measured.memory)
    yield gauge("resident_memory_limit_bytes", "Memory high watermark in bytes", measured.memory_limit)
    if measured.disk_free is not None:
        yield gauge("disk_space_available_bytes", "Disk space available in bytes", measured.disk_free)
        yield gauge("disk_space_available_limit_bytes", "Disk space low watermark", measured.disk_limit)
    oldest = [age for _, queue in _queues(world) if (age := _age(world, queue)) is not None]
    text = "Seconds that the oldest ready message of any queue has waited"
    yield gauge("leveret_oldest_message_age_seconds", text, max(oldest, default=0))
    yield gauge("leveret_uptime_seconds", "Seconds since the start", node.uptime() / 1000)
    blocked = sum(client.status == "blocked" for client in connections(broker))
    yield gauge("leveret_connections_blocked", "Connections that are kept from publishing", blocked)
    for labels, messages, seconds in islice(_lags(world), MOST):
        yield gauge(
            "leveret_stream_lag_messages", "Messages that a named consumer is behind", messages, labels
        )
        yield gauge("leveret_stream_lag_seconds", "Seconds that a named consumer is behind", seconds, labels)
    for field, metric, text in GLOBAL:
        yield counter(f"global_messages_{metric}", text, numbers[field], PROTOCOL)
    for (reason, strategy), count in sorted(_dead_lettered(world).items()):
        labels = (("queue_type", "all"), ("dead_letter_strategy", strategy))
        text = f"Messages that left a queue: {reason}"
        yield counter(f"global_messages_dead_lettered_{reason}", text, count, labels)
    for cause in REASONS:
        labels = (("reason", cause),)
        yield counter(
            "leveret_messages_dropped", "Messages that nobody gets", broker.drops.counts[cause], labels
        )


GLOBAL = (
    ("publish", "received", "Messages received from publishers"),
    ("confirm", "confirmed", "Messages confirmed to publishers"),
    ("drop_unroutable", "unroutable_dropped", "Messages that reached no queue and were dropped"),
    ("return_unroutable", "unroutable_returned", "Messages that reached no queue and were returned"),
    ("deliver_get", "delivered", "Messages delivered"),
    ("deliver", "delivered_consume_manual_ack", "Messages delivered to consumers that acknowledge"),
    ("deliver_no_ack", "delivered_consume_auto_ack", "Messages delivered to consumers that do not"),
    ("get", "delivered_get_manual_ack", "Messages taken by basic.get, to be acknowledged"),
    ("get_no_ack", "delivered_get_auto_ack", "Messages taken by basic.get, not to be"),
    ("get_empty", "get_empty", "basic.get that found nothing"),
    ("redeliver", "redelivered", "Messages delivered again"),
    ("ack", "acknowledged", "Messages acknowledged"),
)


def _lags(world: World) -> Iterator[tuple[Labels, int, int]]:
    """How many messages and seconds the named consumers of streams are behind; of those that share a name the
    one that is farthest behind.
    """
    for vhost in world.broker.vhosts.values():
        for queue in vhost.queues.values():
            if not isinstance(queue, Stream):
                continue
            behind: dict[str, tuple[int, int]] = {}
            for lag in lags(queue):
                if lag.name is not None and (lag.active or lag.tag is None):
                    messages, seconds = behind.get(lag.name, (0, 0))
                    behind[lag.name] = max(messages, lag.messages), max(seconds, lag.seconds)
            for name, (messages, seconds) in behind.items():
                yield (("vhost", vhost.name), ("queue", queue.name), ("consumer", name)), messages, seconds


def _dead_lettered(world: World) -> dict[tuple[str, str], int]:
    """How many messages left queues as dead letters, by reason and by whether they went anywhere."""
    found: dict[tuple[str, str], int] = {}
    for vhost in world.broker.vhosts.values():
        for key, count in vhost.dead_lettered.items():
            found[key] = found.get(key, 0) + count
    return found


# -- kinds of objects ----------------------------------------------------------------------------------------

QUEUES = (
    Family("queue_messages_ready", "Messages ready to be delivered to consumers"),
    Family("queue_messages_unacked", "Messages delivered to consumers but not yet acknowledged"),
    Family("queue_messages", "Sum of ready and unacknowledged messages - total queue depth"),
    Family("queue_consumers", "Consumers on a queue"),
    Family("queue_messages_ready_bytes", "Size in bytes of ready messages"),
    Family("queue_messages_bytes", "Size in bytes of ready messages"),
    Family("queue_messages_ram", "Ready and unacknowledged messages in memory"),
    Family("queue_messages_ram_bytes", "Size in bytes of ready messages in memory"),
    Family("queue_messages_ready_ram", "Ready messages in memory"),
    Family("queue_messages_unacked_ram", "Unacknowledged messages in memory"),
    Family("queue_messages_paged_out", "Messages on disk only"),
    Family("queue_messages_paged_out_bytes", "Size in bytes of messages on disk only"),
    Family("queue_process_memory_bytes", "Memory in bytes that the queue's messages take up, about"),
)
QUEUE_COUNTERS = (
    Family("queue_messages_published", "Messages that came into a queue", counter=True),
    Family("leveret_queue_oldest_message_age_seconds", "Seconds that the oldest ready message has waited"),
)


def _queues(world: World) -> list[tuple[tuple[str, str], AnyQueue]]:
    return [
        ((vhost.name, queue.name), queue)
        for vhost in world.broker.vhosts.values()
        for queue in vhost.queues.values()
    ]


def _age(world: World, queue: AnyQueue) -> int | None:
    """Seconds that the oldest ready message has waited; None for none."""
    age = world.measures.oldest_age(queue) if isinstance(queue, Queue) else None
    return None if age is None else age // 1000


def of_queue(world: World, queue: AnyQueue) -> tuple[float, ...]:
    """The values of ``QUEUES``, then of ``QUEUE_COUNTERS``."""
    ready, unacked, size = len(queue.ready), queue.unacked, queue.bytes
    away = away_size = 0
    if isinstance(queue, Queue):
        away, away_size = queue.ready.away, queue.ready.away_size
    return (
        ready,
        unacked,
        ready + unacked,
        len(queue.consumers),
        size,
        size,
        ready - away + unacked,
        size - away_size,
        ready - away,
        unacked,
        away,
        away_size,
        size - away_size + COST * (ready - away),
        queue.published,
        _age(world, queue) or 0,
    )


CONNECTIONS = (
    Family("connection_channels", "Channels on a connection"),
    Family("leveret_connection_pending_bytes", "Bytes waiting to be sent on a connection"),
)
CONNECTION_COUNTERS = (
    Family("connection_incoming_bytes", "Bytes received on a connection", counter=True),
    Family("connection_outgoing_bytes", "Bytes sent on a connection", counter=True),
    Family("connection_incoming_packets", "Packets received on a connection", counter=True),
    Family("connection_outgoing_packets", "Packets sent on a connection", counter=True),
)


def of_connection(connection: Connection) -> tuple[float, ...]:
    """The values of ``CONNECTIONS``, then of ``CONNECTION_COUNTERS``."""
    traffic = connection.outbox.traffic
    return (
        len(connection.sessions()),
        connection.outbox.size,
        traffic.received,
        traffic.sent,
        traffic.reads,
        traffic.sends,
    )


CHANNELS = (
    Family("channel_consumers", "Consumers on a channel"),
    Family("channel_messages_unacked", "Delivered but not yet acknowledged messages"),
    Family("channel_messages_unconfirmed", "Published but not yet confirmed messages"),
    Family("channel_messages_uncommitted", "Messages in a transaction but not yet committed"),
    Family("channel_acks_uncommitted", "Acknowledgements in a transaction not yet committed"),
    Family("channel_prefetch", "Limit of unacknowledged messages for all consumers on a channel"),
)
CHANNEL_COUNTERS = tuple(
    Family(f"channel_{name}", text, counter=True)
    for name, text in (
        ("messages_published", "Messages published on a channel"),
        ("messages_confirmed", "Messages published on a channel and confirmed"),
        ("messages_unroutable_returned", "Messages returned to the publisher as unroutable"),
        ("messages_unroutable_dropped", "Messages dropped as unroutable"),
        ("messages_delivered_ack", "Messages delivered to consumers that acknowledge"),
        ("messages_delivered", "Messages delivered to consumers that do not"),
        ("messages_redelivered", "Messages delivered again"),
        ("messages_acked", "Messages acknowledged"),
        ("get_ack", "Messages taken by basic.get, to be acknowledged"),
        ("get", "Messages taken by basic.get, not to be"),
        ("get_empty", "basic.get that found nothing"),
    )
)


def of_channel(session: Session) -> tuple[float, ...]:
    """The values of ``CHANNELS``, then of ``CHANNEL_COUNTERS``."""
    transaction, confirms, given = session.transaction, session.confirms, session.given
    published, unacked = session.published, len(session.unacked)
    return (
        len(session.consumers),
        unacked,
        confirms.published - confirms.told if confirms is not None else 0,
        transaction.publishes if transaction is not None else 0,
        transaction.settles if transaction is not None else 0,
        session.prefetch,
        published.publish,
        published.confirm,
        published.return_unroutable,
        published.drop_unroutable,
        given.deliver,
        given.deliver_no_ack,
        given.redeliver,
        given.acknowledged(unacked),
        given.get,
        given.get_no_ack,
        given.get_empty,
    )


class Kind(NamedTuple):
    """The objects of one kind. ``counters`` are told for each only: in a sum those of what has gone would be
    missing.
    """

    name: str
    labels: tuple[str, ...]
    gauges: tuple[Family, ...]
    counters: tuple[Family, ...]
    objects: Sequence[tuple[tuple[str, ...], Any]]  # label values, and the object
    values: Callable[[Any], tuple[float, ...]]


def kinds(world: World) -> list[Kind]:
    """All objects there are now."""
    broker = world.broker
    clients = connections(broker)
    channels = [
        ((f"{client.ends.name} ({number})",), session)
        for client in clients
        for number, session in client.sessions().items()
    ]
    return [
        Kind("queues", ("vhost", "queue"), QUEUES, QUEUE_COUNTERS, _queues(world), partial(of_queue, world)),
        Kind(
            "connections",
            ("connection",),
            CONNECTIONS,
            CONNECTION_COUNTERS,
            [((client.ends.name,), client) for client in clients],
            of_connection,
        ),
        Kind("channels", ("channel",), CHANNELS, CHANNEL_COUNTERS, channels, of_channel),
    ]
