"""A virtual host: its exchanges, queues and bindings.

Responsible for the topology and its rules: names, equivalence, if-unused, auto-delete, exclusive owners.
``deletion`` deletes many objects in slices, ``policy_effects`` applies policies, ``queue_services`` serves
the queues, and ``exchange.invalidation`` keeps cached routes correct. Permissions are checked by
``session.topology``.
"""

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from leveret.protocol.amqp.message import unpack_route
from leveret.protocol.errors import NotFound, PreconditionFailed
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Binding, Exchange, identity
from leveret.router.exchange.base import kind as kind_of
from leveret.router.exchange.default import DefaultExchange
from leveret.router.exchange.equivalence import check_exchange_equivalence
from leveret.router.exchange.invalidation import ExchangeGraph
from leveret.router.exchange.routing import RoutePlan, Routes, Target
from leveret.router.queue.equivalence import check_queue_equivalence, locked
from leveret.router.queue.interface import AnyQueue
from leveret.router.turns.backlog import LongWork, Slices, Slicing, at_once
from leveret.router.values.bounds import check_name, check_table
from leveret.router.values.counters import EndedSessions
from leveret.router.values.limits import Limits, check_queues
from leveret.router.vhost.declare import make_binding, make_exchange, make_queue
from leveret.router.vhost.deletion import Deletion
from leveret.router.vhost.host import HoldingSession, VHostHost
from leveret.router.vhost.metadata import VHostMetadata
from leveret.router.vhost.policies import Policies
from leveret.router.vhost.policy_effects import PolicyEffects
from leveret.router.vhost.queue_services import QueueServices
from leveret.router.vhost.trace import TRACE, Firehose

PREDECLARED = (
    ("amq.direct", "direct", False),
    ("amq.fanout", "fanout", False),
    ("amq.headers", "headers", False),
    ("amq.match", "headers", False),
    ("amq.topic", "topic", False),
    (TRACE, "topic", True),
)


