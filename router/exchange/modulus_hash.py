"""The modulus-hash exchange of RabbitMQ's sharding plugin: the routing key's hash chooses one binding.

Every binding counts, so a queue that is bound twice gets twice the share. A change of the number of bindings
moves most keys; see ``consistent_hash`` for an exchange that moves few. RabbitMQ hashes a message's CC and
BCC keys as well.
"""

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.exchange.hashing import stable_hash

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message


class ModulusHashExchange(Exchange):
    """An exchange that chooses one binding for each routing key: the hash is an index into all bindings.

    The bindings are sorted by destination and binding key, not by creation, so that the order survives a
    restart.
    """

    type = "x-modulus-hash"
    description = "Modulus Hashing Exchange"
    by_key = False

    def _prepare(self) -> None:
        self._sorted: list[Binding] = []

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        if not self._sorted:
            return ()
        return (self._sorted[stable_hash(routing_key) % len(self._sorted)],)

    def _insert(self, binding: Binding) -> None:
        insort(self._sorted, binding, key=_order)

    def _discard(self, binding: Binding) -> None:
        first = bisect_left(self._sorted, _order(binding), key=_order)
        del self._sorted[self._sorted.index(binding, first)]


def _order(binding: Binding) -> tuple[str, str, str]:
    return binding.identity[:3]
