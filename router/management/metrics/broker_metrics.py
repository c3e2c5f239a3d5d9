"""Metrics of the whole broker, under RabbitMQ's names if RabbitMQ has them.

Responsible for their names and values, in groups that RabbitMQ's ``/metrics/detailed`` calls families. Not
for metrics of single objects (see ``object_metrics``) nor for the output (see ``exposition``).

Source: RabbitMQ 3.10's ``rabbitmq_prometheus`` plugin. ``docs/management.md`` lists the additions.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from leveret.router.broker.broker import Broker
from leveret.router.management.call import ApiContext
from leveret.router.management.clients import ListedConnection, connections
from leveret.router.management.metrics.object_metrics import Family, age_seconds, all_queues
from leveret.router.management.node import MANAGEMENT_VERSION
from leveret.router.management.statistics.memory import owners
from leveret.router.management.statistics.rates import (
    SESSION,
    Numbers,
    added,
    delivered,
    of_session,
    published,
)
from leveret.router.session.session import Session
from leveret.router.stream.lag import lags
from leveret.router.stream.stream import Stream
from leveret.router.values.counters import SET_ASIDE
from leveret.router.vhost.drops import REASONS
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps

MOST = 20_000  # objects of a kind with metrics of their own
SLICE = 200  # objects that are visited before other tasks run
OWN = "leveret_"  # prefix of metrics that RabbitMQ does not have
# RabbitMQ counts what STOMP clients do as AMQP 0-9-1 too: its plugin speaks AMQP to the broker.
PROTOCOL = (("protocol", "amqp091"),)

Labels = tuple[tuple[str, str], ...]


class Value(NamedTuple):
    """A metric of the broker, with its value."""

    family: Family
    value: float
    labels: Labels = ()


def gauge(name: str, text: str, value: float, labels: Labels = ()) -> Value:
    """Return a gauge with its value."""
    return Value(Family(name, text), value, labels)


def counter(name: str, text: str, value: float, labels: Labels = ()) -> Value:
    """Return a counter with its value; the output adds ``_total`` to its name."""
    return Value(Family(name, text, "counter"), value, labels)


def untyped(name: str, text: str, value: float, labels: Labels = ()) -> Value:
    """Return a metric that has no type in RabbitMQ."""
    return Value(Family(name, text, "untyped"), value, labels)


# -- values that are known at once ---------------------------------------------------------------------------


def identity(context: ApiContext) -> Iterator[Value]:
    """Yield the names and versions of the broker; dashboards join all other metrics with these labels."""
    broker, node = context.broker, context.node
    permanent = broker.global_parameters.get("internal_cluster_id", node.name)
    build = (
        ("rabbitmq_version", broker.settings.amqp.version),
        ("prometheus_plugin_version", MANAGEMENT_VERSION),
        ("product_name", "leveret"),
        ("product_version", node.version),
    )
    yield untyped("build_info", "Versions, as labels", 1, build)
    labels = (
        ("rabbitmq_node", node.name),
        ("rabbitmq_cluster", broker.cluster_name),
        ("rabbitmq_cluster_permanent_id", str(permanent)),
    )
    yield untyped("identity_info", "Names of the node and its cluster, as labels", 1, labels)


def alarms(context: ApiContext) -> Iterator[Value]:
    """Yield the alarms."""
    raised, measured = context.broker.alarms.raised, context.node.measured()
    yield untyped("alarms_memory_used_watermark", "1 while the memory alarm is raised", "memory" in raised)
    yield untyped("alarms_free_disk_space_watermark", "1 while the disk alarm is raised", "disk" in raised)
    text = "1 while the process has as many files open as it may"
    yield untyped("alarms_file_descriptor_limit", text, 0 < measured.files_max <= measured.files)
    text = "1 while writing to the data directory fails"
    yield gauge("leveret_alarms_store_failing", text, "store" in raised)
    text = "Stored content that could not be read since the start, and was set aside or left out"
    for kind in SET_ASIDE:
        yield gauge("leveret_store_set_aside", text, context.broker.set_aside[kind], (("kind", kind),))


def cluster(context: ApiContext) -> Iterator[Value]:
    """Yield the metrics of a broker in a cluster; none for a broker alone."""
    if context.node.cluster is not None:
        for each in context.node.cluster.measurements(time.monotonic()):
            make = counter if each.type == "counter" else gauge
            yield make(f"leveret_cluster_{each.name}", each.text, each.value)


def records(context: ApiContext) -> Iterator[Value]:
    """Yield the number of records that could not be written to the journal."""
    text = "Messages, settlements, returns and notes that could not be written and were set aside"
    for kind, count in context.broker.storage.unpackable.items():
        yield counter("leveret_store_records_set_aside", text, count, (("kind", kind),))


def churn(context: ApiContext) -> Iterator[Value]:
    """Yield the numbers of objects created and removed since the start."""
    counts = context.broker.churn
    for kind in ("connection", "channel"):
        yield counter(f"{kind}s_opened", f"{kind.title()}s opened", getattr(counts, f"{kind}_created"))
        yield counter(f"{kind}s_closed", f"{kind.title()}s closed", getattr(counts, f"{kind}_closed"))
    for what in ("declared", "created", "deleted"):
        yield counter(f"queues_{what}", f"Queues {what}", getattr(counts, f"queue_{what}"))


def node_use(context: ApiContext) -> Iterator[Value]:
    """Yield the resources that the process uses."""
    measured = context.node.measured()
    yield gauge("process_open_fds", "Files and sockets that the process has open", measured.files)
    yield gauge("process_open_tcp_sockets", "Connections of AMQP and STOMP clients", measured.sockets)
    yield gauge("process_resident_memory_bytes", "Resident memory of the process in bytes", measured.memory)
    if measured.disk_free is not None:
        text = "Free bytes in the data directory's file system"
        yield gauge("disk_space_available_bytes", text, measured.disk_free)


def node_limits(context: ApiContext) -> Iterator[Value]:
    """Yield the limits of resources, and the uptime."""
    measured = context.node.measured()
    yield gauge("process_max_fds", "Files and sockets that the process may have open", measured.files_max)
    text = "Limit of open files; sockets have no limit of their own"
    yield gauge("process_max_tcp_sockets", text, measured.files_max)
    text = "Bytes of memory at which the memory alarm is raised"
    yield gauge("resident_memory_limit_bytes", text, measured.memory_limit)
    if measured.disk_free is not None:
        text = "Bytes of free space at which the disk alarm is raised"
        yield gauge("disk_space_available_limit_bytes", text, measured.disk_limit)
    seconds = context.node.uptime() / 1000
    yield gauge("erlang_uptime_seconds", "Seconds since the broker's start; RabbitMQ's name for it", seconds)


def logins(context: ApiContext) -> Iterator[Value]:
    """Yield the login attempts since the start, or since their last reset."""
    for protocol, count in sorted(context.broker.logins.attempts.items()):
        labels = (("protocol", protocol),)
        yield counter("auth_attempts", "Attempts to log in", count.succeeded + count.failed, labels)
        yield counter("auth_attempts_succeeded", "Logins that succeeded", count.succeeded, labels)
        yield counter("auth_attempts_failed", "Logins that were refused", count.failed, labels)


def dead_letters(context: ApiContext) -> Iterator[Value]:
    """Yield the messages that left queues as dead letters."""
    found: dict[tuple[str, str], int] = {}
    for vhost in context.broker.vhosts.values():
        for key, count in vhost.queue_services.dead_lettered.items():
            found[key] = found.get(key, 0) + count
    for (reason, strategy), count in sorted(found.items()):
        labels = (("queue_type", "all"), ("dead_letter_strategy", strategy))
        yield counter(
            f"global_messages_dead_lettered_{reason}", f"Messages that left a queue: {reason}", count, labels
        )
    for cause in REASONS:
        count = context.broker.drops.counts[cause]
        yield counter("leveret_messages_dropped", "Messages dropped", count, (("reason", cause),))


Group = Callable[[ApiContext], Iterable[Value]]
# RabbitMQ's families of metrics without labels of objects.
GROUPS: Mapping[str, Group] = {
    "connection_churn_metrics": churn,
    "node_coarse_metrics": node_use,
    "node_metrics": node_limits,
    "auth_attempt_metrics": logins,
}


# -- values that need a visit of all objects -----------------------------------------------------------------

GLOBAL = (
    ("publish", "received", "Messages received from publishers"),
    ("publish_confirm", "received_confirm", "Messages received on channels with publisher confirms"),
    ("confirm", "confirmed", "Messages confirmed to publishers"),
    ("routed", "routed", "Copies of messages that were routed to queues"),
    ("drop_unroutable", "unroutable_dropped", "Messages that reached no queue and were dropped"),
    ("return_unroutable", "unroutable_returned", "Messages that reached no queue and were returned"),
    ("deliver_get", "delivered", "Messages delivered, or fetched with basic.get"),
    ("deliver", "delivered_consume_manual_ack", "Messages delivered to consumers that acknowledge"),
    (
        "deliver_no_ack",
        "delivered_consume_auto_ack",
        "Messages delivered to consumers with automatic acknowledgement",
    ),
    ("get", "delivered_get_manual_ack", "Messages fetched with basic.get, to be acknowledged"),
    ("get_no_ack", "delivered_get_auto_ack", "Messages fetched with basic.get, acknowledged at once"),
    ("get_empty", "get_empty", "Calls of basic.get that found the queue empty"),
    ("redeliver", "redelivered", "Messages delivered again"),
    ("ack", "acknowledged", "Messages acknowledged"),
)
# Counters of channels whose sums are those of the broker: counts of closed channels are included.
CHANNEL_SUMS = (
    ("publish", "messages_published", "Messages published"),
    ("confirm", "messages_confirmed", "Messages confirmed to publishers"),
    ("return_unroutable", "messages_unroutable_returned", "Messages returned: no queue takes them"),
    ("drop_unroutable", "messages_unroutable_dropped", "Messages dropped: no queue takes them"),
    ("deliver", "messages_delivered_ack", "Messages delivered to consumers that acknowledge"),
    ("deliver_no_ack", "messages_delivered", "Messages delivered with automatic acknowledgement"),
    ("redeliver", "messages_redelivered", "Messages delivered again"),
    ("ack", "messages_acked", "Messages acknowledged"),
    ("get", "get_ack", "Messages fetched with basic.get, to be acknowledged"),
    ("get_no_ack", "get", "Messages fetched with basic.get, acknowledged at once"),
    ("get_empty", "get_empty", "Calls of basic.get that found the queue empty"),
)


class SessionTotals(NamedTuple):
    """Counters of all sessions since the start, by RabbitMQ's names, and current numbers."""

    counters: Mapping[str, int]
    publishers: int
    consumers: int
    blocked: int


