"""The direct exchange: a binding matches if its key is the routing key (AMQP 0-9-1 3.1.3.1)."""

from typing import TYPE_CHECKING

from leveret.router.exchange.base import Binding, Exchange

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message


class DirectExchange(Exchange):
    """Bindings by their key. Not for the default exchange, which stores no bindings."""

    type = "direct"
    description = "AMQP direct exchange, as per the AMQP specification"

    def _prepare(self) -> None:
        self._keyed: dict[str, dict[Binding, None]] = {}

    def match(self, routing_key: str, message: "Message") -> tuple[Binding, ...]:
        return tuple(self._keyed.get(routing_key, ()))

    def _insert(self, binding: Binding) -> None:
        self._keyed.setdefault(binding.routing_key, {})[binding] = None

    def _discard(self, binding: Binding) -> None:
        same_key = self._keyed[binding.routing_key]
        del same_key[binding]
        if not same_key:
            del self._keyed[binding.routing_key]
