"""Restoring exchanges, queues and bindings into a virtual host from their rows.

Responsible for arguments that an earlier version accepted and that are invalid now. Where a near value
exists, the object is restored with it, and the change is returned as text. Otherwise the object is refused
and not restored.
"""

from leveret.protocol.errors import PreconditionFailed
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Exchange
from leveret.router.queue.interface import AnyQueue
from leveret.router.store.metadata.statements import BindingRow, ExchangeRow, QueueRow
from leveret.router.values.bounds import check_name, check_table
from leveret.router.vhost.exchange_deduplication import window_of
from leveret.router.vhost.vhost import VHost

SEGMENT_SIZE = "x-stream-max-segment-size-bytes"


def restore_exchange(vhost: VHost, row: ExchangeRow) -> tuple[Exchange, str]:
    """Restore an exchange; return it, and what differs from its arguments as text, "" if nothing does.

    Raises PreconditionFailed.
    """
    what, doubt = f"exchange '{row.name}' in vhost '{row.vhost}'", ""
    check_name("exchange", row.name)
    check_table(what, row.arguments, restored=True)
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
        doubt = f"it does not deduplicate messages: {_reason(error)}"
    vhost.add_exchange(exchange)
    return exchange, doubt


def restore_queue(vhost: VHost, row: QueueRow) -> tuple[AnyQueue, str]:
    """Restore a queue without its messages; return it, and what differs from its arguments as text, "" if
    nothing does.

    Raises PreconditionFailed.
    """
    if not row.name or row.name in vhost.queues:
        raise PreconditionFailed("there is a queue of this name" if row.name else "it has no name")
    queue = vhost.declare_queue(
        row.name, durable=True, auto_delete=row.auto_delete, arguments=row.arguments, restored=True
    )
    size, declared = queue.declared.stream_segment_size, row.arguments.get(SEGMENT_SIZE)
    if size == declared:
        return queue, ""
    return queue, f"its {SEGMENT_SIZE} of {declared!r} is replaced by the largest size, {size}"


def restore_binding(vhost: VHost, row: BindingRow) -> bool:
    """Restore a binding; return False if its source or destination does not exist. Raises
    PreconditionFailed.
    """
    source = vhost.exchanges.get(row.source)
    destination = (vhost.queues if row.kind == "queue" else vhost.exchanges).get(row.destination)
    if source is None or destination is None:
        return False
    vhost.bind(source, destination, row.routing_key, row.arguments, restored=True)
    return True


def _reason(error: PreconditionFailed) -> str:
    """Return the text of the error without the name of its reply code."""
    return str(error).removeprefix(f"{error.name} - ")