def count_totals(broker: Broker) -> ResponseSteps[SessionTotals]:
    """Add up the counters of all sessions, also of closed ones, a slice at a time.

    No counter shrinks from one scrape to the next. The sums of a virtual host's closed sessions are read in
    the same turn as the list of its open sessions, and a session that closes after that keeps its counters.
    """
    clients = connections(broker)
    by_vhost: dict[VHost | None, list[ListedConnection]] = {}
    for client in clients:
        by_vhost.setdefault(client.vhost, []).append(client)
    sessions: list[Session] = []
    numbers: Numbers = (0,) * len(SESSION)
    confirmable = routed = publishers = consumers = 0
    for number, vhost in enumerate(list(broker.vhosts.values()), 1):
        if not number % SLICE:
            yield 0
        past = vhost.past
        for client in by_vhost.get(vhost, ()):
            sessions += client.sessions().values()
        numbers = added(numbers, (*delivered(past.delivery_counters, past.ack), *published(past.published)))
        confirmable += past.published.publish_confirm
        vhost.routes.count()
        routed += past.routed + sum(exchange.routed for exchange in vhost.exchanges.values())
    for start in range(0, len(sessions), SLICE):
        yield 0
        for session in sessions[start : start + SLICE]:
            numbers = added(numbers, of_session(session))
            confirmable += session.confirms.published if session.confirms is not None else 0
            publishers += session.published.publish > 0
            consumers += len(session.consumers)
    blocked = 0
    for start in range(0, len(clients), SLICE):
        yield 0
        blocked += sum(client.status == "blocked" for client in clients[start : start + SLICE])
    counters = dict(zip(SESSION, numbers, strict=True))
    counters |= {"publish_confirm": confirmable, "routed": routed}
    return SessionTotals(counters, publishers, consumers, blocked)


