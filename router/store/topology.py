"""Exchanges, queues and bindings: from the metadata into a broker, as they were declared.

Owns what becomes of arguments that an earlier version took and that a client may not declare any more. Where
there is a nearest sense it holds, with a doubt that is told; the rest is a MetadataError that says whose
argument it is and what to do, so that nothing is brought back that nobody has declared.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import AmqpError, PreconditionFailed
from router.broker import Broker
from router.exchange import EXCHANGE_TYPES
from router.exchange.base import Exchange
from router.queue.kind import AnyQueue
from router.settings import Settings
from router.store.metadata import Metadata, MetadataError
from router.store.statements import BindingRow, ExchangeRow, QueueRow
from router.window import window_of

SEGMENT_SIZE = "x-stream-max-segment-size-bytes"


def bring_back_exchange(broker: Broker, row: ExchangeRow) -> tuple[Exchange, str]:
    """The exchange, made again, and what is not as its arguments say, "" if nothing. Raises MetadataError."""
    what, doubt = f"exchange '{row.name}' in vhost '{row.vhost}'", ""
    with _named(what, "delete the exchange there"):
        if row.type not in EXCHANGE_TYPES:
            raise PreconditionFailed(f"unknown exchange type '{row.type}'")
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
    broker.add_vhost(row.vhost).add_exchange(exchange)
    return exchange, doubt


def bring_back_queue(broker: Broker, row: QueueRow) -> tuple[AnyQueue, str]:
    """The queue, made again without its messages, and what is not as its arguments say, "" if nothing. Raises
    MetadataError.
    """
    way_out = (
        f"delete the queue there; 'leveret store dump' with --vhost '{row.vhost}' --queue '{row.name}' "
        "prints its messages"
    )
    with _named(f"queue '{row.name}' in vhost '{row.vhost}'", way_out):
        queue = broker.add_vhost(row.vhost).declare_queue(
            row.name, durable=True, auto_delete=row.auto_delete, arguments=row.arguments, restored=True
        )
    size, declared = queue.declared.stream_segment_size, row.arguments.get(SEGMENT_SIZE)
    if size == declared:
        return queue, ""
    return queue, f"its {SEGMENT_SIZE} of {declared!r} is taken for the largest, {size}"


def bring_back_binding(broker: Broker, row: BindingRow) -> None:
    """Bind again, if both ends are there. Raises MetadataError."""
    vhost = broker.add_vhost(row.vhost)
    source = vhost.exchanges.get(row.source)
    destination = (vhost.queues if row.kind == "queue" else vhost.exchanges).get(row.destination)
    if source is None or destination is None:
        return
    what = (
        f"binding of exchange '{row.source}' to {row.kind} '{row.destination}' in vhost '{row.vhost}' "
        f"with routing key '{row.routing_key}'"
    )
    with _named(what, "unbind it there"):
        vhost.bind(source, destination, row.routing_key, row.arguments)


def refusals(metadata: Metadata) -> tuple[list[str], list[str]]:
    """For what a broker would not start, and what it would not take as it is; both in words."""
    broker = Broker(Settings())
    refused: list[str] = []
    doubts: list[str] = []
    for exchange in metadata.exchanges():
        try:
            doubt = bring_back_exchange(broker, exchange)[1]
        except MetadataError as error:
            refused.append(str(error))
        else:
            doubts += [f"exchange '{exchange.name}' in vhost '{exchange.vhost}': {doubt}"] if doubt else []
    for queue in metadata.queues():
        try:
            doubt = bring_back_queue(broker, queue)[1]
        except MetadataError as error:
            refused.append(str(error))
        else:
            doubts += [f"queue '{queue.name}' in vhost '{queue.vhost}': {doubt}"] if doubt else []
    for binding in metadata.bindings():
        try:
            bring_back_binding(broker, binding)
        except MetadataError as error:
            refused.append(str(error))
    return refused, doubts


@contextmanager
def _named(what: str, way_out: str) -> Iterator[None]:
    """Say of a refusal whose it is."""
    try:
        yield
    except AmqpError as error:
        raise MetadataError(
            f"{what} cannot be brought back: {_reason(error)}. Nothing was changed. Start the version of "
            f"leveret that kept it, and {way_out}"
        ) from None


def _reason(error: AmqpError) -> str:
    """What a client is told, without the name of the code."""
    return str(error).removeprefix(f"{error.name} - ")
