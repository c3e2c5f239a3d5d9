"""The base class of exchange types: attributes, bindings, and indexes of the bindings.

Responsible for an exchange's bindings and how they are found: all in the order of creation, one by its
identity, those of one destination. Not for the queues that a message finally reaches (selectors,
exchange-to-exchange bindings, alternate exchanges, duplicates between exchanges): see ``routing``.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from leveret.protocol.amqp.table import Value
from leveret.protocol.errors import PreconditionFailed
from leveret.router.deduplication.arguments import exchange_cache
from leveret.router.deduplication.cache import DeduplicationCache
from leveret.router.exchange.binding_selectors import BindingSelectors
from leveret.router.exchange.log import ExchangeLog
from leveret.router.turns.backlog import Slicing
from leveret.router.values.field_values import canonical

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message
    from leveret.router.selector import Selector

# Limit of the selectors of an exchange: 5 to 15 ms for a message that all must check in full
SELECTOR_COST = 50_000

Identity = tuple[
    str, str, str, Hashable
]  # destination kind, destination name, binding key, canonical arguments


class BindingDestination(Protocol):
    """The destination of a binding: a queue or another exchange."""

    @property
    def name(self) -> str: ...


class Binding:
    """A binding of an exchange to a queue or to another exchange.

    Compares by object; bindings that are the same for a client have equal ``identity``. ``selector`` is the
    compiled ``x-selector`` argument; routing evaluates it, an exchange never does.
    """

    __slots__ = ("arguments", "destination", "identity", "routing_key", "selector", "source")

    def __init__(
        self,
        source: "Exchange",
        destination: BindingDestination,
        routing_key: str,
        arguments: Mapping[str, Value] | None = None,
        selector: "Selector | None" = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.routing_key = routing_key
        self.arguments = {} if arguments is None else arguments
        self.selector = selector
        self.identity = identity(destination, routing_key, self.arguments)


def identity(destination: BindingDestination, routing_key: str, arguments: Mapping[str, Value]) -> Identity:
    """Return the identity of a binding within its exchange: destination, key, arguments in any order."""
    ordered = dict(sorted(arguments.items()))
    return (kind(destination), destination.name, routing_key, canonical(ordered))


def kind(destination: BindingDestination) -> str:
    """Return ``"exchange"`` or ``"queue"``, the destination types of RabbitMQ's management API."""
    return "exchange" if isinstance(destination, Exchange) else "queue"


