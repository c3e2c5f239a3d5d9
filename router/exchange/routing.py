"""Routing: the queues that a message reaches, by a walk over the exchange graph, and a cache of earlier
walks.

Responsible for alternate exchanges, exchange-to-exchange bindings, CC and BCC, selectors and "each queue
once". Not for the matches of one exchange (see its class), nor for the queue's handling of the message.

A plan belongs to an exchange and a routing key. If everything on the way depends on the key alone, the plan
holds the queues; otherwise the walk is made for each message.

Plans are bounded in number and in bytes, and a plan is kept only while it is valid: ``ExchangeGraph`` calls
``drop`` for a changed exchange and for the exchanges that route to it. So no plan keeps a deleted queue in
memory.

A long walk is done in slices. A binding that is added or removed between two slices may apply or not; the
plan of such a walk is not cached.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.exchange.base import Binding, BindingDestination, Exchange
from leveret.router.turns.backlog import Slicing, at_once, in_one_slice
from leveret.router.values.outcome import Awaited, Outcome

PLANS = 8192  # cached per virtual host; beyond either limit the oldest are dropped
PLAN_BYTES = 8 << 20  # for all plans of a virtual host, as ``RoutePlan.size`` estimates it
STEPS = 2000  # bindings, or steps of their selectors, checked in a slice
QUICK = 100  # bindings that ``Routes.route_quickly`` handles
PLAN_OVERHEAD = 500  # bytes of a plan without its route and its queues, with its entries in two dicts


class Target(Protocol):
    """The end of a route: a queue, or a waiting direct reply-to consumer."""

    name: str

    @property
    def deleted(self) -> bool:
        """True if the target accepts no more messages."""

    def enqueue(self, message: Message, now: int) -> Outcome:
        """Enqueue or refuse a message; return the outcome, which has the entry that its confirm waits for."""

    def enqueue_all(self, messages: Sequence[Message], size: int, now: int) -> Sequence[Awaited] | None:
        """Enqueue messages that are handled alike (see ``Traits``); their bodies have ``size`` bytes in all.

        Returns the entries that their confirms wait for: one for each message, or none. Returns None if the
        messages have to be enqueued one by one.
        """


class RoutePlan:
    """The route of messages to one exchange with one routing key.

    ``queues`` is None if each message must be routed by itself. ``any_key`` is True if the queues are the
    same for every routing key. ``granted`` is the user that was last allowed to publish along the plan,
    ``granted_at`` the user's generation at that time.

    ``published`` counts the messages that took the plan since the last ``Routes.count``. ``routed`` counts
    their copies in queues that are not in ``queues``.
    """

    __slots__ = (
        "any_key",
        "exchange",
        "granted",
        "granted_at",
        "published",
        "queues",
        "route",
        "routed",
        "routing_key",
    )

    def __init__(
        self,
        exchange: Exchange,
        routing_key: str,
        route: bytes,
        queues: tuple[Target, ...] | None,
        *,
        any_key: bool,
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.route = route
        self.queues = queues
        self.any_key = any_key
        self.granted: object = None
        self.granted_at = 0
        self.published = self.routed = 0

    @property
    def size(self) -> int:
        """Estimate the plan's memory, in bytes."""
        return PLAN_OVERHEAD + 2 * len(self.route) + 8 * len(self.queues or ())


class RoutedVHost(Protocol):
    """The part of a virtual host that routing reads."""

    exchanges: dict[str, Exchange]

    def target(self, name: str) -> Target | None:
        """Return the queue or reply consumer that the default exchange routes this key to, or None."""