def oldest_age(context: ApiContext) -> ResponseSteps[int]:
    """Return the seconds that the oldest ready message of any queue has waited, in steps."""
    queues = yield from all_queues(context)
    oldest = 0
    for start in range(0, len(queues), SLICE):
        yield 0
        for queue in queues[start : start + SLICE]:
            oldest = max(oldest, age_seconds(context, queue) or 0)
    return oldest


def of_broker(context: ApiContext) -> ResponseSteps[list[Value]]:
    """Return all metrics of the whole broker."""
    totals = yield from count_totals(context.broker)
    counters = totals.counters
    by_owner = yield from owners(context)
    values = [*identity(context), *alarms(context), *cluster(context), *records(context)]
    for group in GROUPS.values():
        values += group(context)
    values += [
        counter(f"global_messages_{name}", text, counters[field], PROTOCOL) for field, name, text in GLOBAL
    ]
    text = "Bytes of memory by owner; the sum is the resident memory"
    values += [
        gauge("leveret_memory_bytes", text, size, (("owner", owner),)) for owner, size in by_owner.items()
    ]
    text = "Channels that have published a message"
    values.append(gauge("global_publishers", text, totals.publishers, PROTOCOL))
    values.append(gauge("global_consumers", "Consumers", totals.consumers, PROTOCOL))
    values += dead_letters(context)
    values += [counter(f"channel_{name}", text, counters[field]) for field, name, text in CHANNEL_SUMS]
    text = "Copies of messages that were routed to queues"
    values.append(counter("queue_messages_published", text, counters["routed"]))
    oldest = yield from oldest_age(context)
    text = "Seconds that the oldest ready message of any queue has waited"
    values.append(gauge("leveret_oldest_message_age_seconds", text, oldest))
    text = "Seconds since the broker's start"
    values.append(gauge("leveret_uptime_seconds", text, context.node.uptime() / 1000))
    values += loop_times(context)
    text = "Connections blocked from publishing"
    values.append(gauge("leveret_connections_blocked", text, totals.blocked))
    values += yield from stream_lags(context)
    return values


