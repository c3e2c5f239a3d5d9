"""Export of definitions: the objects of a broker as a document that leveret or RabbitMQ can import.

Exclusive queues and predeclared exchanges are left out, and so are objects whose names JSON cannot represent
because they are not UTF-8. A scrypt hash is exported under leveret's own algorithm name: RabbitMQ imports and
exports it unchanged, but refuses the user's logins (``unportable_users``).

Source: RabbitMQ, "Schema Definition Export and Import"; the document has the form of 3.10 with the additions
of 3.13.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec
import structlog

from leveret.router.auth import User
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.exchange.base import BindingDestination, Exchange, kind
from leveret.router.queue.interface import AnyQueue
from leveret.router.values.field_values import plain
from leveret.router.vhost.declare import is_reserved
from leveret.router.vhost.vhost import VHost

STEP = 50  # entries that are exported between two steps: a quarter of a millisecond
LARGE = 4096  # bytes of an entry that ends a step
LISTED = 2000  # objects of a virtual host that are listed before other tasks can run
PART = 500  # entries in a part of the document, and
PART_BYTES = 1 << 18  # bytes from which on a part ends

Entry: TypeAlias = dict[str, Any]


def export_definitions(broker: Broker, vhost: str | None = None) -> Entry:
    """Return the definitions of the broker, or of one virtual host.

    Entries of a single virtual host do not name it. Raises KeyError if there is no virtual host of that name.
    """
    document: Entry = msgspec.json.decode(b"".join(filter(None, export_in_parts(broker, vhost))))
    return document


def export_in_parts(broker: Broker, vhost: str | None = None) -> Iterator[bytes | None]:
    """Yield the JSON of ``export_definitions`` in parts, and None wherever other tasks can run.

    The objects of a virtual host are listed at once, before the first part. Objects that are deleted before
    their part may be missing; objects that are created later are not exported, nor are bindings to them.
    Raises KeyError at the first part.
    """
    places = list(broker.vhosts.values()) if vhost is None else [broker.vhosts[vhost]]
    there: set[BindingDestination] = set()
    settings = broker.settings.amqp
    parameters = (row for row in Administration(broker).parameters.all() if vhost in (None, row.vhost))
    queues: list[tuple[VHost, list[AnyQueue]]] = []
    exchanges: list[tuple[VHost, list[Exchange]]] = []
    for number, place in enumerate(places, 1):
        queues.append((place, list(place.queues.values())))
        exchanges.append((place, list(place.exchanges.values())))
        objects: list[BindingDestination] = [*queues[-1][1], *exchanges[-1][1]]
        for start in range(0, len(objects), LISTED):
            there.update(objects[start : start + LISTED])
            if start or not number % STEP:
                yield None
    # None stands for an object that is not exported, or for a virtual host or an exchange without any.
    sections: dict[str, Iterable[Entry | None]] = {
        "parameters": (
            {"value": row.value, "vhost": row.vhost, "component": row.component, "name": row.name}
            for row in parameters
        ),
        "policies": (entry for place in places for entry in _policies(place)),
        "queues": (entry for place, some in queues for entry in _queues(place, some)),
        "exchanges": (entry for place, some in exchanges for entry in _exchanges(place, some)),
        "bindings": (entry for place, some in exchanges for entry in _bindings(place, some, there)),
    }
    head = {"rabbit_version": settings.version}
    if vhost is None:
        users = list(broker.users.values())
        unportable: list[str] = []
        for name in unportable_users(broker):
            if name is None:
                yield None
            else:
                unportable.append(name)
        if unportable:
            structlog.get_logger().warning(
                "exported users cannot log in elsewhere",
                users=unportable,
                reason="their password hashes are leveret's own; see auth.password_hash",
            )
        head |= {
            "rabbitmq_version": settings.version,
            "product_name": settings.product,
            "product_version": settings.version,
        }
        sections = {
            "users": map(export_user, users),
            "vhosts": map(_vhost, places),
            "permissions": (entry for user in users for entry in _permissions(user)),
            "topic_permissions": (entry for user in users for entry in _topic_permissions(user)),
            "global_parameters": (
                {"name": name, "value": value} for name, value in list(broker.global_parameters.items())
            ),
            **sections,
        }
    yield msgspec.json.encode(head).removesuffix(b"}")
    for name, entries in sections.items():
        yield from _section(name, entries, unnamed=vhost is not None)
    yield b"}"


def unportable_users(broker: Broker) -> Iterator[str | None]:
    """Yield the names of users whose exported hashes other brokers than leveret cannot use.

    Yields None wherever other tasks can run.
    """
    for number, user in enumerate(list(broker.users.values()), 1):
        if not user.password_hash.portable:
            yield user.name
        if not number % STEP:
            yield None


def _section(name: str, entries: Iterable[Entry | None], *, unnamed: bool) -> Iterator[bytes | None]:
    """Yield a section without the entries that JSON cannot represent.

    With ``unnamed`` the entries of queues, exchanges and bindings do not name their virtual host.
    """
    yield b',"%b":[' % name.encode()
    left_out, first = 0, True
    rows: list[bytes] = []
    gathered = 0
    for number, entry in enumerate(entries, 1):
        if entry is None:
            if not number % STEP:
                yield None
            continue
        if unnamed and name in ("queues", "exchanges", "bindings"):
            del entry["vhost"]
        size = 0
        try:
            rows.append(msgspec.json.encode(entry))
            size = len(rows[-1])
            gathered += size
        except UnicodeEncodeError:
            left_out += 1
        if size > LARGE or not number % STEP:
            yield None
        if len(rows) == PART or gathered > PART_BYTES:
            yield b"," * (not first) + b",".join(rows)
            rows, first, gathered = [], False, 0
    yield b"," * (not first and bool(rows)) + b",".join(rows) + b"]"
    if left_out:
        log = structlog.get_logger()
        log.warning("definitions not exported", section=name, count=left_out, reason="names are not UTF-8")


def export_user(user: User) -> Entry:
    """Return a user as an entry of definitions; the HTTP API shows users so too."""
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
    for vhost, permission in list(user.permissions.items()):
        yield {"user": user.name, "vhost": vhost, **permission._asdict()}


def _topic_permissions(user: User) -> Iterator[Entry]:
    for (vhost, exchange), permission in list(user.topic_permissions.items()):
        yield {"user": user.name, "vhost": vhost, "exchange": exchange, **permission._asdict()}


def _policies(vhost: VHost) -> Iterator[Entry | None]:
    yield None
    for policy in list(vhost.policies.policies.values()):
        yield {
            "vhost": vhost.name,
            "name": policy.name,
            "pattern": policy.pattern,
            "apply-to": policy.apply_to,
            "definition": dict(policy.definition),
            "priority": policy.priority,
        }


def _queues(vhost: VHost, queues: Iterable[AnyQueue]) -> Iterator[Entry | None]:
    """Yield the queues that are not exclusive."""
    yield None
    for queue in queues:
        yield (
            None
            if queue.owner is not None
            else {
                "name": queue.name,
                "vhost": vhost.name,
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "type": queue.declared.queue_type,
                "arguments": plain(queue.arguments),
            }
        )


def _exchanges(vhost: VHost, exchanges: Iterable[Exchange]) -> Iterator[Entry | None]:
    """Yield the exchanges that are not predeclared."""
    for exchange in exchanges:
        yield (
            None
            if not exchange.name or is_reserved(exchange.name)
            else {
                "name": exchange.name,
                "vhost": vhost.name,
                "type": exchange.type,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": plain(dict(exchange.arguments)),
            }
        )


def _bindings(
    vhost: VHost, exchanges: Iterable[Exchange], there: set[BindingDestination]
) -> Iterator[Entry | None]:
    """Yield the bindings from exchanges to the queues and exchanges in ``there``."""
    for exchange in exchanges:
        yield None
        for binding in list(exchange.bindings.values()):
            destination = binding.destination
            # Exclusive queues are not exported, nor are their bindings.
            is_exported = destination in there and getattr(destination, "owner", None) is None
            yield (
                None
                if not is_exported
                else {
                    "source": exchange.name,
                    "vhost": vhost.name,
                    "destination": destination.name,
                    "destination_type": kind(destination),
                    "routing_key": binding.routing_key,
                    "arguments": plain(dict(binding.arguments)),
                }
            )
