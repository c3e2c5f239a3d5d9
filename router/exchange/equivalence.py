"""Comparison of a repeated exchange.declare with the existing exchange."""

from collections.abc import Mapping
from typing import Any

from leveret.router.arguments.table import COMPARED_OF_EXCHANGES
from leveret.router.exchange.base import Exchange
from leveret.router.values.equivalence import check_arguments, check_properties


def check_exchange_equivalence(
    exchange: Exchange,
    vhost: str,
    *,
    kind: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Mapping[str, Any],
) -> None:
    """Raise PreconditionFailed unless a declaration with these properties describes ``exchange``.

    RabbitMQ compares ``alternate-exchange`` alone. The arguments that exchanges share with queues are
    compared too, as they are for queues.
    """
    what = f"exchange '{exchange.name}' in vhost '{vhost}'"
    current = {
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
    }
    received = {"type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal}
    check_properties(what, current, received)
    check_arguments(what, exchange.arguments, arguments, COMPARED_OF_EXCHANGES)
