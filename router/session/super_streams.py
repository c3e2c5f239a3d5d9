"""Super streams: an exchange with the streams that it distributes messages to, declared together.

Each partition is a stream like any other, and order is kept within it. Without binding keys the exchange is a
consistent hash of routing keys, so that messages with the same key go to the same partition. With binding
keys it is a direct exchange, and each key has a partition.

Source: RabbitMQ, "Super Streams", including the names of partitions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from leveret.protocol.errors import AmqpError, PreconditionFailed
from leveret.router.session.topology import Topology
from leveret.router.turns.backlog import Slicing
from leveret.router.values.bounds import check_name
from leveret.router.vhost.declare import clean_name

PARTITIONS_MAX = 1000


def declare_super_stream(
    topology: Topology,
    name: str,
    *,
    partitions: int = 0,
    binding_keys: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Slicing[list[str]]:
    """Declare the exchange, the streams (with ``arguments``) and their bindings; return the streams' names.
    Each slice declares one stream.

    Existing exchanges and streams are checked and kept. Raises PreconditionFailed and the errors of declaring
    and binding; the exchange and streams that this call created are deleted then.
    """
    if bool(partitions) == bool(binding_keys):
        raise PreconditionFailed("a super stream has either a number of partitions or binding keys")
    if not 0 <= partitions <= PARTITIONS_MAX or len(binding_keys) > PARTITIONS_MAX:
        raise PreconditionFailed(f"a super stream has 1 to {PARTITIONS_MAX} partitions")
    for key, count in Counter(map(clean_name, binding_keys)).items():
        if count > 1:
            raise PreconditionFailed(f"binding key '{key}' is given {count} times")
    name = clean_name(name)
    keys = {clean_name(f"{name}-{key}"): key for key in binding_keys or map(str, range(partitions))}
    for stream in keys:
        check_name("the name of a partition", stream)
    made: list[str] = []
    is_new = name not in topology.vhost.exchanges
    topology.declare_exchange(
        name,
        "direct" if binding_keys else "x-consistent-hash",
        durable=True,
        auto_delete=False,
        internal=False,
        arguments={"x-super-stream": True},
    )
    try:
        for order, (stream, key) in enumerate(keys.items()):
            if stream not in topology.vhost.queues:
                made.append(stream)
            topology.declare_queue(
                stream,
                durable=True,
                exclusive=False,
                auto_delete=False,
                arguments={**(arguments or {}), "x-queue-type": "stream"},
            )
            place = {"x-stream-partition-order": order}
            binding = topology.bind_queue_in_slices(stream, name, key if binding_keys else "1", place)
            yield from binding
            yield
    except AmqpError:
        for stream in made:
            if stream in topology.vhost.queues:  # another client may have deleted it meanwhile
                topology.delete_queue(stream, if_unused=False, if_empty=False)
                yield
        if is_new and name in topology.vhost.exchanges:
            topology.delete_exchange(name, if_unused=False)
        raise
    return list(keys)
