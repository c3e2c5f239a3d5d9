"""Importing definitions: a document brought to a broker, entry by entry.

Owns the order. What an entry means, and whether it is allowed, is settled where such things are made; here
its error gets the entry's name. Importing again changes nothing, and what is there already with other
properties stays as it is, as in RabbitMQ: users, permissions, policies and parameters are set, exchanges and
queues only made.

What this broker has no use for (parameters of plugins) is logged and left out. So is a binding whose ends are
not there: RabbitMQ 3.10 exports the bindings of internal exchanges without these exchanges.

Source: RabbitMQ, "Schema Definition Export and Import".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog

from protocol.errors import AmqpError
from router.administration import OPERATOR_POLICY, VHOST_LIMITS_COMPONENT, Administration, NotThere
from router.broker import Broker
from router.definitions.document import (
    BindingEntry,
    Definitions,
    DefinitionsError,
    ExchangeEntry,
    GlobalParameterEntry,
    OperatorPolicyValue,
    Pairs,
    ParameterEntry,
    PermissionEntry,
    PolicyEntry,
    QueueEntry,
    TopicPermissionEntry,
    UserEntry,
    VHostEntry,
    hash_of,
    hash_passwords,
)
from router.exchange import EXCHANGE_TYPES
from router.exchange.base import Exchange
from router.queue.kind import AnyQueue
from router.vhost import VHost
from router.vhost_metadata import restored, split_tags

STEP = 50  # entries that are brought before others may have their turn


def apply_definitions(broker: Broker, definitions: Definitions, vhost: str = "") -> None:
    """Bring definitions to the broker, or what they have for virtual hosts to ``vhost``, whatever they name.
    Raises DefinitionsError.

    It may take long, as passwords are hashed, and there may be many entries.
    """
    known = {user.name: user.password_hash for user in broker.users.values()}
    hash_passwords(definitions, broker.settings.auth.password_hash, known)
    for _ in import_definitions(broker, definitions, vhost):
        pass


def import_definitions(broker: Broker, definitions: Definitions, vhost: str = "") -> Iterator[None]:
    """The same in steps, between which others may have their turn; of definitions without passwords."""
    for number, _ in enumerate(_Import(broker, vhost).run(definitions), 1):
        if number % STEP == 0:
            yield


class _Import:
    """One import, in the order in which entries need each other."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        self._broker = broker
        self._administration = Administration(broker)
        self._vhost = vhost
        self._log = structlog.get_logger()

    def run(self, definitions: Definitions) -> Iterator[None]:
        """Bring one entry after the other; to one virtual host, what belongs in there."""
        if not self._vhost:
            yield from map(self._add_vhost, definitions.vhosts)
            yield from map(self._add_user, definitions.users)
            yield from map(self._permit, definitions.permissions)
            yield from map(self._permit_topic, definitions.topic_permissions)
            yield from map(self._set_global_parameter, definitions.global_parameters)
        yield from map(self._set_parameter, definitions.parameters)
        yield from map(self._set_policy, definitions.policies)
        if definitions.policies or definitions.parameters:
            for each in self._broker.vhosts.values():
                each.apply_policies()
                yield
        yield from map(self._declare_exchange, definitions.exchanges)
        yield from map(self._declare_queue, definitions.queues)
        yield from map(self._bind, definitions.bindings)

    # -- what they refer to ------------------------------------------------------------------------------

    def _place(self, name: str) -> VHost:
        """The virtual host an entry names, or the one for those that name none."""
        return self._administration.vhost(self._vhost or name)

    def _in(self, vhost: str) -> str:
        return f"in vhost '{self._vhost or vhost}'"

    def _left_out(self, what: str, reason: str = "without effect on this broker") -> None:
        self._log.warning("definition left out", what=what, reason=reason)

    # -- entries -----------------------------------------------------------------------------------------

    def _add_vhost(self, entry: VHostEntry) -> None:
        """What is said of it may stand in the entry or in its metadata; to say nothing changes nothing."""
        said = _object(entry.metadata)
        for name in ("description", "tags", "default_queue_type"):
            if getattr(entry, name) is not None:
                said[name] = getattr(entry, name)
        with _naming(f"vhost '{entry.name}'"):
            self._administration.put_vhost(entry.name, restored(said) if said else None)

    def _add_user(self, entry: UserEntry) -> None:
        with _naming(f"user '{entry.name}'"):
            self._administration.put_user(
                entry.name,
                password=hash_of(entry),
                tags=split_tags(entry.tags),
                limits=_object(entry.limits),
            )

    def _permit(self, entry: PermissionEntry) -> None:
        with _naming(f"permissions of user '{entry.user}' {self._in(entry.vhost)}"):
            self._administration.set_permission(
                entry.user,
                self._vhost or entry.vhost,
                configure=entry.configure,
                write=entry.write,
                read=entry.read,
            )

    def _permit_topic(self, entry: TopicPermissionEntry) -> None:
        what = (
            f"topic permissions of user '{entry.user}' at exchange '{entry.exchange}' {self._in(entry.vhost)}"
        )
        with _naming(what):
            self._administration.set_topic_permission(
                entry.user,
                self._vhost or entry.vhost,
                entry.exchange,
                write=entry.write,
                read=entry.read,
            )

    def _set_global_parameter(self, entry: GlobalParameterEntry) -> None:
        with _naming(f"global parameter '{entry.name}'"):
            self._administration.set_global_parameter(entry.name, entry.value)

    def _set_parameter(self, entry: ParameterEntry) -> None:
        what, vhost = f"{entry.component} parameter '{entry.name}' {self._in(entry.vhost)}", entry.vhost
        if entry.component == OPERATOR_POLICY:
            with _naming(f"operator policy '{entry.name}' {self._in(vhost)}"):
                value = msgspec.convert(entry.value, OperatorPolicyValue)
                self._administration.set_policy(
                    self._vhost or vhost,
                    entry.name,
                    value.pattern,
                    _object(value.definition),
                    priority=value.priority,
                    apply_to=value.apply_to,
                    operator=True,
                    live=False,
                )
        elif entry.component == VHOST_LIMITS_COMPONENT:
            with _naming(what):
                self._administration.set_parameter(
                    entry.component, self._vhost or vhost, entry.name, _limits(entry.value)
                )
        else:
            self._left_out(what)

    def _set_policy(self, entry: PolicyEntry) -> None:
        with _naming(f"policy '{entry.name}' {self._in(entry.vhost)}"):
            self._administration.set_policy(
                self._vhost or entry.vhost,
                entry.name,
                entry.pattern,
                _object(entry.definition),
                priority=entry.priority,
                apply_to=entry.apply_to,
                live=False,
            )

    def _declare_exchange(self, entry: ExchangeEntry) -> None:
        with _naming(f"exchange '{entry.name}' {self._in(entry.vhost)}"):
            vhost = self._place(entry.vhost)
            if entry.name in vhost.exchanges:
                return
            if entry.type not in EXCHANGE_TYPES:
                raise DefinitionsError(f"unknown exchange type '{entry.type}'")
            vhost.declare_exchange(
                entry.name,
                entry.type,
                durable=entry.durable,
                auto_delete=entry.auto_delete,
                internal=entry.internal,
                arguments=_object(entry.arguments),
            )

    def _declare_queue(self, entry: QueueEntry) -> None:
        with _naming(f"queue '{entry.name}' {self._in(entry.vhost)}"):
            vhost = self._place(entry.vhost)
            if not entry.name:
                raise DefinitionsError("a queue needs a name")
            if entry.name in vhost.queues:
                return
            arguments = _object(entry.arguments)
            if entry.type != "classic":
                arguments.setdefault("x-queue-type", entry.type)
            vhost.declare_queue(
                entry.name, durable=entry.durable, auto_delete=entry.auto_delete, arguments=arguments
            )

    def _bind(self, entry: BindingEntry) -> None:
        if not entry.source:
            return  # every queue is bound to the default exchange anyway
        what = (
            f"binding from exchange '{entry.source}' to {entry.destination_type} '{entry.destination}' "
            f"with key '{entry.routing_key}' {self._in(entry.vhost)}"
        )
        with _naming(what):
            vhost = self._place(entry.vhost)
            ends: Mapping[str, AnyQueue | Exchange] = (
                vhost.queues if entry.destination_type == "queue" else vhost.exchanges
            )
            source, destination = vhost.exchanges.get(entry.source), ends.get(entry.destination)
            if source is None or destination is None:
                self._log.warning(
                    "definition left out", what=what, reason="source or destination is not there"
                )
                return
            vhost.bind(source, destination, entry.routing_key, _object(entry.arguments))


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Let an error say which entry it is about."""
    try:
        yield
    except (DefinitionsError, AmqpError, NotThere, ValueError) as error:
        raise DefinitionsError(f"{what}: {error}") from None


def _object(pairs: Pairs) -> dict[str, Any]:
    return dict(pairs)


def _limits(value: Any) -> Any:
    """Limits as an object; no limits at all may be written as an empty list."""
    return {} if value == [] else value
