"""Fields of RabbitMQ's answers that describe an Erlang machine, a mirrored queue or RabbitMQ's own store.

leveret has none of those. Clients that are generated from a description, or decode into fixed types, fail
where a field is missing, so each is there with RabbitMQ's type and stands at zero. docs/management.md lists
them.
"""

from collections.abc import Iterable

from router.management.values import Object

GARBAGE_COLLECTION = {
    "fullsweep_after": 0,
    "max_heap_size": 0,
    "min_bin_vheap_size": 0,
    "min_heap_size": 0,
    "minor_gcs": 0,
}
# Lengths of queues that RabbitMQ's statistics keep of what was deleted.
METRICS_GC = dict.fromkeys(
    (
        "channel_closed",
        "channel_consumer_deleted",
        "connection_closed",
        "consumer_deleted",
        "exchange_deleted",
        "node_node_deleted",
        "queue_deleted",
        "vhost_deleted",
    ),
    0,
)
DISK = ("disk_reads", "disk_writes")  # of messages; pages are read and written for all queues together
# Counters of a node, in RabbitMQ's order.
NODE = (
    "gc_bytes_reclaimed",
    "io_read_count",
    "io_read_bytes",
    "io_read_avg_time",
    "io_write_count",
    "io_write_bytes",
    "io_write_avg_time",
    "io_sync_count",
    "io_sync_avg_time",
    "io_seek_count",
    "io_seek_avg_time",
    "io_reopen_count",
    "mnesia_ram_tx_count",
    "mnesia_disk_tx_count",
    "msg_store_read_count",
    "msg_store_write_count",
    "queue_index_read_count",
    "queue_index_write_count",
)


def with_zeros(names: Iterable[str]) -> Object:
    """Counters that stand at zero, each with its rate."""
    told: Object = {}
    for name in names:
        told[name] = 0
        told[f"{name}_details"] = {"rate": 0.0}
    return told


def process() -> Object:
    """What RabbitMQ tells of the Erlang process of a queue, a channel or a connection."""
    return {"garbage_collection": GARBAGE_COLLECTION, **with_zeros(("reductions",))}


def backing_queue_status(ready: int, next_position: int) -> Object:
    """What RabbitMQ tells of the inside of a classic queue: how many messages are ready and the number of the
    next one. All stand in one order here, which RabbitMQ would call ``q4``.
    """
    return {
        "avg_ack_egress_rate": 0.0,
        "avg_ack_ingress_rate": 0.0,
        "avg_egress_rate": 0.0,
        "avg_ingress_rate": 0.0,
        "delta": ["delta", "undefined", 0, 0, "undefined"],
        "len": ready,
        "mode": "default",
        "next_deliver_seq_id": next_position - ready,
        "next_seq_id": next_position,
        "q1": 0,
        "q2": 0,
        "q3": 0,
        "q4": ready,
        "target_ram_count": "infinity",
        "version": 1,
    }
