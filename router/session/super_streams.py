"""Super streams: an exchange and the streams that it spreads messages over, declared as one.

Each partition is a stream like any other, and order is kept within it. Without binding keys the exchange is a
consistent hash of routing keys, so that what has the same key comes to the same partition; with them it is a
direct one, and each key has a partition.

Source: RabbitMQ, "Super Streams", whose names of partitions these are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from protocol.errors import PreconditionFailed
from router.session.topology import Topology

PARTITIONS_MAX = 1000


def declare_super_stream(
    topology: Topology,
    name: str,
    *,
    partitions: int = 0,
    binding_keys: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> list[str]:
    """Make the exchange, its streams with these arguments, and the bindings, as far as they are not there;
    return the names of the streams. Raises PreconditionFailed, and what declaring and binding do.
    """
    if bool(partitions) == bool(binding_keys):
        raise PreconditionFailed("a super stream has either a number of partitions or binding keys")
    if not 0 <= partitions <= PARTITIONS_MAX or len(binding_keys) > PARTITIONS_MAX:
        raise PreconditionFailed(f"a super stream has 1 to {PARTITIONS_MAX} partitions")
    twice = [key for key, count in Counter(binding_keys).items() if count > 1]
    if twice:
        raise PreconditionFailed(f"binding key '{twice[0]}' is given {binding_keys.count(twice[0])} times")
    kind = "direct" if binding_keys else "x-consistent-hash"
    topology.declare_exchange(
        name, kind, durable=True, auto_delete=False, internal=False, arguments={"x-super-stream": True}
    )
    streams = []
    for order, key in enumerate(binding_keys or map(str, range(partitions))):
        stream = f"{name}-{key}"
        topology.declare_queue(
            stream,
            durable=True,
            exclusive=False,
            auto_delete=False,
            arguments={**(arguments or {}), "x-queue-type": "stream"},
        )
        topology.bind_queue(stream, name, key if binding_keys else "1", {"x-stream-partition-order": order})
        streams.append(stream)
    return streams