class VHost:
    """One virtual host."""

    def __init__(self, name: str, host: VHostHost) -> None:
        self.name = name
        self.host = host
        self.exchanges: dict[str, Exchange] = {"": DefaultExchange("", durable=True)}
        self.queues: dict[str, AnyQueue] = {}
        # Queues on disk that could not be restored: reasons by name. These names cannot be declared.
        self.unavailable: dict[str, str] = {}
        self.policies = Policies(name)
        self.policy_effects = PolicyEffects(self)
        self.metadata = VHostMetadata()
        self.limits: Limits = {}
        self.connections = 0  # of clients that are in it
        self.routes = Routes(self)
        self.graph = ExchangeGraph(self.routes)
        self.past = EndedSessions()
        self.firehose = Firehose()
        self.sessions: dict[HoldingSession, None] = {}  # that may hold messages of its queues
        self.queue_services = QueueServices(self)
        self.deletion = Deletion(self)
        self._reply_targets: dict[str, Target] = {}
        self._owned: dict[object, dict[AnyQueue, None]] = {}  # exclusive queues by their connection
        for exchange_name, kind, internal in PREDECLARED:
            self.add_exchange(EXCHANGE_TYPES[kind](exchange_name, durable=True, internal=internal))

    def clear(self) -> Slices:
        """Delete the queues and exchanges of a virtual host that is being deleted, in slices."""
        return self.deletion.delete_everything()

    def close(self) -> None:
        """Delete the objects that were declared since ``clear``; the virtual host has no connections any
        more.
        """
        for queue in list(self.queues.values()):
            self.delete_queue(queue)
        for exchange in self.exchanges.values():
            if exchange.log is not None:
                self.host.storage.forget_exchange(self.name, exchange)
        self.exchanges.clear()

    # -- routing -------------------------------------------------------------------------------------------

    def target(self, name: str) -> Target | None:
        return self.queues.get(name) or self._reply_targets.get(name)

    def plan(self, route: bytes) -> RoutePlan:
        """Return the plan for a packed route. Raises NotFound if the exchange does not exist."""
        plan = self.routes.plans.get(route)
        if plan is not None:
            return plan
        name, routing_key = unpack_route(route)
        return self.routes.plan(route, self.exchange(name), routing_key)

    def add_reply_target(self, target: Target) -> None:
        self._reply_targets[target.name] = target
        self.graph.target_changed(target.name)

    def remove_reply_target(self, target: Target) -> None:
        del self._reply_targets[target.name]
        self.graph.target_changed(target.name)

    # -- exchanges -----------------------------------------------------------------------------------------

    def exchange(self, name: str) -> Exchange:
        """Return the exchange of this name. Raises NotFound."""
        try:
            return self.exchanges[name]
        except KeyError:
            raise NotFound(f"no exchange '{name}' in vhost '{self.name}'") from None

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Exchange:
        """Return the exchange of this name, after making it if it does not exist. Raises PreconditionFailed
        if it has other properties.

        All checks come before the exchange is added or stored, so a refused declaration changes nothing.
        """
        arguments = arguments or {}
        check_name("exchange", name)
        check_table(f"exchange '{name}' in vhost '{self.name}'", arguments)
        existing = self.exchanges.get(name)
        if existing is not None:
            check_exchange_equivalence(
                existing,
                self.name,
                kind=kind,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
            return existing
        made = make_exchange(
            self.name,
            name,
            kind,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
        )
        if durable:
            made.attach(self.host.storage.keep_exchange(self.name, made))
        self.add_exchange(made)
        return made

    def add_exchange(self, exchange: Exchange) -> None:
        """Add a new exchange, whose storage is the caller's responsibility."""
        self.exchanges[exchange.name] = exchange
        self.graph.add(exchange)
        self.policy_effects.apply_to_exchange(exchange)

    def delete_exchange(self, exchange: Exchange, *, if_unused: bool = False) -> None:
        """Delete an exchange and every binding from it and to it."""
        if if_unused and exchange.bindings:
            raise PreconditionFailed(f"exchange '{exchange.name}' in vhost '{self.name}' in use")
        del self.exchanges[exchange.name]
        self.past.routed += exchange.routed
        if exchange.durable:
            self.host.storage.forget_exchange(self.name, exchange)
        for source in self.graph.remove(exchange):
            self.deletion.delete_if_unused(source)

    # -- bindings ------------------------------------------------------------------------------------------

    def bind(
        self,
        source: Exchange,
        destination: AnyQueue | Exchange,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> Binding:
        """Return the binding with these properties, after creating it if it does not exist.

        Raises PreconditionFailed for an invalid binding or selector.
        """
        return at_once(self.bind_in_slices(source, destination, routing_key, arguments))

    def bind_in_slices(
        self,
        source: Exchange,
        destination: AnyQueue | Exchange,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> Slicing[Binding]:
        """Bind like ``bind``, in slices because compiling a selector may take long. Also raises
        NotFound, if either end has been deleted meanwhile.
        """
        arguments = arguments or {}
        check_name("routing_key", routing_key)
        check_table(f"a binding of exchange '{source.name}' in vhost '{self.name}'", arguments)
        existing = source.find(identity(destination, routing_key, arguments))
        if existing is not None:
            return existing
        binding = yield from make_binding(source, destination, routing_key, arguments)
        if binding.selector is not None:
            source.check_selector(binding.selector)
            self._check_ends(source, destination)
            existing = source.find(binding.identity)
            if existing is not None:
                return existing
            self.host.budget.spent()
        if _is_durable(binding):
            self.host.storage.keep_binding(self.name, binding)
        self.add_binding(binding)
        if not isinstance(destination, Exchange):
            for message in source.history():
                destination.enqueue(message, self.host.now)
        return binding

    def add_binding(self, binding: Binding) -> None:
        """Add a new binding, whose storage is the caller's responsibility."""
        self.graph.link(binding)

    def _check_ends(self, source: Exchange, destination: AnyQueue | Exchange) -> None:
        """Raise NotFound if either end of a binding was deleted."""
        for each in (source, destination):
            there = self.exchanges if isinstance(each, Exchange) else self.queues
            if there.get(each.name) is not each:
                what = "exchange" if isinstance(each, Exchange) else "queue"
                raise NotFound(f"no {what} '{each.name}' in vhost '{self.name}'")

    def unbind(
        self,
        source: Exchange,
        destination: AnyQueue | Exchange,
        routing_key: str,
        arguments: Mapping[str, Any] | None = None,
    ) -> bool:
        """Delete a binding; return False if it does not exist. An auto-delete source is deleted with its last
        binding.
        """
        binding = source.find(identity(destination, routing_key, arguments or {}))
        if binding is None:
            return False
        self.graph.unlink(binding)
        if _is_durable(binding):
            self.host.storage.forget_binding(self.name, binding)
        self.deletion.delete_if_unused(source)
        return True

    def is_bound(
        self, source: Exchange, queue: str, routing_key: str, arguments: Mapping[str, Any] | None = None
    ) -> bool:
        """Return True if the queue of this name has this binding."""
        found = self.queues.get(queue)
        return found is not None and source.find(identity(found, routing_key, arguments or {})) is not None

    # -- queues --------------------------------------------------------------------------------------------

    def queue(self, name: str) -> AnyQueue:
        """Return the queue of this name. Raises NotFound."""
        try:
            return self.queues[name]
        except KeyError:
            raise NotFound(f"no queue '{name}' in vhost '{self.name}'") from None

    def queue_for(self, name: str, owner: object | None) -> AnyQueue:
        """Return the queue of this name. Every operation of a client on a queue calls this.

        Raises NotFound, and ResourceLocked for an exclusive queue of another connection than ``owner``.
        ``tests/router/test_exclusive.py`` has a row for each operation.
        """
        queue = self.queue(name)
        if queue.owner is not None and queue.owner is not owner:
            raise locked(f"queue '{name}' in vhost '{self.name}'")
        return queue

    def find_queue(self, name: str, owner: object | None) -> AnyQueue:
        """Return the queue of this name like ``queue_for``, and restart its ``x-expires`` time."""
        queue = self.queue_for(name, owner)
        queue.last_used = self.host.now
        return queue

    def new_queue_name(self) -> str:
        """Return a name for a queue that was declared without one."""
        return f"amq.gen-{token_urlsafe(16)}"

    def declare_queue(
        self,
        name: str = "",
        *,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        owner: object | None = None,
    ) -> AnyQueue:
        """Return the queue of this name, after creating it if it does not exist; for "" a name is generated.

        ``owner`` is the client's connection, which an exclusive queue belongs to. Raises PreconditionFailed
        if the queue has other properties, and ResourceLocked if another connection owns it.

        All checks come before the queue is added or stored, so a refused declaration changes nothing.
        """
        arguments = dict(arguments or {})
        check_name("queue", name)
        check_table(f"queue '{name}' in vhost '{self.name}'", arguments)
        self.host.churn.queue_declared += 1
        if name in self.queues:
            queue = self.queue_for(name, owner)
            check_queue_equivalence(
                queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments
            )
            queue.last_used = self.host.now
            return queue
        if name in self.unavailable:
            raise PreconditionFailed(
                f"queue '{name}' in vhost '{self.name}' is kept and cannot be restored: "
                f"{self.unavailable[name]}; see 'leveret store check'"
            )
        check_queues(self.limits, len(self.queues), vhost=self.name, queue=name)
        queue = make_queue(
            self,
            name or self.new_queue_name(),
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=arguments,
            owner=owner,
        )
        queue.keep(self.host.storage)
        self.add_queue(queue)
        return queue

    def add_queue(self, queue: AnyQueue) -> None:
        """Add a new queue, whose storage is the caller's responsibility."""
        self.queues[queue.name] = queue
        self.host.churn.queue_created += 1
        if queue.owner is not None:
            self._owned.setdefault(queue.owner, {})[queue] = None
        self.graph.target_changed(queue.name)

    def delete_queue(self, queue: AnyQueue, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue with its bindings and messages, and cancel its consumers. Return the number of ready
        messages.
        """
        queue.check_deletion(if_unused=if_unused, if_empty=if_empty)
        count = len(queue.ready)
        if queue.log is not None:
            self.host.storage.forget_queue(queue)
        consumers = queue.close()
        del self.queues[queue.name]
        self.host.churn.queue_deleted += 1
        if queue.owner is not None:
            owned = self._owned[queue.owner]
            del owned[queue]
            if not owned:
                del self._owned[queue.owner]
        self.graph.target_changed(queue.name)
        for source in self.graph.cut(queue):
            self.deletion.delete_if_unused(source)
        if consumers:
            what = f"cancelling the consumers of queue '{queue.name}' in vhost '{self.name}'"
            self.host.backlog.start(what, self.deletion.cancel_consumers(queue, consumers))
        return count

    def delete_owned(self, owner: object) -> Slices:
        """Delete the exclusive queues of a connection, in slices."""
        return self.deletion.delete_queues(list(self._owned.get(owner, ())))

    def loosen(self, end: AnyQueue | Exchange) -> LongWork | None:
        """Delete the bindings of a queue or exchange before its deletion, if they are too many to be deleted
        together with it. Return the work that is unfinished.
        """
        what = f"removing the bindings of {kind_of(end)} '{end.name}' in vhost '{self.name}'"
        return self.host.backlog.start(what, self.deletion.delete_bindings(end))

    # -- policies ------------------------------------------------------------------------------------------

    def apply_policies(self) -> LongWork | None:
        """As ``PolicyEffects.apply``."""
        return self.policy_effects.apply()


def _is_durable(binding: Binding) -> bool:
    """Return True if a binding is stored: both its ends are."""
    destination = binding.destination
    if isinstance(destination, Exchange):
        lasting = destination.durable
    else:
        queue: AnyQueue = destination  # type: ignore[assignment]  # an exchange or a queue
        lasting = queue.durable and queue.owner is None
    return lasting and binding.source.durable
