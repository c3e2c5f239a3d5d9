"""From a message a client publishes to the queues it goes to: permission, properties, route.

Owns when a user's permission is checked, and the properties that a session remembers since they mean nothing
to the broker. Plans remember the user whose permission was checked last, so that a session holds none of
them. How exchanges route is the business of ``routing``.

Sources: RabbitMQ, "Access Control", "Sender-selected Distribution", "Validated User ID", "TTL".
"""

from collections.abc import Sequence
from typing import Any

from leveret.protocol.amqp.message import IMMEDIATE, Message, unpack_route
from leveret.protocol.amqp.properties import Properties, splice_properties
from leveret.protocol.amqp.table import REMOVE
from leveret.protocol.errors import NotImplemented_, PreconditionFailed
from leveret.router.auth import User
from leveret.router.routing import Plan, Target, copies, routing_keys
from leveret.router.session.checks import (
    DELIVERY_MODES,
    check_copies,
    check_delivery_mode,
    check_expiration,
    check_publish,
    check_user_id,
)
from leveret.router.session.once import Once
from leveret.router.session.reply_to import REPLY_TO
from leveret.router.vhost import VHost


class Publishing:
    """What ``user`` publishes in ``vhost``; ``reply_to`` is where direct replies go (None: nobody waits)."""

    __slots__ = ("_plain", "_plans", "_routes", "_user", "_vhost", "reply_to")

    def __init__(self, vhost: VHost, user: User) -> None:
        self.reply_to: str | None = None
        self._vhost = vhost
        self._user = user
        self._routes = vhost.routes
        self._plans = vhost.routes.plans
        self._plain: Properties | None = None  # the last that meant nothing: messages alike share theirs

    def resolve(self, message: Message) -> tuple[Message, Sequence[Target]]:
        """The message as it is to be enqueued, and where: it is another one if its properties had to change.

        Raises NotFound, AccessRefused, PreconditionFailed (a bad expiration, user id or CC header) and
        NotImplemented_ (immediate).
        """
        if message.bits & IMMEDIATE:
            raise NotImplemented_("immediate=true")
        plan = self._plans.get(message.route)
        if plan is None:
            plan = self._plan(message.route)
        if plan.granted is not self._user or plan.granted_at != self._user.generation:
            self._grant(plan)
        plan.published += 1
        queues: Sequence[Target] | None = plan.queues
        properties = message.properties
        if properties is self._plain or is_plain(properties):
            self._plain = properties
            if queues is None:
                queues = self._routes.route(plan.exchange, (plan.routing_key,), message)
                plan.routed += len(queues)
        else:
            message, keys = self._inspect(message, plan)
            if queues is None or len(keys) > 1:
                queues = self._routes.route(plan.exchange, keys, message)
                plan.routed += len(queues) - len(plan.queues or ())
            window = plan.exchange.deduplication
            if window is not None and queues and (key := window.key(properties.headers)) is not None:
                queues = (Once(self._vhost, plan.exchange, key, queues),)
        message.route = plan.route
        return message, queues

    def resolve_all(self, messages: Sequence[Message]) -> Sequence[Target] | None:
        """Where messages go that differ in their bodies alone; None when each has to be resolved by itself.
        Raises as ``resolve``.
        """
        message = messages[0]
        if message.bits:
            return None
        plan = self._plans.get(message.route)
        if plan is None:
            plan = self._plan(message.route)
        if plan.granted is not self._user or plan.granted_at != self._user.generation:
            self._grant(plan)
        properties = message.properties
        if plan.queues is None or not (properties is self._plain or is_plain(properties)):
            return None
        plan.published += len(messages)
        return plan.queues

    def _plan(self, route: bytes) -> Plan:
        """The plan for a route; only who may publish to an exchange is told that there is none."""
        name, _ = unpack_route(route)
        if name not in self._vhost.exchanges:
            self._user.check(self._vhost.name, "write", "exchange", name)
        return self._vhost.plan(route)

    def _grant(self, plan: Plan) -> None:
        """Check that the user may publish along this plan, and remember it while the rights stand."""
        user = self._user
        check_publish(user, self._vhost.name, plan.exchange, plan.routing_key)
        plan.granted, plan.granted_at = user, user.generation

    def _inspect(self, message: Message, plan: Plan) -> tuple[Message, list[str]]:
        """Check the properties that mean something to the broker; return the message to route and its routing
        keys.
        """
        properties = message.properties
        changes: dict[str, Any] = {}
        if properties.reply_to == REPLY_TO:
            if self.reply_to is None:
                raise PreconditionFailed("fast reply consumer does not exist")
            changes["reply_to"] = self.reply_to
        check_user_id(properties, self._user.name, self._user.tags)
        if properties.expiration is not None:
            check_expiration(properties.expiration)
        keys = [plan.routing_key]
        if properties.headers:
            check_copies(properties.headers)
            keys = routing_keys(plan.routing_key, properties.headers)
        check_delivery_mode(properties)
        blind: list[str] = []
        if properties.headers and "BCC" in properties.headers:
            changes["headers"] = {"BCC": REMOVE}
            blind = copies(properties.headers, "BCC")
        if changes:
            bits = message.bits
            raw = splice_properties(message.raw_properties, **changes)
            message = message.rewritten(plan.exchange.name, plan.routing_key, raw, blind)
            message.bits = bits
        return message, keys


def is_plain(properties: Properties) -> bool:
    """Whether these mean nothing to the broker when they are published."""
    return (
        properties.headers is None
        and properties.expiration is None
        and properties.reply_to is None
        and properties.user_id is None
        and properties.delivery_mode in DELIVERY_MODES
    )
