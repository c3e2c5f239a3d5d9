"""Export of definitions: the objects of a broker as a document that leveret or RabbitMQ can import.

Left out are exclusive queues, predeclared exchanges, and objects whose names are not UTF-8, which JSON cannot
represent. A scrypt hash is exported under leveret's own algorithm name: RabbitMQ imports and exports it
unchanged, but refuses the user's logins (``unportable_users``).

Source: RabbitMQ, "Schema Definition Export and Import"; the form is that of 3.10, with what 3.13 adds.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec
import structlog

from leveret.router.administration import Administration
from leveret.router.auth import User
from leveret.router.broker import Broker
from leveret.router.exchange.base import Exchange, kind
from leveret.router.queue.kind import AnyQueue
from leveret.router.terms import plain
from leveret.router.vhost import VHost

Entry: TypeAlias = dict[str, Any]


def export_definitions(broker: Broker, vhost: str | None = None) -> Entry:
    """Return the definitions of the broker or of one virtual host, whose entries do not name it.

    Raises KeyError if there is no virtual host of that name.
    """
    log = structlog.get_logger()
    settings = broker.settings.amqp
    places = list(broker.vhosts.values()) if vhost is None else [broker.vhosts[vhost]]
    parameters = [row for row in Administration(broker).parameters() if vhost in (None, row.vhost)]
    of_vhosts = {
        "parameters": [
            {"value": row.value, "vhost": row.vhost, "component": row.component, "name": row.name}
            for row in parameters
        ],
        "policies": [entry for place in places for entry in _policies(place)],
        "queues": [entry for place in places for entry in _queues(place)],
        "exchanges": [entry for place in places for entry in _exchanges(place)],
        "bindings": [entry for place in places for entry in _bindings(place)],
    }
    if vhost is not None:
        for name in ("queues", "exchanges", "bindings"):
            for entry in of_vhosts[name]:
                del entry["vhost"]
        return {"rabbit_version": settings.version, **_tellable(of_vhosts, log)}
    users = list(broker.users.values())
    unportable = unportable_users(broker)
    if unportable:
        log.warning(
            "exported users cannot log in elsewhere",
            users=unportable,
            reason="their password hashes are leveret's own; see auth.password_hash",
        )
    document = {
        "users": [_user(user) for user in users],
        "vhosts": [_vhost(place) for place in places],
        "permissions": [entry for user in users for entry in _permissions(user)],
        "topic_permissions": [entry for user in users for entry in _topic_permissions(user)],
        "global_parameters": [
            {"name": name, "value": value} for name, value in broker.global_parameters.items()
        ],
        **of_vhosts,
    }
    return {
        "rabbit_version": settings.version,
        "rabbitmq_version": settings.version,
        "product_name": settings.product,
        "product_version": settings.version,
        **_tellable(document, log),
    }


def unportable_users(broker: Broker) -> list[str]:
    """The names of the users who cannot log in, after an export, to a broker that is not leveret."""
    return [user.name for user in broker.users.values() if not user.password_hash.portable]


def _tellable(
    document: dict[str, list[Entry]], log: structlog.typing.FilteringBoundLogger
) -> dict[str, list[Entry]]:
    """The document without entries that JSON cannot say."""
    told: dict[str, list[Entry]] = {}
    for section, entries in document.items():
        told[section] = [entry for entry in entries if _is_json(entry)]
        if len(told[section]) < len(entries):
            left = len(entries) - len(told[section])
            log.warning("definitions left out", section=section, count=left, reason="names that are no UTF-8")
    return told


def _is_json(entry: Entry) -> bool:
    try:
        msgspec.json.encode(entry)
    except UnicodeEncodeError:
        return False
    return True


def _user(user: User) -> Entry:
    return {
        "name": user.name,
        "password_hash": user.password_hash.exchanged,
        "hashing_algorithm": user.password_hash.algorithm,
        "tags": sorted(user.tags),
        "limits": dict(user.limits),
    }


def _vhost(vhost: VHost) -> Entry:
    metadata = vhost.metadata.as_row()
    return {"name": vhost.name, **metadata, "metadata": metadata}


def _permissions(user: User) -> Iterator[Entry]:
    for vhost, permission in user.permissions.items():
        yield {"user": user.name, "vhost": vhost, **permission._asdict()}


def _topic_permissions(user: User) -> Iterator[Entry]:
    for (vhost, exchange), permission in user.topic_permissions.items():
        yield {"user": user.name, "vhost": vhost, "exchange": exchange, **permission._asdict()}


def _policies(vhost: VHost) -> Iterator[Entry]:
    for policy in vhost.policies.policies.values():
        yield {
            "vhost": vhost.name,
            "name": policy.name,
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "definition": dict(policy.definition),
            "priority": policy.priority,
        }


def _shared(queues: Iterable[AnyQueue]) -> Iterator[AnyQueue]:
    """Those that are not one connection's alone."""
    return (queue for queue in queues if queue.owner is None)


def _queues(vhost: VHost) -> Iterator[Entry]:
    for queue in _shared(vhost.queues.values()):
        yield {
            "name": queue.name,
            "vhost": vhost.name,
            "durable": queue.durable,
            "auto_delete": queue.auto_delete,
            "type": queue.declared.queue_type,
            "arguments": plain(queue.arguments),
        }


def _own(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """Yield the exchanges that are not predeclared."""
    return (exchange for exchange in exchanges if exchange.name and not exchange.name.startswith("amq."))


def _exchanges(vhost: VHost) -> Iterator[Entry]:
    for exchange in _own(vhost.exchanges.values()):
        yield {
            "name": exchange.name,
            "vhost": vhost.name,
            "type": exchange.type,
            "durable": exchange.durable,
            "auto_delete": exchange.auto_delete,
            "internal": exchange.internal,
            "arguments": plain(dict(exchange.arguments)),
        }


def _bindings(vhost: VHost) -> Iterator[Entry]:
    for exchange in vhost.exchanges.values():
        for binding in exchange.bindings.values():
            destination = binding.destination
            if getattr(destination, "owner", None) is None:  # of queues, those that are exported
                yield {
                    "source": exchange.name,
                    "vhost": vhost.name,
                    "destination": destination.name,
                    "destination_type": kind(destination),
                    "routing_key": binding.routing_key,
                    "arguments": plain(dict(binding.arguments)),
                }
