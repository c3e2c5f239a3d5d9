"""Which queues a message reaches: a walk over the exchange graph, and the answers kept from earlier walks.

Owns alternate exchanges, exchange-to-exchange bindings, CC and BCC, selectors and "each queue once". What one
exchange matches is the exchange's own business; what a queue does with the message is the queue's.

A plan belongs to an exchange and a routing key. Where everything it met depends on the key alone, it holds
the queues; otherwise the walk is made for each message, through the matches that exchanges keep themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from protocol.amqp.message import Message
from router.exchange.base import Destination, Exchange

PLANS = 8192  # kept per virtual host; past that all are forgotten and made anew as they are needed


class Target(Protocol):
    """Where a message ends up: a queue, or a waiting direct reply-to consumer."""

    name: str

    @property
    def deleted(self) -> bool:
        """Whether it takes nothing any more."""

    def enqueue(self, message: Message, now: int, *, again: bool = False) -> bool:
        """Take a message. One that comes ``again``, a dead letter or one that was moved, is no publisher's
        doing: it is never taken for one that came before.
        """

    def enqueue_all(self, messages: Sequence[Message], now: int) -> bool:
        """Take messages that differ in their bodies alone; False when it takes them one by one only."""


class Plan:
    """How messages to one exchange with one routing key are routed.

    ``queues`` is None when each message must be asked for itself. Valid while ``generation`` is the
    exchange's. ``published`` counts the messages that took it since ``Routes.count``, ``routed`` the copies
    that were made of them beyond what ``queues`` says.
    """

    __slots__ = ("exchange", "generation", "published", "queues", "route", "routed", "routing_key")

    def __init__(
        self, exchange: Exchange, routing_key: str, route: bytes, queues: tuple[Target, ...] | None
    ) -> None:
        self.exchange = exchange
        self.generation = exchange.generation
        self.routing_key = routing_key
        self.route = route
        self.queues = queues
        self.published = self.routed = 0


class Topology(Protocol):
    """What routing reads of a virtual host."""

    exchanges: dict[str, Exchange]

    def target(self, name: str) -> Target | None:
        """The queue, or reply consumer, that the default exchange knows by this name."""


class Routes:
    """The routes of one virtual host."""

    __slots__ = ("_topology", "plans")

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.plans: dict[bytes, Plan] = {}

    def plan(self, route: bytes, exchange: Exchange, routing_key: str) -> Plan:
        """Work out how a packed route is routed, and keep it."""
        queues = self._walk(exchange, (routing_key,), None)
        plan = Plan(exchange, routing_key, route, None if queues is None else tuple(queues))
        if len(self.plans) >= PLANS:
            self.count()
            self.plans.clear()
        elif (stale := self.plans.get(route)) is not None:
            _count(stale)
        self.plans[route] = plan
        return plan

    def forget(self, route: bytes) -> None:
        """The default exchange's answer for this route has changed."""
        if (plan := self.plans.pop(route, None)) is not None:
            _count(plan)

    def count(self) -> None:
        """Let exchanges know how many messages took their plans since the last time."""
        for plan in self.plans.values():
            if plan.published:
                _count(plan)

    def route(self, exchange: Exchange, keys: Sequence[str], message: Message) -> list[Target]:
        """The targets of one message, each once, for all its routing keys."""
        return self._walk(exchange, keys, message) or []

    def _walk(self, start: Exchange, keys: Sequence[str], message: Message | None) -> list[Target] | None:
        """Visit every exchange the message comes to; without a message, None when one would be needed."""
        found: dict[Target, None] = {}
        seen = {start.name}
        work = [start]
        while work:
            exchange = work.pop()
            matched = self._match(exchange, keys, message)
            if matched is None:
                return None
            for destination in matched:
                if not isinstance(destination, Exchange):
                    found[destination] = None  # type: ignore[index]  # a queue is a Target
                elif destination.name not in seen:
                    seen.add(destination.name)
                    work.append(destination)
            if not matched and exchange.alternate is not None and exchange.alternate not in seen:
                other = self._topology.exchanges.get(exchange.alternate)
                if other is not None:
                    seen.add(other.name)
                    work.append(other)
        return list(found)

    def _match(
        self, exchange: Exchange, keys: Sequence[str], message: Message | None
    ) -> Sequence[Destination] | None:
        """Where one exchange sends the message; None when that cannot be said without one."""
        if not exchange.name:
            return [target for key in keys if (target := self._topology.target(key)) is not None]
        if message is None and not exchange.by_key:
            return None
        matched = []
        for key in keys if exchange.by_key else keys[:1]:
            for binding in exchange.match(key, message):  # type: ignore[arg-type]  # by_key: it looks at the key
                if binding.selector is None:
                    matched.append(binding.destination)
                elif message is None:
                    return None
                elif binding.selector.matches(message.properties):
                    matched.append(binding.destination)
        return matched


def _count(plan: Plan) -> None:
    exchange = plan.exchange
    exchange.published += plan.published
    exchange.routed += plan.routed + plan.published * len(plan.queues or ())
    plan.published = plan.routed = 0


def routing_keys(routing_key: str, headers: Mapping[str, object]) -> list[str]:
    """A message's routing keys: its own, then those of its CC and BCC headers (RabbitMQ's sender-selected
    distribution).
    """
    return [routing_key, *copies(headers, "CC"), *copies(headers, "BCC")]


def copies(headers: Mapping[str, object], name: str) -> list[str]:
    """The routing keys in a message's header ``name``, CC or BCC."""
    keys = headers.get(name)
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
