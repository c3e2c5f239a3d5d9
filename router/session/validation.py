"""Checks of published messages and of the arguments of consumers, with RabbitMQ's error texts.

``publishing`` and ``subscriptions`` decide when they are made.
"""

import re
from collections.abc import Mapping
from typing import Any

from leveret.protocol.amqp.traits import DELIVERY_MODES, Traits
from leveret.protocol.errors import AccessRefused, PreconditionFailed
from leveret.router.arguments.checks import EXPIRY_MAX
from leveret.router.auth import User
from leveret.router.exchange.base import Exchange
from leveret.router.queue.interface import AnyQueue
from leveret.router.values.field_values import ESCAPES, is_integer, type_name

COPIES_MAX = 1000  # routing keys of one message besides its own
_INTEGER = re.compile(r"([+-]?[0-9]+)(.*)", re.DOTALL)


def check_publish(user: User, vhost: str, exchange: Exchange, routing_key: str) -> None:
    """Raise AccessRefused unless the user may publish to an exchange, and with this routing key."""
    user.check(vhost, "write", "exchange", exchange.name)
    if exchange.internal:
        raise AccessRefused(f"cannot publish to internal exchange '{exchange.name}' in vhost '{vhost}'")
    if exchange.has_topic_permissions:
        user.check_route(vhost, exchange.name, "write", routing_key)


def check_expiration(text: str) -> None:
    """Raise PreconditionFailed unless ``text`` is a number of ms, at most ten years (RabbitMQ, "TTL")."""
    if len(text) < 12 and text.isascii() and text.isdigit():
        return  # 11 digits are never too many
    found = _INTEGER.match(text)
    if found is None:
        problem = "no_integer"
    elif found[2]:
        rest = found[2].translate(ESCAPES)
        problem = f'{{leftover_string,"{rest}"}}'
    elif (number := int(found[1])) < 0:
        problem = f"{{value_negative,{number}}}"
    elif number > EXPIRY_MAX:
        problem = f"{{value_too_large,{number}}}"
    else:
        return
    raise PreconditionFailed(f"invalid expiration '{text}': {problem}")


def check_delivery_mode(traits: Traits) -> None:
    """Raise PreconditionFailed for a delivery mode that is neither transient nor persistent."""
    if traits.delivery_mode not in DELIVERY_MODES:
        raise PreconditionFailed(f"invalid message: {{delivery_mode_unknown,{traits.delivery_mode}}}")


def check_copies(headers: Mapping[str, Any]) -> None:
    """Raise PreconditionFailed unless CC and BCC are arrays (RabbitMQ, "Sender-selected Distribution") of at
    most COPIES_MAX routing keys together. RabbitMQ has no limit, but each key delays the publisher.
    """
    count = 0
    for name in ("CC", "BCC"):
        if name in headers:
            if not isinstance(headers[name], list):
                raise PreconditionFailed(
                    f'invalid message: {{unacceptable_type_in_header,"{name}",{type_name(headers[name])}}}'
                )
            count += len(headers[name])
    if count > COPIES_MAX:
        raise PreconditionFailed(
            f"invalid message: its headers CC and BCC have {count} routing keys, at most {COPIES_MAX} "
            f"are allowed"
        )


def check_user_id(traits: Traits, name: str, tags: frozenset[str]) -> None:
    """Raise PreconditionFailed if ``user_id`` names another user (RabbitMQ, "Validated User ID")."""
    user_id = traits.user_id
    if user_id is not None and user_id != name and "impersonator" not in tags:
        raise PreconditionFailed(f"user_id property set to '{user_id}' but authenticated user was '{name}'")


def check_consumer_arguments(arguments: Mapping[str, Any], queue: AnyQueue) -> None:
    """Raise PreconditionFailed for an argument of basic.consume of the wrong type."""
    what = f"for queue '{queue.name}' in vhost '{queue.vhost}'"
    if "x-priority" in arguments:
        priority = arguments["x-priority"]
        if not is_integer(priority):
            raise PreconditionFailed(
                f"invalid arg 'x-priority' {what}: \"expected integer, got {type_name(priority)}\""
            )
    if "x-cancel-on-ha-failover" in arguments:
        cancel = arguments["x-cancel-on-ha-failover"]
        if not isinstance(cancel, bool):
            raise PreconditionFailed(
                f"invalid arg 'x-cancel-on-ha-failover' {what}: {{unacceptable_type,{type_name(cancel)}}}"
            )
