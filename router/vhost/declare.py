"""Creation of exchanges, queues and bindings, the same for clients, definitions and a restart.

Responsible for creating objects from their properties, and for the rules of names. The functions return an
object that is not part of its virtual host yet and has no log. ``VHost.declare_queue`` and similar methods
check the rules for new objects (equivalence, limits), then add and store the object;
``store.metadata.topology_restore`` adds objects that are stored already.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.argument import QueueType
from leveret.router.arguments.queue import merge_policy, parse_arguments
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Binding, Exchange
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.selector import SelectorError, compile_in_slices
from leveret.router.stream.stream import Stream
from leveret.router.turns.backlog import Slicing
from leveret.router.values.bounds import LINE_BREAKS

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost

RESERVED_PREFIX = "amq."  # of the names that only the broker gives
QUEUE_TYPES: dict[QueueType, Callable[..., AnyQueue]] = {"classic": Queue, "quorum": Queue, "stream": Stream}


def clean_name(name: str) -> str:
    """Return the name of an exchange or queue without line breaks, which RabbitMQ removes."""
    return name.translate(LINE_BREAKS)


def is_reserved(name: str) -> bool:
    """Return True if only the broker may create an exchange or queue of this name."""
    return name.startswith(RESERVED_PREFIX)


def make_exchange(
    vhost: str,
    name: str,
    kind: str,
    *,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: Mapping[str, Any] | None = None,
    apply_arguments: bool = True,
) -> Exchange:
    """Return a new exchange. Without ``apply_arguments``, arguments that all types of exchanges may have
    (such as those of deduplication) have no effect.

    Raises PreconditionFailed for arguments that are invalid.
    """
    exchange = EXCHANGE_TYPES[kind](
        name, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments or {}
    )
    if apply_arguments:
        exchange.apply_arguments(f"exchange '{name}' in vhost '{vhost}'")
    return exchange


def make_queue(
    vhost: "VHost",
    name: str,
    *,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: Mapping[str, Any],
    owner: object | None = None,
    restored: bool = False,
) -> AnyQueue:
    """Return a new queue with the settings of its arguments and of the policies that match it.

    ``owner`` is the connection that an exclusive queue belongs to. ``restored`` as in ``parse_arguments``.
    Raises PreconditionFailed for arguments that are invalid.
    """
    declared = parse_arguments(
        arguments,
        vhost=vhost.name,
        queue=name,
        durable=durable,
        exclusive=exclusive,
        auto_delete=auto_delete,
        default_delivery_limit=vhost.host.default_delivery_limit,
        restored=restored,
    )
    policy = vhost.policies.effective("queues", name, declared.queue_type)
    return QUEUE_TYPES[declared.queue_type](
        name,
        vhost.name,
        vhost.queue_services,
        durable=durable,
        auto_delete=auto_delete,
        owner=owner if exclusive else None,
        arguments=arguments,
        declared=declared,
        settings=merge_policy(declared, policy),
        now=vhost.host.now,
    )


def make_binding(
    source: Exchange, destination: AnyQueue | Exchange, routing_key: str, arguments: Mapping[str, Any]
) -> Slicing[Binding]:
    """Return a new binding, in slices, since a selector may take long to compile.

    Raises PreconditionFailed for arguments that the exchange refuses, and for an invalid selector.
    """
    source.check_binding(routing_key, arguments)
    selector = None
    if "x-selector" in arguments:
        text = arguments["x-selector"]
        if not isinstance(text, str):
            raise PreconditionFailed("invalid arg 'x-selector': a string is needed")
        try:
            selector = yield from compile_in_slices(text)
        except SelectorError as error:
            raise PreconditionFailed(f"invalid arg 'x-selector': {error}") from None
    return Binding(source, destination, routing_key, arguments, selector)
