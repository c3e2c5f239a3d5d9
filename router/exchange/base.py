"""What every exchange type shares: its attributes, its bindings and their bookkeeping.

Owns which bindings an exchange has and how they are found: all of them in the order they were made, one by
its identity, those of one destination. Does not own who a message finally reaches (selectors,
exchange-to-exchange bindings, alternate exchanges, duplicates between exchanges): that is routing.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from leveret.protocol.amqp.table import Value
from leveret.protocol.errors import PreconditionFailed
from leveret.router.deduplication.arguments import exchange_cache
from leveret.router.deduplication.cache import DeduplicationCache
from leveret.router.exchange.log import ExchangeLog
from leveret.router.turns.backlog import Slicing
from leveret.router.values.field_values import canonical

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message
    from leveret.router.selector import Selector

SELECTOR_COST = 50_000  # of an exchange's selectors: 5 to 15 ms for a message that all must look at in full

Identity = tuple[
    str, str, str, Hashable
]  # destination kind, destination name, binding key, canonical arguments


class Destination(Protocol):
    """What a binding leads to: a queue or another exchange."""

    @property
    def name(self) -> str: ...


class Binding:
    """A route from an exchange to a queue or to another exchange.

    Compares by object; two bindings that a client would call the same have equal ``identity``. ``selector``
    is the compiled ``x-selector`` argument, asked by routing and never by an exchange.
    """

    __slots__ = ("arguments", "destination", "identity", "routing_key", "selector", "source")

    def __init__(
        self,
        source: "Exchange",
        destination: Destination,
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


def identity(destination: Destination, routing_key: str, arguments: Mapping[str, Value]) -> Identity:
    """What makes a binding of one exchange the same as another: destination, key, arguments in any order."""
    ordered = dict(sorted(arguments.items()))
    return (kind(destination), destination.name, routing_key, canonical(ordered))


def kind(destination: Destination) -> str:
    """``"exchange"`` or ``"queue"``, the destination types of RabbitMQ's management API."""
    return "exchange" if isinstance(destination, Exchange) else "queue"