class Exchange:
    """An exchange: the rule of its type that decides which of its bindings a message matches.

    A subclass sets ``type`` and ``description``, which are RabbitMQ's texts, and overrides ``match``. If it
    has an index of bindings, it also overrides ``_prepare``, ``_insert`` and ``_discard``.

    ``by_key``: matches depend on the routing key alone. Routing calls such an exchange for every key of a
    message (CC and BCC too) and may cache the result until a binding changes. ``any_key``: the result is the
    same for all keys. Any other exchange is called once for each message, with the message's own
    routing key: RabbitMQ's hash, random, headers and recent-history exchanges choose once, however many keys
    a message has. ``remembers``: ``match`` keeps the message, so it must be called once for each message.
    ``has_topic_permissions``: users' topic permissions apply to routing keys and binding keys.

    The constructor raises PreconditionFailed, with RabbitMQ's text, for arguments that the type refuses.
    """

    type: ClassVar[str]
    description: ClassVar[str]
    has_topic_permissions: ClassVar[bool] = False
    by_key: ClassVar[bool] = True
    any_key: ClassVar[bool] = False
    remembers: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Value] | None = None,
    ) -> None:
        self.name = name
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = {} if arguments is None else arguments
        alternate = self.arguments.get("alternate-exchange")
        # Changed by ExchangeGraph only: a policy may set an alternate, and routes depend on it.
        self.alternate = alternate if isinstance(alternate, str) else None
        self.deduplication: DeduplicationCache | None = None  # see ``apply_arguments``
        self.log: ExchangeLog | None = None  # see ``attach``
        self.planned = False  # True if a cached plan may lead through here; for ExchangeGraph and routing
        # Messages published here, and their copies that reached queues, updated by ``Routes.count``.
        self.published = self.routed = 0
        self.bindings: dict[Identity, Binding] = {}
        # By destination, so that removing a destination does not cost a scan of all other bindings.
        self._by_destination: dict[tuple[str, str], dict[Binding, None]] = {}
        self._snapshot: tuple[Binding, ...] | None = None
        self.selectors = BindingSelectors()
        self.to_exchanges = 0  # number of bindings to exchanges
        self._prepare()

    def apply_arguments(self, what: str) -> None:
        """Apply the arguments that every type has; ``what`` names the exchange in errors.

        Raises PreconditionFailed; the exchange can be used without the effect of the argument.
        """
        self.deduplication = exchange_cache(self.arguments, what, durable=self.durable)

    @property
    def has_notes(self) -> bool:
        """True if the exchange has notes to be stored."""
        return self.deduplication is not None

    def attach(self, log: ExchangeLog | None) -> None:
        """Store the notes of the exchange in ``log``."""
        self.log = log
        if self.deduplication is not None:
            self.deduplication.notes = None if log is None else log.notes

    def recall(self, notes: Mapping[bytes, bytes]) -> None:
        """Restore the deduplication cache from its notes. Raises ValueError and struct.error."""
        if self.deduplication is not None:
            self.deduplication.recall(notes)

    def forget_message(self, message: "Message") -> None:
        """Remove a refused message from the deduplication cache, so that it is accepted again."""
        if self.deduplication is not None:
            self.deduplication.forget(message)

    def check_binding(self, routing_key: str, arguments: Mapping[str, Value]) -> None:
        """Raise PreconditionFailed, with RabbitMQ's text, for a binding that this type does not accept."""

    def check_selector(self, selector: "Selector") -> None:
        """Raise PreconditionFailed if the selectors of all bindings would exceed the limit on their cost."""
        if self.selectors.cost + selector.cost > SELECTOR_COST:
            raise PreconditionFailed(
                f"invalid arg 'x-selector': the selectors of exchange '{self.name}' have a cost of "
                f"{self.selectors.cost}, this one adds {selector.cost}, and the limit is {SELECTOR_COST}; "
                f"divide the bindings among several exchanges"
            )

    def match(self, routing_key: str, message: "Message") -> Sequence[Binding]:
        """Return the bindings whose rule the message meets, each once. The default is all bindings."""
        return self.snapshot()

    def search(self, routing_key: str, message: "Message") -> Slicing[Sequence[Binding]]:
        """Return the bindings that ``match`` returns, in slices, for types that may have to check many
        bindings.

        Bindings that are added or removed between two slices may be found or not.
        """
        return self.match(routing_key, message)
        yield

    def history(self) -> Sequence["Message"]:
        """Return the messages for a newly bound queue, the oldest first."""
        return ()

    def find(self, identity: Identity) -> Binding | None:
        """Return the binding with this identity, or None."""
        return self.bindings.get(identity)

    def bound_to(self, destination: BindingDestination) -> list[Binding]:
        """Return all bindings to ``destination``, in the order of creation."""
        return list(self._by_destination.get((kind(destination), destination.name), ()))

    def add(self, binding: Binding) -> bool:
        """Add a binding. Returns False, and changes nothing, if one of the same identity exists."""
        if binding.identity in self.bindings:
            return False
        self.bindings[binding.identity] = binding
        self.to_exchanges += isinstance(binding.destination, Exchange)
        if binding.selector is not None:
            self.selectors.add(binding, binding.selector)
        self._by_destination.setdefault(binding.identity[:2], {})[binding] = None
        self._insert(binding)
        self._snapshot = None
        return True

    def remove(self, binding: Binding) -> bool:
        """Remove the binding with the identity of ``binding``. Returns False if there is none."""
        bound = self.bindings.pop(binding.identity, None)
        if bound is None:
            return False
        self.to_exchanges -= isinstance(bound.destination, Exchange)
        if bound.selector is not None:
            self.selectors.remove(bound, bound.selector)
        siblings = self._by_destination[bound.identity[:2]]
        del siblings[bound]
        if not siblings:
            del self._by_destination[bound.identity[:2]]
        self._discard(bound)
        self._snapshot = None
        return True

    def remove_destination(self, destination: BindingDestination) -> list[Binding]:
        """Remove and return all bindings to ``destination``. The cost depends only on their number."""
        removed = self.bound_to(destination)
        for binding in removed:
            self.remove(binding)
        return removed

    def snapshot(self) -> tuple[Binding, ...]:
        """Return all bindings in the order of creation; the same tuple until the next change."""
        if self._snapshot is None:
            self._snapshot = tuple(self.bindings.values())
        return self._snapshot

    def _prepare(self) -> None:
        """Read the arguments and set up the type's own index."""

    def _insert(self, binding: Binding) -> None:
        """Add a binding to the type's own index."""

    def _discard(self, binding: Binding) -> None:
        """Remove a binding from the type's own index."""
