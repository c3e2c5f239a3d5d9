"""Metrics of single queues, connections, channels, virtual hosts and exchanges: names, labels and values.

Not for selecting, summing and writing metrics (see ``exposition``) nor for metrics of the whole broker (see
``broker_metrics``).

Source: RabbitMQ 3.10's ``rabbitmq_prometheus`` plugin; names and labels are RabbitMQ's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from leveret.router.exchange.base import Exchange
from leveret.router.management.call import ApiContext
from leveret.router.management.clients import ListedConnection, connections, vhost_of
from leveret.router.management.resources.queues import consumer_capacity, head_timestamp, memory_of
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.session.session import Session
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps, gathered

Values = tuple[float | None, ...]


class Family(NamedTuple):
    """A metric: its name and its help text. Metrics that RabbitMQ has too are named without ``rabbitmq_``."""

    name: str
    help: str
    type: Literal["gauge", "counter", "untyped"] = "gauge"


class Kind(NamedTuple):
    """The objects of one kind and their metrics.

    ``counters`` are shown for single objects only: their sum over all existing objects would shrink when one
    is deleted, and Prometheus takes a smaller counter for a restart.
    """

    name: str
    labels: tuple[str, ...]
    gauges: tuple[Family, ...]
    counters: tuple[Family, ...]
    objects: list[Any]  # pairs of label values, and the object
    values: Callable[[Any], Values]  # of the gauges, then of the counters; None: the object has no such value


def _counters(prefix: str, texts: Sequence[tuple[str, str]]) -> tuple[Family, ...]:
    return tuple(Family(f"{prefix}{name}", text, "counter") for name, text in texts)


# -- queues --------------------------------------------------------------------------------------------------

QUEUES = (
    Family("queue_messages_ready", "Messages that wait in the queue"),
    Family("queue_messages_unacked", "Messages that consumers hold without having acknowledged them"),
    Family("queue_messages", "Ready and unacknowledged messages"),
    Family("queue_consumers", "Consumers of the queue"),
    Family("queue_messages_ready_bytes", "Bytes of the bodies of ready messages"),
    Family("queue_messages_bytes", "Bytes of the bodies of ready messages, without unacknowledged ones"),
    Family("queue_messages_ram", "Messages in memory, ready or unacknowledged"),
    Family("queue_messages_ram_bytes", "Bytes of the bodies of ready messages in memory"),
    Family("queue_messages_ready_ram", "Ready messages in memory"),
    Family("queue_messages_unacked_ram", "Unacknowledged messages in memory"),
    Family("queue_messages_paged_out", "Messages that are on disk only"),
    Family("queue_messages_paged_out_bytes", "Bytes of the bodies of messages that are on disk only"),
    Family("queue_process_memory_bytes", "Estimated memory of the queue's messages in bytes"),
    Family("queue_consumer_capacity", "1 if a consumer could take a message at once, else 0"),
    Family("queue_consumer_utilisation", "The same as rabbitmq_queue_consumer_capacity"),
)
QUEUE_COUNTERS = (
    *_counters("queue_", [("messages_published", "Messages that entered the queue, dead letters included")]),
    Family("leveret_queue_oldest_message_age_seconds", "Seconds that the oldest ready message has waited"),
    Family("queue_head_message_timestamp", "Timestamp property of the first ready message, if it has one"),
)
DELIVERIES = _counters(
    "queue_",
    [
        ("get_ack", "Messages fetched from the queue with basic.get, to be acknowledged"),
        ("get", "Messages fetched from the queue with basic.get, acknowledged at once"),
        ("messages_delivered_ack", "Messages delivered to consumers that acknowledge"),
        ("messages_delivered", "Messages delivered to consumers with automatic acknowledgement"),
        ("messages_redelivered", "Messages delivered again"),
        ("messages_acked", "Messages that consumers have acknowledged"),
        ("get_empty", "Calls of basic.get that found the queue empty"),
    ],
)


def all_queues(context: ApiContext) -> ResponseSteps[list[AnyQueue]]:
    """Return the queues of all virtual hosts."""
    vhosts = list(context.broker.vhosts.values())
    return gathered(queue for vhost in vhosts for queue in list(vhost.queues.values()))


def queues_of(
    context: ApiContext, vhosts: frozenset[str] | None = None
) -> ResponseSteps[list[tuple[tuple[str, str], AnyQueue]]]:
    """Return the queues of these virtual hosts (None: of all) with their label values."""
    return gathered(
        ((vhost.name, queue.name), queue)
        for vhost in list(context.broker.vhosts.values())
        if vhosts is None or vhost.name in vhosts
        for queue in list(vhost.queues.values())
    )


def age_seconds(context: ApiContext, queue: AnyQueue) -> int | None:
    """Return how long the oldest ready message has waited, in seconds; None without a ready message."""
    age = context.statistics.oldest_age(queue) if isinstance(queue, Queue) else None
    return None if age is None else age // 1000


def of_queue(context: ApiContext, queue: AnyQueue) -> Values:
    """Return the values of ``QUEUES``, then of ``QUEUE_COUNTERS``."""
    ready, unacked, size = len(queue.ready), queue.unacked, queue.bytes
    away = away_size = 0
    if isinstance(queue, Queue):
        away, away_size = queue.ready.away, queue.ready.away_size
    capacity = int(consumer_capacity(queue))
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
        memory_of(queue),
        capacity,
        capacity,
        queue.published,
        age_seconds(context, queue) or 0,
        head_timestamp(queue),
    )


def of_deliveries(queue: AnyQueue) -> Values:
    """Return the values of ``DELIVERIES``."""
    counts = queue.counts
    return (
        counts.get,
        counts.get_no_ack,
        counts.deliver,
        counts.deliver_no_ack,
        counts.redeliver,
        queue.acknowledged,
        counts.get_empty,
    )


# -- connections and channels --------------------------------------------------------------------------------

CONNECTIONS = (
    Family("connection_channels", "Channels on the connection"),
    Family("leveret_connection_pending_bytes", "Bytes that wait to be sent on the connection"),
)
CONNECTION_COUNTERS = _counters(
    "connection_",
    [
        ("incoming_bytes", "Bytes received on the connection"),
        ("outgoing_bytes", "Bytes sent on the connection"),
        ("incoming_packets", "Reads from the connection that brought bytes"),
        ("outgoing_packets", "Writes to the connection"),
    ],
)


def of_connection(connection: ListedConnection) -> Values:
    """Return the values of ``CONNECTIONS``, then of ``CONNECTION_COUNTERS``."""
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
    Family("channel_consumers", "Consumers on the channel"),
    Family("channel_messages_unacked", "Messages delivered on the channel and not acknowledged yet"),
    Family("channel_messages_unconfirmed", "Messages published on the channel and not confirmed yet"),
    Family("channel_messages_uncommitted", "Messages published in a transaction that is open"),
    Family("channel_acks_uncommitted", "Acknowledgements in a transaction that is open"),
    Family("consumer_prefetch", "Prefetch count of the channel's next consumer; 0 is no limit"),
    Family("channel_prefetch", "Prefetch count for all consumers of the channel together; 0 is no limit"),
)
CHANNEL_COUNTERS = _counters(
    "channel_",
    [
        ("messages_published", "Messages published on the channel"),
        ("messages_confirmed", "Messages published on the channel and confirmed"),
        ("messages_unroutable_returned", "Messages returned to the publisher because no queue takes them"),
        ("messages_unroutable_dropped", "Messages dropped because no queue takes them"),
        ("messages_delivered_ack", "Messages delivered to consumers that acknowledge"),
        ("messages_delivered", "Messages delivered to consumers with automatic acknowledgement"),
        ("messages_redelivered", "Messages delivered again"),
        ("messages_acked", "Messages acknowledged"),
        ("get_ack", "Messages fetched with basic.get, to be acknowledged"),
        ("get", "Messages fetched with basic.get, acknowledged at once"),
        ("get_empty", "Calls of basic.get that found the queue empty"),
    ],
)


def of_channel(session: Session) -> Values:
    """Return the values of ``CHANNELS``, then of ``CHANNEL_COUNTERS``."""
    transaction, confirms, deliveries = session.transaction, session.confirms, session.delivery_counters
    published, unacked = session.published, len(session.unacked)
    return (
        len(session.consumers),
        unacked,
        confirms.published - confirms.answered if confirms is not None else 0,
        transaction.publishes if transaction is not None else 0,
        transaction.settles if transaction is not None else 0,
        session.subscriptions.consumer_prefetch,
        session.deliveries.prefetch,
        published.publish,
        published.confirm,
        published.return_unroutable,
        published.drop_unroutable,
        deliveries.deliver,
        deliveries.deliver_no_ack,
        deliveries.redeliver,
        deliveries.acknowledged(unacked),
        deliveries.get,
        deliveries.get_no_ack,
        deliveries.get_empty,
    )


# -- virtual hosts and exchanges -----------------------------------------------------------------------------

VHOSTS = (Family("cluster_vhost_status", "1 if the virtual host is up, as it always is"),)
EXCHANGES = (
    Family("cluster_exchange_name", "1 for each exchange; labels show its name and type"),
    Family("cluster_exchange_bindings", "Bindings from the exchange"),
)
EXCHANGE_COUNTERS = _counters("exchange_", [("messages_published", "Messages published to the exchange")])


def of_vhost(vhost: VHost) -> Values:
    """Return the values of ``VHOSTS``."""
    return (1,)


def of_exchange(exchange: Exchange) -> Values:
    """Return the values of ``EXCHANGES``, then of ``EXCHANGE_COUNTERS``."""
    return 1, len(exchange.bindings), exchange.published


# -- the objects of each kind --------------------------------------------------------------------------------


def queue_kind(context: ApiContext, vhosts: frozenset[str] | None = None) -> ResponseSteps[Kind]:
    """Return the queues of these virtual hosts, or of all."""
    objects = yield from queues_of(context, vhosts)
    return Kind("queues", ("vhost", "queue"), QUEUES, QUEUE_COUNTERS, objects, partial(of_queue, context))


def connection_kind(context: ApiContext) -> ResponseSteps[Kind]:
    """Return the connections. RabbitMQ calls the label ``channel``; ``connection`` has the same value."""
    objects = yield from gathered(
        ((client.ends.name, client.ends.name, vhost_of(client)), client)
        for client in connections(context.broker)
    )
    labels = ("connection", "channel", "vhost")
    return Kind("connections", labels, CONNECTIONS, CONNECTION_COUNTERS, objects, of_connection)


def channel_kind(context: ApiContext) -> ResponseSteps[Kind]:
    """Return the channels. RabbitMQ's label ``channel`` is an Erlang process; here it is the channel's
    name.
    """
    objects = yield from gathered(
        ((f"{client.ends.name} ({number})", vhost_of(client)), session)
        for client in connections(context.broker)
        for number, session in list(client.sessions().items())
    )
    return Kind("channels", ("channel", "vhost"), CHANNELS, CHANNEL_COUNTERS, objects, of_channel)


def delivery_kind(context: ApiContext, vhosts: frozenset[str] | None) -> ResponseSteps[Kind]:
    """Return the queues with the metrics of deliveries that RabbitMQ has since 3.13."""
    objects = yield from queues_of(context, vhosts)
    return Kind("queues", ("vhost", "queue"), (), DELIVERIES, objects, of_deliveries)


def publish_kind(context: ApiContext, vhosts: frozenset[str] | None, name: str) -> ResponseSteps[Kind]:
    """Return the queues with the number of messages that entered them, as a metric called ``name``.

    RabbitMQ counts these messages by channel and exchange too. leveret does not, so those labels are left
    out; sums over them are the same. Dashboards use both ``vhost`` and ``queue_vhost`` for the virtual host.
    """
    family = Family(name, "Messages that entered the queue, dead letters included", "counter")
    queues = yield from queues_of(context, vhosts)
    objects = yield from gathered(((vhost, vhost, name), queue) for (vhost, name), queue in queues)
    labels = ("vhost", "queue_vhost", "queue")
    return Kind("queues", labels, (), (family,), objects, lambda queue: (queue.published,))


def vhost_kind(context: ApiContext) -> ResponseSteps[Kind]:
    """Return the virtual hosts."""
    objects = yield from gathered(((vhost.name,), vhost) for vhost in list(context.broker.vhosts.values()))
    return Kind("vhosts", ("vhost",), VHOSTS, (), objects, of_vhost)


def exchange_kind(context: ApiContext) -> ResponseSteps[Kind]:
    """Return the exchanges, without the default exchange, as in RabbitMQ."""
    objects: list[tuple[tuple[str, ...], Exchange]] = []
    for vhost in list(context.broker.vhosts.values()):
        vhost.routes.count()
        objects += yield from gathered(
            ((vhost.name, exchange.name, exchange.type), exchange)
            for exchange in list(vhost.exchanges.values())
            if exchange.name
        )
    labels = ("vhost", "exchange", "type")
    return Kind("exchanges", labels, EXCHANGES, EXCHANGE_COUNTERS, objects, of_exchange)


def kinds(context: ApiContext) -> ResponseSteps[list[Kind]]:
    """Return the kinds of objects that ``/metrics`` sums up and ``/metrics/per-object`` shows one by one."""
    queues = yield from queue_kind(context)
    clients = yield from connection_kind(context)
    return [queues, clients, (yield from channel_kind(context))]
