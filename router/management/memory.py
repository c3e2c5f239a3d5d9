"""Memory use of the process by RabbitMQ's categories.

Counts what is known without traversing all objects of the process: messages in memory, by the type of their
queue, and bytes that wait to be sent. Everything else, such as the interpreter and its code, is
``other_system``, so that the categories add up to the resident memory. Categories of the Erlang VM are zero.
"""

from math import ceil

from router.broker import Broker
from router.management.clients import connections
from router.management.queues import memory_of
from router.web.steps import Steps

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


def parts(broker: Broker, total: int) -> Steps[dict[str, int]]:
    """Return bytes by category, which add up to ``total``."""
    found = dict.fromkeys(CATEGORIES, 0)
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    for start in range(0, len(queues), SLICE):
        if start:
            yield 0
        for queue in queues[start : start + SLICE]:
            found[BY_QUEUE_TYPE[queue.settings.queue_type]] += memory_of(queue)
    clients = connections(broker)
    for start in range(0, len(clients), SLICE):
        yield 0
        found["connection_writers"] += sum(client.outbox.size for client in clients[start : start + SLICE])
    known = sum(found.values())
    if known > total:  # estimates can exceed the total, which was measured earlier
        found = {name: size * total // known for name, size in found.items()}
    found["other_system"] = total - sum(found.values())
    return found


def percentages(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Return the sizes in percent of the total, rounded up."""
    return {name: ceil(size * 100 / total) if total else 0 for name, size in sizes.items()}