class Exchange:
    """An exchange: a type's rule for which of its bindings a message matches.

    A subclass sets its ``type`` and ``description``, which are RabbitMQ's texts, and overrides ``match``;
    with an index of its own also ``_prepare``, ``_insert`` and ``_discard``.

    ``by_key`` says that matches depend on the routing key alone: routing asks such an exchange for every key
    of a message (CC and BCC too) and may keep the answer until a binding changes. ``any_key`` says that the
    answer is the same for all keys. Any other exchange is asked anew, once for each message and with the
    message's own routing key: RabbitMQ's hash, random, headers and recent-history exchanges choose once,
    however many keys a message carries. ``has_topic_permissions`` says that users' topic permissions apply to
    routing keys and binding keys.

    The constructor raises PreconditionFailed, with RabbitMQ's text, for arguments that the type refuses.
    """

    type: ClassVar[str]
    description: ClassVar[str]
    has_topic_permissions: ClassVar[bool] = False
    by_key: ClassVar[bool] = True
    any_key: ClassVar[bool] = False

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
        # Both are the graph's to change: a policy may set an alternate, and routes change from afar.
        self.alternate = alternate if isinstance(alternate, str) else None
        self.deduplication: DeduplicationCache | None = None  # see ``apply_arguments``
        self.log: ExchangeLog | None = None  # see ``attach``
        self.planned = False  # whether a plan that is kept may lead through here: for the graph and routing
        # Messages published here, and copies of them that reached queues, as ``Routes.count`` has it.
        self.published = self.routed = 0
        self.bindings: dict[Identity, Binding] = {}
        # A destination that goes away must not cost a scan of everyone else's bindings.
        self._by_destination: dict[tuple[str, str], dict[Binding, None]] = {}
        self._snapshot: tuple[Binding, ...] | None = None
        self.selector_cost = 0  # of the selectors of all bindings, each as its ``cost`` says
        self._prepare()

    def apply_arguments(self, what: str) -> None:
        """Act on the arguments that every type has; ``what`` names the exchange in errors.

        Raises PreconditionFailed; the exchange can be used without the effect of the argument.
        """
        self.deduplication = exchange_cache(self.arguments, what, durable=self.durable)

    @property
    def has_notes(self) -> bool:
        """Whether the exchange has notes to be stored."""
        return self.deduplication is not None

    def attach(self, log: ExchangeLog | None) -> None:
        """Have the notes of the exchange stored in ``log``."""
        self.log = log
        if self.deduplication is not None:
            self.deduplication.notes = None if log is None else log.notes

    def recall(self, notes: Mapping[bytes, bytes]) -> None:
        """Restore what the exchange remembers from its notes. Raises ValueError and struct.error."""
        if self.deduplication is not None:
            self.deduplication.recall(notes)

    def forget_message(self, message: "Message") -> None:
        """Accept a message again that was published here and then not kept."""
        if self.deduplication is not None:
            self.deduplication.forget(message.properties.headers)

    def check_binding(self, routing_key: str, arguments: Mapping[str, Value]) -> None:
        """Raise PreconditionFailed, with RabbitMQ's text, when this type takes no such binding."""

    def check_selector(self, selector: "Selector") -> None:
        """Raise PreconditionFailed if the exchange has selectors enough: all of them look at each message."""
        if self.selector_cost + selector.cost > SELECTOR_COST:
            raise PreconditionFailed(
                f"invalid arg 'x-selector': the selectors of exchange '{self.name}' have a cost of "
                f"{self.selector_cost}, this one adds {selector.cost}, and the limit is {SELECTOR_COST}; "
                f"divide the bindings among several exchanges"
            )

    def match(self, routing_key: str, message: "Message") -> Sequence[Binding]:
        """The bindings whose rule the message meets, each once. Unless the type says otherwise: all."""
        return self.snapshot()

    def search(self, routing_key: str, message: "Message") -> Slicing[Sequence[Binding]]:
        """Find the same in slices, for types that may have to look at many bindings. Of those that are bound
        or unbound meanwhile some may be found and others not.
        """
        return self.match(routing_key, message)
        yield

    def history(self) -> Sequence["Message"]:
        """Messages for a queue that was bound just now, the oldest first."""
        return ()

    def find(self, identity: Identity) -> Binding | None:
        """The binding with this identity, if there is one."""
        return self.bindings.get(identity)

    def bound_to(self, destination: Destination) -> list[Binding]:
        """All bindings that lead to ``destination``, in the order they were made."""
        return list(self._by_destination.get((kind(destination), destination.name), ()))

    def add(self, binding: Binding) -> bool:
        """Bind. False, and nothing changes, when a binding of the same identity is there already."""
        if binding.identity in self.bindings:
            return False
        self.bindings[binding.identity] = binding
        if binding.selector is not None:
            self.selector_cost += binding.selector.cost
        self._by_destination.setdefault(binding.identity[:2], {})[binding] = None
        self._insert(binding)
        self._snapshot = None
        return True

    def remove(self, binding: Binding) -> bool:
        """Unbind what has the identity of ``binding``. False when nothing has."""
        bound = self.bindings.pop(binding.identity, None)
        if bound is None:
            return False
        if bound.selector is not None:
            self.selector_cost -= bound.selector.cost
        siblings = self._by_destination[bound.identity[:2]]
        del siblings[bound]
        if not siblings:
            del self._by_destination[bound.identity[:2]]
        self._discard(bound)
        self._snapshot = None
        return True

    def remove_destination(self, destination: Destination) -> list[Binding]:
        """Unbind and return everything that leads to ``destination``. Costs only what it removes."""
        removed = self.bound_to(destination)
        for binding in removed:
            self.remove(binding)
        return removed

    def snapshot(self) -> tuple[Binding, ...]:
        """All bindings in the order they were made; the same tuple until the next change."""
        if self._snapshot is None:
            self._snapshot = tuple(self.bindings.values())
        return self._snapshot

    def _prepare(self) -> None:
        """Read the arguments and set up the type's own index."""

    def _insert(self, binding: Binding) -> None:
        """Add a binding to the type's own index."""

    def _discard(self, binding: Binding) -> None:
        """Take a binding out of the type's own index."""
