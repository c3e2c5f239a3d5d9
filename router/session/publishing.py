"""Checks and routing of the messages that a client publishes: permission, properties, route.

Responsible for when a user's permission is checked. Each plan remembers the user whose permission was checked
last, so sessions need no cache of permissions. ``exchange.routing`` does the routing.

Sources: RabbitMQ, "Access Control", "Sender-selected Distribution", "Validated User ID", "TTL".
"""

from collections.abc import Sequence
from typing import Any

from leveret.protocol.amqp.message import IMMEDIATE, Message, unpack_route
from leveret.protocol.amqp.properties import splice_properties
from leveret.protocol.amqp.table import REMOVE
from leveret.protocol.amqp.traits import Traits
from leveret.protocol.errors import NotImplemented_, PreconditionFailed
from leveret.router.auth import User
from leveret.router.exchange.admission import admitted
from leveret.router.exchange.base import Exchange
from leveret.router.exchange.routing import RoutePlan, Target, copies, count, routing_keys
from leveret.router.session.validation import (
    check_copies,
    check_delivery_mode,
    check_expiration,
    check_publish,
    check_user_id,
)
from leveret.router.turns.backlog import Slicing, in_time
from leveret.router.vhost.vhost import VHost


class Publishing:
    """Checks and routes the publishes of ``user`` in ``vhost``.

    ``reply_to`` is the address of the session's consumer of direct replies; None without one.
    """

    __slots__ = ("_budget", "_plans", "_routes", "_user", "_vhost", "reply_to")

    def __init__(self, vhost: VHost, user: User) -> None:
        self.reply_to: str | None = None
        self._vhost = vhost
        self._user = user
        self._budget = vhost.host.budget
        self._routes = vhost.routes
        self._plans = vhost.routes.plans

    def resolve(self, message: Message) -> tuple[Message, Sequence[Target]]:
        """Return the message to enqueue, and its queues. It is a new message if properties had to change.

        Raises NotFound, AccessRefused, PreconditionFailed (a bad expiration, user id or CC header) and
        NotImplemented_ (immediate). Raises TakesLong, with the remaining slices, if routing does not end in
        this turn; the slices raise nothing.
        """
        if message.bits & IMMEDIATE:
            raise NotImplemented_("immediate=true")
        plan = self._plans.get(message.route)
        if plan is None or plan.queues is None:
            quickly = self._resolve_quickly(message, plan)
            return quickly or in_time(self._resolve_in_slices(message), self._budget)
        if plan.granted is not self._user or plan.granted_at != self._user.generation:
            self._grant(plan)
        queues: Sequence[Target] = plan.queues
        traits = message.traits
        if not traits.plain:
            inspected, keys = self._inspect(message, plan.exchange.name, plan.routing_key)
            if len(keys) > 1:
                return in_time(self._resolve_in_slices(message), self._budget)
            message = inspected
        if traits.has_headers and plan.exchange.deduplication is not None:
            queues = admitted(plan.exchange, message, queues, self._vhost.host)
        plan.published += 1
        message.route = plan.route
        return message, queues

    def _resolve_quickly(
        self, message: Message, plan: RoutePlan | None
    ) -> tuple[Message, Sequence[Target]] | None:
        """Do the same as ``resolve`` for a message that has to be routed by itself, or whose route is new.

        Returns None if that takes several slices, and for a route that has occurred before: ``resolve`` then
        makes a plan.
        """
        if plan is None:
            if message.route[0] == 0 or not self._routes.is_new(message.route):  # 0: the default exchange
                return None
            exchange, routing_key = self._find(message.route)
            check_publish(self._user, self._vhost.name, exchange, routing_key)
        else:
            exchange, routing_key = plan.exchange, plan.routing_key
            if plan.granted is not self._user or plan.granted_at != self._user.generation:
                self._grant(plan)
        if not message.traits.plain:
            message, keys = self._inspect(message, exchange.name, routing_key)
            if len(keys) > 1:
                return None
        queues = self._routes.route_quickly(exchange, routing_key, message)
        if queues is None:
            return None
        exchange.published += 1
        exchange.routed += len(queues)
        self._budget.spent()
        return message, admitted(exchange, message, queues, self._vhost.host)

    def _resolve_in_slices(self, message: Message) -> Slicing[tuple[Message, Sequence[Target]]]:
        """Do the same as ``resolve`` for a message whose route is not known yet. All errors are raised in the
        first slice; the turn's budget is checked at the end.
        """
        user, route = self._user, message.route
        plan = self._plans.get(route)
        if plan is None:
            exchange, routing_key = self._find(route)
            check_publish(user, self._vhost.name, exchange, routing_key)
        else:
            exchange, routing_key = plan.exchange, plan.routing_key
            if plan.granted is not user or plan.granted_at != user.generation:
                self._grant(plan)
        generation = user.generation
        keys = [routing_key]
        if not message.traits.plain:
            message, keys = self._inspect(message, exchange.name, routing_key)
        if plan is None:
            plan = yield from self._routes.plan_in_slices(route, exchange, routing_key)
            plan.granted, plan.granted_at = user, generation
        plan.published += 1
        queues: Sequence[Target] | None = plan.queues
        if queues is None or len(keys) > 1:
            queues = yield from self._routes.route_in_slices(exchange, keys, message)
            plan.routed += len(queues) - len(plan.queues or ())
        if self._plans.get(route) is not plan:
            count(plan)  # the cache of routes does not have this plan, or no longer
        message.route = plan.route
        self._budget.spent()
        return message, admitted(exchange, message, queues, self._vhost.host)

    def resolve_all(self, messages: Sequence[Message]) -> Sequence[Target] | None:
        """Return the queues of the messages of one ``Publishes`` command. Raises as ``resolve``.

        Returns None if there is no plan for them yet, or each message has to be resolved by itself.
        """
        message = messages[0]
        if message.bits:
            return None
        plan = self._plans.get(message.route)
        if plan is None or plan.queues is None:
            return None
        if plan.granted is not self._user or plan.granted_at != self._user.generation:
            self._grant(plan)
        traits = message.traits
        if plan.exchange.deduplication is not None:
            return None
        if not traits.plain:
            if traits.has_copies or traits.has_direct_reply:
                return None
            self._check(traits)
            check_delivery_mode(traits)
        plan.published += len(messages)
        return plan.queues

    def _find(self, route: bytes) -> tuple[Exchange, str]:
        """Return the exchange and the routing key of a route.

        Raises AccessRefused if the user may not publish to the exchange, even if it does not exist, and
        otherwise NotFound.
        """
        name, routing_key = unpack_route(route)
        if name not in self._vhost.exchanges:
            self._user.check(self._vhost.name, "write", "exchange", name)
        return self._vhost.exchange(name), routing_key

    def _grant(self, plan: RoutePlan) -> None:
        """Check that the user may publish by this plan; remember that until the permissions change."""
        user = self._user
        check_publish(user, self._vhost.name, plan.exchange, plan.routing_key)
        plan.granted, plan.granted_at = user, user.generation

    def _inspect(self, message: Message, exchange: str, routing_key: str) -> tuple[Message, list[str]]:
        """Check the properties that mean something to the broker; return the message to route and its routing
        keys.
        """
        traits = message.traits
        changes: dict[str, Any] = {}
        if traits.has_direct_reply:
            if self.reply_to is None:
                raise PreconditionFailed("fast reply consumer does not exist")
            changes["reply_to"] = self.reply_to
        self._check(traits)
        keys = [routing_key]
        blind: list[str] = []
        if traits.has_copies:
            headers = message.some_headers("CC", "BCC")
            check_copies(headers)
            keys = routing_keys(routing_key, headers)
            if "BCC" in headers:
                changes["headers"] = {"BCC": REMOVE}
                blind = copies(headers, "BCC")
        check_delivery_mode(traits)
        if traits.has_direct_reply and "headers" not in changes:
            replaced = message.with_reply_address(changes["reply_to"])
            if replaced is not None:
                return replaced, keys
        if changes:
            bits = message.bits
            raw = splice_properties(message.raw_properties, **changes)
            message = message.rewritten(exchange, routing_key, raw, blind)
            message.bits = bits
        return message, keys

    def _check(self, traits: Traits) -> None:
        """Check user id and expiration."""
        check_user_id(traits, self._user.name, self._user.tags)
        if traits.expiration is not None:
            check_expiration(traits.expiration)
