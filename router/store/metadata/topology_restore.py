"""Restoring exchanges, queues and bindings into a virtual host from their rows.

Responsible for arguments that an earlier version accepted and that are invalid now. Where a near value
exists, the object is restored with it, and the change is returned as text. Otherwise the object is refused
and not restored.
"""

from functools import partial

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.table import SEGMENT_SIZE
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Exchange, identity
from leveret.router.queue.interface import AnyQueue
from leveret.router.store.metadata.statements import BindingRow, ExchangeRow, QueueRow
from leveret.router.turns.backlog import at_once
from leveret.router.values.bounds import check_name, check_stored_table
from leveret.router.vhost.declare import make_binding, make_exchange, make_queue
from leveret.router.vhost.vhost import VHost


def restore_exchange(vhost: VHost, row: ExchangeRow) -> tuple[Exchange, str]:
    """Restore an exchange; return it, and what differs from its arguments as text, "" if nothing does.

    Raises PreconditionFailed.
    """
    check_name("exchange", row.name)
    check_stored_table(f"exchange '{row.name}' in vhost '{row.vhost}'", row.arguments)
    if row.type not in EXCHANGE_TYPES:
        raise PreconditionFailed(f"unknown exchange type '{row.type}'")
    if row.name in vhost.exchanges:
        raise PreconditionFailed("every virtual host has an exchange of this name")
    make = partial(
        make_exchange,
        vhost.name,
        row.name,
        row.type,
        durable=True,
        auto_delete=row.auto_delete,
        internal=row.internal,
        arguments=row.arguments,
    )
    try:
        exchange, doubt = make(), ""
    except PreconditionFailed as error:
        exchange = make(apply_arguments=False)
        doubt = f"its arguments have no effect: {_reason(error)}"
    vhost.add_exchange(exchange)
    return exchange, doubt


def restore_queue(vhost: VHost, row: QueueRow) -> tuple[AnyQueue, str]:
    """Restore a queue without its messages; return it, and what differs from its arguments as text, "" if
    nothing does.

    Raises PreconditionFailed.
    """
    if not row.name or row.name in vhost.queues:
        raise PreconditionFailed("there is a queue of this name" if row.name else "it has no name")
    arguments = dict(row.arguments)
    check_name("queue", row.name)
    check_stored_table(f"queue '{row.name}' in vhost '{vhost.name}'", arguments)
    queue = make_queue(
        vhost, row.name, durable=True, auto_delete=row.auto_delete, arguments=arguments, restored=True
    )
    vhost.add_queue(queue)
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
    check_name("routing_key", row.routing_key)
    check_stored_table(f"a binding of exchange '{row.source}' in vhost '{vhost.name}'", row.arguments)
    if source.find(identity(destination, row.routing_key, row.arguments)) is None:
        vhost.add_binding(at_once(make_binding(source, destination, row.routing_key, row.arguments)))
    return True


def _reason(error: PreconditionFailed) -> str:
    """Return the text of the error without the name of its reply code."""
    return str(error).removeprefix(f"{error.name} - ")
