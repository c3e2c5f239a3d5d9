"""Effects of policies on the queues and exchanges of a virtual host.

Responsible for giving existing queues and exchanges the settings of changed policies, in slices. ``policies``
decides which policies match, ``arguments.queue`` merges them with a queue's arguments, and new queues and
exchanges have their settings from the start.
"""

from typing import TYPE_CHECKING

from leveret.router.arguments.queue import QueueArguments, merge_policy
from leveret.router.exchange.base import Exchange
from leveret.router.queue.queue import Queue
from leveret.router.turns.backlog import LongWork, Slices
from leveret.router.vhost.policies import Kind, merge_definitions

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost

ALTERNATE_EXCHANGE = "alternate-exchange"  # the argument of an exchange, and the key of a policy


class PolicyEffects:
    """The effects of the policies of one virtual host."""

    def __init__(self, vhost: "VHost") -> None:
        self._vhost = vhost
        self._walking = False
        self._next: LongWork | None = None  # the walk after the one under way

    def apply(self) -> LongWork | None:
        """Give the existing queues and exchanges the settings of changed policies.

        There is one walk over the queues and exchanges at a time. Policies that change during a walk, however
        often, are applied by one more walk after it. Returns the unfinished walk that applies the change.
        """
        what = f"applying the policies of vhost '{self._vhost.name}'"
        if not self._walking:
            return self._vhost.host.backlog.start(what, self._walk())
        if self._next is None:
            self._next = LongWork(what, self._walk())
        return self._next

    def _walk(self) -> Slices:
        """Apply the policies to all queues and exchanges, then begin the next walk if there is one."""
        self._walking = True
        try:
            yield from self._apply_to_queues()
            yield from self._apply_to_exchanges()
        finally:
            self._walking = self._next is not None
            if self._next is not None:
                self._vhost.host.backlog.works.append(self._next)
                self._next = None

    def _apply_to_queues(self) -> Slices:
        """Apply the matching policies to each queue, as they are when the walk reaches the queue."""
        policies = self._vhost.policies
        merged: dict[tuple[QueueArguments, int, int], QueueArguments] = {}  # many queues have the same
        known = []  # keeps the policies whose ids are in the keys, so that no new objects get the same ids
        for queue in list(self._vhost.queues.values()):
            yield  # for each: its time depends on the number of policies, and on their patterns
            if queue.deleted:
                continue
            declared = queue.declared
            where: tuple[Kind, str, str] = ("queues", queue.name, declared.queue_type)
            policy, operator = policies.policy(*where), policies.operator_policy(*where)
            key = declared, id(policy), id(operator)
            settings = merged.get(key)
            if settings is None:
                known.append((policy, operator))
                settings = merged[key] = merge_policy(declared, merge_definitions(policy, operator))
            if settings != queue.settings:
                queue.configure(settings, self._vhost.host.now)

    def _apply_to_exchanges(self) -> Slices:
        exchanges = self._vhost.exchanges
        for exchange in list(exchanges.values()):
            yield
            # Policies do not apply to the default exchange.
            if exchange.name and exchanges.get(exchange.name) is exchange:
                self.apply_to_exchange(exchange)

    def apply_to_exchange(self, exchange: Exchange) -> None:
        """Set the alternate exchange, from the argument of the exchange or otherwise from its policy."""
        own = exchange.arguments.get(ALTERNATE_EXCHANGE)
        policy = self._vhost.policies.effective("exchanges", exchange.name, exchange.type)
        alternate = own if isinstance(own, str) else policy.get(ALTERNATE_EXCHANGE)
        if alternate != exchange.alternate:
            self._vhost.graph.set_alternate(exchange, alternate)

    def source_of_expiry(self, queue: Queue) -> str:
        """Return the source of a queue's expiry, for the log: ``x-expires``, or the name of a policy."""
        expires, declared = queue.settings.expires, queue.declared
        if declared.expires == expires:
            return "x-expires"
        policy = self._vhost.policies.policy("queues", queue.name, declared.queue_type)
        if policy is not None and policy.definition.get("expires") == expires:
            return f"policy '{policy.name}'"
        operator = self._vhost.policies.operator_policy("queues", queue.name, declared.queue_type)
        return "x-expires" if operator is None else f"operator policy '{operator.name}'"