def loop_times(context: ApiContext) -> Iterator[Value]:
    """Yield the times for which the event loop kept clients waiting."""
    broker = context.broker
    times, now = broker.turn_times, broker.now
    text = "Seconds that the longest turn of the event loop took, of the last one to two minutes"
    yield gauge("leveret_loop_longest_turn_seconds", text, times.longest(now).seconds)
    text = "Processor seconds of the turn that took the most, of the last one to two minutes"
    yield gauge("leveret_loop_longest_turn_cpu_seconds", text, times.longest_cpu(now).cpu_seconds)
    rounds = broker.round_times
    text = "Seconds that the longest round over all clients took, of the last one to two minutes"
    yield gauge("leveret_loop_longest_round_seconds", text, rounds.longest(now).seconds)
    text = "Processor seconds of the round that took the most, of the last one to two minutes"
    yield gauge("leveret_loop_longest_round_cpu_seconds", text, rounds.longest_cpu(now).cpu_seconds)
    text = "Turns of the event loop that took 50 ms or longer"
    yield counter("leveret_loop_slow_turns", text, times.slow)


def stream_lags(context: ApiContext) -> ResponseSteps[list[Value]]:
    """Return the lag of named consumers of streams, of at most ``MOST`` of them."""
    values: list[Value] = []
    queues = yield from all_queues(context)
    streams: list[Stream] = []
    for start in range(0, len(queues), SLICE):
        yield 0
        streams += [queue for queue in queues[start : start + SLICE] if isinstance(queue, Stream)]
    for labels, messages, seconds in islice(_lags(streams), MOST):
        if values and len(values) % SLICE == 0:
            yield 0
        text = "Messages that a named consumer is behind"
        values.append(gauge("leveret_stream_lag_messages", text, messages, labels))
        text = "Seconds that a named consumer is behind"
        values.append(gauge("leveret_stream_lag_seconds", text, seconds, labels))
    return values


def _lags(streams: Iterable[Stream]) -> Iterator[tuple[Labels, int, int]]:
    """Yield the lag of each named consumer of a stream in messages and seconds.

    If several consumers have the same name, yields the largest lag.
    """
    for stream in streams:
        behind: dict[str, tuple[int, int]] = {}
        for lag in lags(stream):
            if lag.name is not None and (lag.active or lag.tag is None):
                messages, seconds = behind.get(lag.name, (0, 0))
                behind[lag.name] = max(messages, lag.messages), max(seconds, lag.seconds)
        for name, (messages, seconds) in behind.items():
            yield (("vhost", stream.vhost), ("queue", stream.name), ("consumer", name)), messages, seconds
