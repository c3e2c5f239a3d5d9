"""Memory use of the process by RabbitMQ's categories.

Counts what is known without traversing all objects of the process: its memory at the start, messages in
memory by the type of their queue, the queues, connections and channels themselves, bytes that wait to be
sent, and memory that was freed and not given back to the system. Everything else is ``other_system``, so
that the categories add up to the resident memory. Categories of the Erlang VM are zero.
"""

from math import ceil

from leveret.router.broker import Broker
from leveret.router.management.clients import connections
from leveret.router.management.node import Measured
from leveret.router.management.queues import memory_of
from leveret.router.web.steps import Steps

SLICE = 500  # objects that are counted between two yields to other tasks
CATEGORIES = (  # RabbitMQ's
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "queue_slave_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
)
BY_QUEUE_TYPE = {
    "classic": "queue_procs",
    "quorum": "quorum_queue_procs",
    "stream": "stream_queue_procs",
}


# Bytes that each takes up without messages: 400 connections, 4000 channels and 4000 queues were measured.
CONNECTION, CHANNEL, QUEUE = 14_000, 4_100, 4_200


def parts(broker: Broker, measured: Measured) -> Steps[dict[str, int]]:
    """Return bytes by category, which add up to the measured memory of the process."""
    total = measured.memory
    found = dict.fromkeys(CATEGORIES, 0)
    found["code"] = measured.memory_at_start
    found["allocated_unused"] = measured.memory_freed
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    for start in range(0, len(queues), SLICE):
        if start:
            yield 0
        for queue in queues[start : start + SLICE]:
            found[BY_QUEUE_TYPE[queue.settings.queue_type]] += QUEUE + memory_of(queue)
    clients = connections(broker)
    for start in range(0, len(clients), SLICE):
        yield 0
        for client in clients[start : start + SLICE]:
            found["connection_writers"] += client.outbox.size
            found["connection_other"] += CONNECTION
            found["connection_channels"] += CHANNEL * len(client.sessions())
    known = sum(found.values())
    if known > total:  # estimates can exceed the total, which was measured earlier
        found = {name: size * total // known for name, size in found.items()}
    found["other_system"] = total - sum(found.values())
    return found


def percentages(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Return the sizes in percent of the total, rounded up."""
    return {name: ceil(size * 100 / total) if total else 0 for name, size in sizes.items()}
