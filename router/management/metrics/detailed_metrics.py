"""The metric families of ``/metrics/detailed`` and the metrics that belong to each of them.

A scrape names the families that it needs, which keeps it short on a broker with many queues. Names of metrics
begin with ``rabbitmq_detailed_``, those of virtual hosts and exchanges with ``rabbitmq_cluster_``.

Source: RabbitMQ 3.10's ``rabbitmq_prometheus`` plugin; ``queue_delivery_metrics``, ``queue_exchange_metrics``
and ``exchange_metrics`` are those of 3.13.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qsl

from leveret.router.management.call import ApiContext
from leveret.router.management.metrics.broker_metrics import GROUPS
from leveret.router.management.metrics.object_metrics import (
    Kind,
    channel_kind,
    connection_kind,
    delivery_kind,
    exchange_kind,
    publish_kind,
    queue_kind,
    vhost_kind,
)
from leveret.router.web.response_steps import ResponseSteps

Vhosts = frozenset[str] | None


class FamilyPart(NamedTuple):
    """One kind of objects in a family. ``make`` finds the objects, ``names`` are their metrics in the family
    (empty: all).
    """

    make: Callable[[ApiContext, Vhosts], ResponseSteps[Kind]]
    names: tuple[str, ...] = ()


PER_OBJECT: Mapping[str, FamilyPart] = {
    "queue_coarse_metrics": FamilyPart(
        queue_kind, ("queue_messages_ready", "queue_messages_unacked", "queue_messages")
    ),
    "queue_consumer_count": FamilyPart(queue_kind, ("queue_consumers",)),
    "queue_metrics": FamilyPart(
        queue_kind,
        (
            "queue_consumers",
            "queue_consumer_capacity",
            "queue_consumer_utilisation",
            "queue_process_memory_bytes",
            "queue_messages_ram",
            "queue_messages_ram_bytes",
            "queue_messages_ready_ram",
            "queue_messages_unacked_ram",
            "queue_messages_bytes",
            "queue_messages_ready_bytes",
            "queue_messages_paged_out",
            "queue_messages_paged_out_bytes",
            "queue_head_message_timestamp",
        ),
    ),
    "queue_delivery_metrics": FamilyPart(delivery_kind),
    "queue_exchange_metrics": FamilyPart(
        lambda context, vhosts: publish_kind(context, vhosts, "queue_exchange_messages_published")
    ),
    "channel_queue_exchange_metrics": FamilyPart(
        lambda context, vhosts: publish_kind(context, vhosts, "queue_messages_published")
    ),
    "connection_coarse_metrics": FamilyPart(
        lambda context, vhosts: connection_kind(context),
        ("connection_incoming_bytes", "connection_outgoing_bytes"),
    ),
    "connection_metrics": FamilyPart(
        lambda context, vhosts: connection_kind(context),
        ("connection_channels", "connection_incoming_packets", "connection_outgoing_packets"),
    ),
    "channel_metrics": FamilyPart(
        lambda context, vhosts: channel_kind(context),
        (
            "channel_consumers",
            "channel_messages_unacked",
            "channel_messages_unconfirmed",
            "channel_messages_uncommitted",
            "channel_acks_uncommitted",
            "consumer_prefetch",
            "channel_prefetch",
        ),
    ),
    "channel_exchange_metrics": FamilyPart(
        lambda context, vhosts: channel_kind(context),
        (
            "channel_messages_published",
            "channel_messages_confirmed",
            "channel_messages_unroutable_returned",
            "channel_messages_unroutable_dropped",
        ),
    ),
    "channel_queue_metrics": FamilyPart(
        lambda context, vhosts: channel_kind(context),
        (
            "channel_get_ack",
            "channel_get",
            "channel_messages_delivered_ack",
            "channel_messages_delivered",
            "channel_messages_redelivered",
            "channel_messages_acked",
            "channel_get_empty",
        ),
    ),
    "exchange_metrics": FamilyPart(
        lambda context, vhosts: exchange_kind(context), ("exchange_messages_published",)
    ),
    "vhost_status": FamilyPart(lambda context, vhosts: vhost_kind(context)),
    "exchange_names": FamilyPart(lambda context, vhosts: exchange_kind(context), ("cluster_exchange_name",)),
    "exchange_bindings": FamilyPart(
        lambda context, vhosts: exchange_kind(context), ("cluster_exchange_bindings",)
    ),
}
# Families of RabbitMQ without metrics in leveret. A scrape may name them and gets nothing for them, as
# RabbitMQ answers for a disabled plugin. docs/management.md gives the reasons.
EMPTY = frozenset(
    (
        "auth_attempt_detailed_metrics",
        "channel_process_metrics",
        "node_persister_metrics",
        "ra_metrics",
    )
)


@dataclass(frozen=True)
class ScrapeSelection:
    """The families and virtual hosts (None: all) that a scrape of ``/metrics/detailed`` selects."""

    families: frozenset[str]
    vhosts: Vhosts

    @classmethod
    def of_query(cls, text: str) -> "ScrapeSelection":
        """Parse the parameters ``family`` and ``vhost`` of a query, which may be repeated.

        Unknown families are ignored, as in RabbitMQ. Raises ValueError for more than 100 parameters.
        """
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
        families = frozenset(value for name, value in pairs if name == "family")
        vhosts = frozenset(value for name, value in pairs if name == "vhost")
        return cls(families & (PER_OBJECT.keys() | GROUPS.keys()), vhosts or None)


def select(kind: Kind, names: tuple[str, ...], seen: set[str]) -> list[int]:
    """Return the indexes of a kind's metrics that have these names (empty: all), and add them to ``seen``.

    Metrics that are in ``seen`` already, from another family of the same scrape, are left out.
    """
    families = (*kind.gauges, *kind.counters)
    chosen = [
        place
        for place, family in enumerate(families)
        if (not names or family.name in names) and family.name not in seen
    ]
    seen |= {families[place].name for place in chosen}
    return chosen
