"""Memory use of the process by owner, and by RabbitMQ's categories.

The figures are computed from counters, without traversing all objects of the process; sizes of objects are
measured averages. Memory that was freed but not returned to the system has an owner too. All other memory is
``unexplained``, so that the owners add up to the resident memory: ``tests/router/server/test_memory.py``
bounds it. Categories of the Erlang VM are zero.
"""

from collections.abc import Mapping
from itertools import islice
from math import ceil

from leveret.router.broker.broker import Broker
from leveret.router.management.call import ApiContext
from leveret.router.management.clients import connections
from leveret.router.management.resources.queues import MESSAGE, memory_of
from leveret.router.session.session import Session
from leveret.router.web.response_steps import ResponseSteps, gathered

SLICE = 500  # objects that are counted before other tasks run
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
OWNERS = {  # RabbitMQ's category of each owner
    "code": "code",  # the interpreter, modules and their objects
    "classic_queues": "queue_procs",  # queues with their messages in memory
    "quorum_queues": "quorum_queue_procs",
    "streams": "stream_queue_procs",
    "unacknowledged": "connection_channels",  # messages that clients hold
    "connections": "connection_other",
    "channels": "connection_channels",
    "unsent": "connection_writers",  # bytes that clients have not read yet
    "incomplete": "connection_readers",  # incomplete messages and transactions of clients
    "request_bodies": "binary",  # of HTTP
    "dead_letters": "other_proc",  # waiting for the end of an alarm
    "plans": "other_ets",  # cached routes
    "metadata": "mnesia",  # the store's records of durable queues
    "samples": "mgmt_db",  # samples of counters, for rates
    "allocator": "allocated_unused",  # freed, and kept by the C library
    "unexplained": "other_system",
}
BY_QUEUE_TYPE = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}

# Bytes of an object without messages, measured with 1,000 connections and 10,000 queues.
CONNECTION, CHANNEL, QUEUE, DURABLE, SERIES = 16_000, 4_100, 4_200, 750, 1_700
PINNED = 1.1  # memory of incomplete messages by their bytes: parts of bodies keep the whole read (measured)
LOADED_LATER = 8_000_000  # bytes of modules that are loaded in the first seconds after the start
SAMPLED = 200  # held messages of a session whose mean size is taken as the mean of all


def owners(context: ApiContext) -> ResponseSteps[dict[str, int]]:
    """Return bytes by owner, which add up to the measured memory of the process."""
    broker, measured = context.broker, context.node.measured()
    found = dict.fromkeys(OWNERS, 0)
    if measured.memory_at_start:
        found["code"] = measured.memory_at_start + LOADED_LATER
    found["incomplete"] = round(PINNED * broker.incoming.held)
    found["request_bodies"] = measured.request_bodies
    found["dead_letters"] = broker.dead_letters.held_bytes
    found["plans"] = sum(vhost.routes.size for vhost in broker.vhosts.values())
    found["samples"] = SERIES * len(context.sampler)
    yield from _count_queues(broker, found)
    yield from _count_connections(broker, found)
    known = sum(found.values())
    # The C library also counts pages as free that it has returned.
    found["allocator"] = min(context.node.freed_memory(), max(measured.memory - known, 0))
    found["unexplained"] = measured.memory - known - found["allocator"]
    return found


def _count_queues(broker: Broker, found: dict[str, int]) -> ResponseSteps[None]:
    queues = yield from gathered(
        queue for vhost in list(broker.vhosts.values()) for queue in list(vhost.queues.values())
    )
    for start in range(0, len(queues), SLICE):
        if start:
            yield 0
        for queue in queues[start : start + SLICE]:
            found[BY_QUEUE_TYPE[queue.settings.queue_type]] += QUEUE + memory_of(queue)
            if queue.durable:
                found["metadata"] += DURABLE


def _count_connections(broker: Broker, found: dict[str, int]) -> ResponseSteps[None]:
    clients = connections(broker)
    for start in range(0, len(clients), SLICE):
        yield 0
        for client in clients[start : start + SLICE]:
            found["unsent"] += client.outbox.size
            found["connections"] += CONNECTION
            sessions = client.sessions().values()
            found["channels"] += CHANNEL * len(sessions)
            found["unacknowledged"] += sum(map(_held_by, sessions))


def _held_by(session: Session) -> int:
    """Estimate the memory of the messages that a session holds from the first of them."""
    count = len(session.unacked)
    if not count:
        return 0
    sizes = [held[2].message.size for _, held in islice(session.unacked, SAMPLED)]
    return count * (MESSAGE + sum(sizes) // len(sizes))


def parts(by_owner: Mapping[str, int]) -> dict[str, int]:
    """Return the bytes of all owners by RabbitMQ's categories. None is negative: if the estimates exceed the
    total, all are reduced in proportion.
    """
    total = sum(by_owner.values())
    found = dict.fromkeys(CATEGORIES, 0)
    for owner, category in OWNERS.items():
        found[category] += by_owner[owner]
    if found["other_system"] < 0:
        known = total - found["other_system"]
        found = {name: max(size, 0) * total // known for name, size in found.items()}
        found["other_system"] = total - sum(found.values())
    return found


def percentages(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Return the sizes in percent of the total, rounded up."""
    return {name: ceil(size * 100 / total) if total else 0 for name, size in sizes.items()}
