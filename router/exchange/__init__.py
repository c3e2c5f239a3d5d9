"""The exchange types, by the name that a client declares them with.

Each type has a file; ``base`` is their common class. A new type is added to ``EXCHANGE_TYPES``.
"""

from leveret.router.exchange.base import Binding, BindingDestination, Exchange, Identity, identity
from leveret.router.exchange.consistent_hash import ConsistentHashExchange
from leveret.router.exchange.direct import DirectExchange
from leveret.router.exchange.fanout import FanoutExchange
from leveret.router.exchange.headers import HeadersExchange
from leveret.router.exchange.modulus_hash import ModulusHashExchange
from leveret.router.exchange.random import RandomExchange
from leveret.router.exchange.recent_history import RecentHistoryExchange
from leveret.router.exchange.topic import TopicExchange

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

__all__ = ["EXCHANGE_TYPES", "Binding", "BindingDestination", "Exchange", "Identity", "identity"]
