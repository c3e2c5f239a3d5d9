"""Exchanges, queues and bindings: from their rows into a virtual host, as they were declared.

Owns what becomes of arguments that an earlier version took and that a client may not declare any more. Where
there is a nearest sense it holds, with a doubt that is told. The rest is refused, and then there is no such
exchange, queue or binding: nothing is restored that nobody has declared.
"""

from protocol.errors import PreconditionFailed
from router.bounds import check_name, check_table
from router.exchange import EXCHANGE_TYPES
from router.exchange.base import Exchange
from router.queue.kind import AnyQueue
from router.store.statements import BindingRow, ExchangeRow, QueueRow
from router.vhost import VHost
from router.window import window_of

SEGMENT_SIZE = "x-stream-max-segment-size-bytes"


def restore_exchange(vhost: VHost, row: ExchangeRow) -> tuple[Exchange, str]:
    """The exchange, made again, and what is not as its arguments say, "" if nothing. Raises
    PreconditionFailed.
    """
    what, doubt = f"exchange '{row.name}' in vhost '{row.vhost}'", ""
    check_name("exchange", row.name)
    check_table(what, row.arguments)
    if row.type not in EXCHANGE_TYPES:
        raise PreconditionFailed(f"unknown exchange type '{row.type}'")
    if row.name in vhost.exchanges:
        raise PreconditionFailed("every virtual host has an exchange of this name")
    exchange = EXCHANGE_TYPES[row.type](
        row.name,
        durable=True,
        auto_delete=row.auto_delete,
        internal=row.internal,
        arguments=row.arguments,
    )
    try:
        exchange.deduplication = window_of(exchange, what)
    except PreconditionFailed as error:
        doubt = f"it takes messages as often as they come: {_reason(error)}"
    vhost.add_exchange(exchange)
    return exchange, doubt


def restore_queue(vhost: VHost, row: QueueRow) -> tuple[AnyQueue, str]:
    """The queue, made again without its messages, and what is not as its arguments say, "" if nothing. Raises
    PreconditionFailed.
    """
    if not row.name or row.name in vhost.queues:
        raise PreconditionFailed("there is a queue of this name" if row.name else "it has no name")
    queue = vhost.declare_queue(
        row.name, durable=True, auto_delete=row.auto_delete, arguments=row.arguments, restored=True
    )
    size, declared = queue.declared.stream_segment_size, row.arguments.get(SEGMENT_SIZE)
    if size == declared:
        return queue, ""
    return queue, f"its {SEGMENT_SIZE} of {declared!r} is taken for the largest, {size}"


def restore_binding(vhost: VHost, row: BindingRow) -> bool:
    """Bind again; False if one of the ends is not there. Raises PreconditionFailed."""
    source = vhost.exchanges.get(row.source)
    destination = (vhost.queues if row.kind == "queue" else vhost.exchanges).get(row.destination)
    if source is None or destination is None:
        return False
    vhost.bind(source, destination, row.routing_key, row.arguments, restored=True)
    return True


def _reason(error: PreconditionFailed) -> str:
    """What a client is told, without the name of the code."""
    return str(error).removeprefix(f"{error.name} - ")
