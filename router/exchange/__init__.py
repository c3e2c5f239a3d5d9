"""The exchange types, by the name a client declares them with.

Each type has a file; ``base`` holds what they share. New types are added to ``EXCHANGE_TYPES`` and nowhere
else.
"""

from router.exchange.base import Binding, Destination, Exchange, Identity, identity
from router.exchange.consistent_hash import ConsistentHashExchange
from router.exchange.direct import DirectExchange
from router.exchange.fanout import FanoutExchange
from router.exchange.headers import HeadersExchange
from router.exchange.modulus_hash import ModulusHashExchange
from router.exchange.random import RandomExchange
from router.exchange.recent_history import RecentHistoryExchange
from router.exchange.topic import TopicExchange

EXCHANGE_TYPES: dict[str, type[Exchange]] = {
    cls.type: cls
    for cls in (
        DirectExchange,
        FanoutExchange,
        TopicExchange,
        HeadersExchange,
        ConsistentHashExchange,
        ModulusHashExchange,
        RandomExchange,
        RecentHistoryExchange,
    )
}

__all__ = ["EXCHANGE_TYPES", "Binding", "Destination", "Exchange", "Identity", "identity"]
