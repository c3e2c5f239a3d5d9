"""The exchange types, by the name a client declares them with.

Each type has a file; ``base`` holds what they share. New types are added to ``EXCHANGE_TYPES`` and nowhere
else.
"""

from router.exchange.base import Binding, Destination, Exchange, Identity, identity
from router.exchange.direct import DirectExchange
from router.exchange.fanout import FanoutExchange
from router.exchange.topic import TopicExchange

EXCHANGE_TYPES: dict[str, type[Exchange]] = {
    cls.type: cls for cls in (DirectExchange, FanoutExchange, TopicExchange)
}

__all__ = ["EXCHANGE_TYPES", "Binding", "Destination", "Exchange", "Identity", "identity"]