class Routes:
    """The routes of one virtual host. ``plans`` has the valid plans, by their packed routes.

    ``size`` is the memory of all plans, in bytes. ``_changes`` counts the calls of ``drop``. ``_starting``
    has, for each exchange, the routes of the plans that start there. ``_once`` has the routes that recently
    occurred once: a plan is made when the route occurs again, because only then is it worth its memory and
    time.
    """

    __slots__ = ("_changes", "_once", "_starting", "_topology", "plans", "size")

    def __init__(self, topology: RoutedVHost) -> None:
        self._topology = topology
        self._starting: dict[Exchange, dict[bytes, None]] = {}
        self.plans: dict[bytes, RoutePlan] = {}
        self.size = 0
        self._changes = 0
        self._once: set[bytes] = set()

    def is_new(self, route: bytes) -> bool:
        """Return True if a route without a plan did not occur recently, and remember the route."""
        once = self._once
        if route in once:
            return False
        if len(once) >= PLANS:
            once.clear()
        once.add(route)
        return True

    def plan(self, route: bytes, exchange: Exchange, routing_key: str) -> RoutePlan:
        """Return the plan of a packed route, by a walk over the exchange graph, and cache it."""
        return at_once(self.plan_in_slices(route, exchange, routing_key))

    def plan_in_slices(self, route: bytes, exchange: Exchange, routing_key: str) -> Slicing[RoutePlan]:
        """Return the plan that ``plan`` returns, in slices. It is not cached if exchanges changed
        meanwhile.
        """
        changes = self._changes
        plan = yield from self._work_out(exchange, routing_key, route)
        if self._changes == changes:
            self._keep(plan)
        return plan

    def _keep(self, plan: RoutePlan) -> None:
        route, exchange = plan.route, plan.exchange
        self.forget(route)
        self.plans[route] = plan
        self._starting.setdefault(exchange, {})[route] = None
        self.size += plan.size
        while len(self.plans) > 1 and (len(self.plans) > PLANS or self.size > PLAN_BYTES):
            for oldest in list(islice(self.plans, 1 + len(self.plans) // 8)):
                if oldest != route:
                    self.forget(oldest)

    def forget(self, route: bytes) -> None:
        """Drop the plan of a route, if there is one."""
        plan = self.plans.pop(route, None)
        if plan is not None:
            count(plan)
            self.size -= plan.size
            routes = self._starting[plan.exchange]
            del routes[route]
            if not routes:
                del self._starting[plan.exchange]

    def drop(self, exchange: Exchange) -> None:
        """Drop all plans that start at an exchange whose routes have changed."""
        self._changes += 1
        for route in self._starting.pop(exchange, ()):
            plan = self.plans.pop(route)
            count(plan)
            self.size -= plan.size

    def count(self) -> None:
        """Add the counters of all plans to those of their exchanges."""
        for plan in self.plans.values():
            if plan.published:
                count(plan)

    def route(self, exchange: Exchange, keys: Sequence[str], message: Message) -> list[Target]:
        """Return the targets of one message, each once, for all its routing keys."""
        return at_once(self.route_in_slices(exchange, keys, message))

    def route_in_slices(
        self, exchange: Exchange, keys: Sequence[str], message: Message
    ) -> Slicing[list[Target]]:
        """Return the targets that ``route`` returns, in slices; some may have been deleted meanwhile."""
        if len(keys) > 1:
            keys = list(dict.fromkeys(keys))
        found, _ = yield from self._walk(exchange, keys, message)
        return found or []

    def route_quickly(self, exchange: Exchange, routing_key: str, message: Message) -> list[Target] | None:
        """Return the targets of one message if the bindings of one exchange decide them in one slice.

        Returns None if another exchange, the default exchange or more slices are needed; the caller then
        routes the message from the start. An exchange that ``remembers`` messages is never searched here,
        because it would then get the message twice.
        """
        if exchange.to_exchanges or exchange.remembers or not exchange.name:
            return None
        bindings = in_one_slice(exchange.search(routing_key, message))
        if bindings is None or len(bindings) > QUICK:
            return None
        if exchange.selectors.cost:
            found = in_one_slice(exchange.selectors.destinations(bindings, message))
            if found is None:
                return None
        else:
            found = [binding.destination for binding in bindings]
        if len(found) > 1:
            found = list(dict.fromkeys(found))
        elif not found and exchange.alternate is not None:
            return None
        return found  # type: ignore[return-value]  # none is an exchange

    def _work_out(self, exchange: Exchange, routing_key: str, route: bytes) -> Slicing[RoutePlan]:
        """Make a plan, and mark the exchanges that it depends on as planned."""
        if exchange.any_key and exchange in self._starting:
            other = self.plans[next(reversed(self._starting[exchange]))]
            if other.any_key:
                return RoutePlan(exchange, routing_key, route, other.queues, any_key=True)
        found, visited = yield from self._walk(exchange, (routing_key,), None)
        queues = None if found is None else tuple(found)
        any_key = queues is not None and all(each.any_key for each in visited)
        return RoutePlan(exchange, routing_key, route, queues, any_key=any_key)

    def _walk(
        self, start: Exchange, keys: Sequence[str], message: Message | None
    ) -> Slicing[tuple[list[Target] | None, list[Exchange]]]:
        """Visit every exchange that the message reaches, each once.

        Returns the targets, and the exchanges that were visited. ``message`` may be None; then the targets
        are None if they depend on more than the keys.
        """
        found: dict[Target, None] = {}
        seen = {start.name}
        work = [start]
        left = STEPS
        for exchange in work:  # the list grows meanwhile
            if message is None:
                exchange.planned = True  # before a slice ends, so that changes after it are noticed
            matched = yield from self._match(exchange, keys, message)
            if matched is None:
                return None, work
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
            left -= 1 + len(matched)
            if left <= 0:
                left = STEPS
                yield
        return list(found), work

    def _match(
        self, exchange: Exchange, keys: Sequence[str], message: Message | None
    ) -> Slicing[Sequence[BindingDestination] | None]:
        """Return the destinations that one exchange sends the message to.

        Returns None if ``message`` is None and the destinations depend on more than the keys.
        """
        if not exchange.name:
            return [target for key in keys if (target := self._topology.target(key)) is not None]
        if message is None and not exchange.by_key:
            return None
        bindings: Sequence[Binding] = yield from exchange.search(keys[0], message)  # type: ignore[arg-type]
        if len(keys) > 1 and exchange.by_key and not exchange.any_key:
            # A binding that several keys match is checked once.
            merged = dict.fromkeys(bindings)
            for key in keys[1:]:
                yield
                merged |= dict.fromkeys((yield from exchange.search(key, message)))  # type: ignore[arg-type]
            bindings = list(merged)
        if exchange.selectors.cost:
            if message is not None:
                return (yield from exchange.selectors.destinations(bindings, message))
            if any(binding.selector is not None for binding in bindings):
                return None
        matched = []
        left = STEPS
        for binding in bindings:
            matched.append(binding.destination)
            left -= 1
            if left <= 0:
                left = STEPS
                yield
        return matched


def count(plan: RoutePlan) -> None:
    """Add the counters of a plan to those of its exchange, and reset them."""
    exchange = plan.exchange
    exchange.published += plan.published
    exchange.routed += plan.routed + plan.published * len(plan.queues or ())
    plan.published = plan.routed = 0


def routing_keys(routing_key: str, headers: Mapping[str, object]) -> list[str]:
    """Return a message's routing keys: its own, then those of its CC and BCC headers.

    Source: RabbitMQ, "Sender-selected Distribution".
    """
    return [routing_key, *copies(headers, "CC"), *copies(headers, "BCC")]


def copies(headers: Mapping[str, object], name: str) -> list[str]:
    """Return the routing keys in a message's header ``name``, CC or BCC."""
    keys = headers.get(name)
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
