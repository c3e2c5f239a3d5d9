"""Placeholder values for fields of RabbitMQ's responses that have no counterpart in leveret.

They describe the Erlang VM, mirrored queues and RabbitMQ's message store. Generated clients and clients that
decode into fixed types fail if a field is missing, so each field is present, with RabbitMQ's type and the
value zero. docs/management.md lists them.
"""

from collections.abc import Iterable

from leveret.router.management.json_values import Object

GARBAGE_COLLECTION = {
    "fullsweep_after": 0,
    "max_heap_size": 0,
    "min_bin_vheap_size": 0,
    "min_heap_size": 0,
    "minor_gcs": 0,
}
# Lengths of the queues of deleted objects in RabbitMQ's statistics.
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
DISK = (
    "disk_reads",
    "disk_writes",
)  # not counted by queue: pages are shared by all queues
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
    """Return counters with the value zero, each with its rate."""
    fields: Object = {}
    for name in names:
        fields[name] = 0
        fields[f"{name}_details"] = {"rate": 0.0}
    return fields


def process() -> Object:
    """Return the fields of the Erlang process of a queue, a channel or a connection."""
    return {"garbage_collection": GARBAGE_COLLECTION, **with_zeros(("reductions",))}


def backing_queue_status(ready: int, next_position: int) -> Object:
    """Return the internal state of a classic queue in RabbitMQ's form.

    ``ready`` is the number of ready messages, ``next_position`` that of the next message. RabbitMQ's ``q4``
    holds messages in memory; here all ready messages are counted there.
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
