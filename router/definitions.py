"""Definitions: a document that says which users, virtual hosts, queues, ... a broker shall have.

Owns the JSON that RabbitMQ 3.x and 4.x export and how it is brought to a broker. What an entry means, and
whether it is allowed, is settled where such things are made; here its error gets the entry's name. Importing
again changes nothing, and what is there already with other properties stays as it is, as in RabbitMQ: users,
permissions and policies are set, exchanges and queues only made.

What this broker has no use for (parameters of plugins, limits, global parameters) is logged and left out. So
is a binding whose ends are not there: RabbitMQ 3.10 exports the bindings of internal exchanges without these
exchanges.

Source: RabbitMQ, "Schema Definition Export and Import".
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import structlog
from msgspec import Struct, field

from protocol.errors import AmqpError
from router.administration import Administration, NotThere
from router.auth import SHA256, PasswordHash, hash_password
from router.broker import Broker
from router.exchange import EXCHANGE_TYPES
from router.exchange.base import Exchange
from router.queue.kind import AnyQueue
from router.vhost import VHost
from router.vhost_metadata import split_tags

Pairs = dict[str, Any] | list[tuple[str, Any]]  # some versions write objects as lists of pairs, {} as []


class DefinitionsError(Exception):
    """Definitions cannot be imported; the text names the entry. What stands before it is imported."""


class UserEntry(Struct):
    """A user; ``password`` is for documents that people write."""

    name: str
    password_hash: str = ""
    hashing_algorithm: str = SHA256
    password: str | None = None
    tags: str | list[str] = ""
    limits: Pairs = {}


class VHostEntry(Struct):
    """A virtual host."""

    name: str
    default_queue_type: str = ""
    metadata: Pairs = {}


class PermissionEntry(Struct):
    """The permissions of a user in a virtual host."""

    user: str
    configure: str
    write: str
    read: str
    vhost: str = ""


class TopicPermissionEntry(Struct):
    """The topic permissions of a user at an exchange."""

    user: str
    exchange: str
    write: str
    read: str
    vhost: str = ""


class ParameterEntry(Struct):
    """A runtime parameter; operator policies are exported as such."""

    component: str
    name: str
    value: Any
    vhost: str = ""


class GlobalParameterEntry(Struct):
    """A parameter of the whole cluster."""

    name: str


class OperatorPolicyValue(Struct):
    """The value of a parameter that is an operator policy."""

    pattern: str
    definition: Pairs
    priority: int = 0
    apply_to: str = field(name="apply-to", default="all")


class PolicyEntry(Struct):
    """A policy."""

    name: str
    pattern: str
    definition: Pairs
    priority: int = 0
    apply_to: str = field(name="apply-to", default="all")
    vhost: str = ""


class ExchangeEntry(Struct):
    """An exchange."""

    name: str
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Pairs = {}
    vhost: str = ""


class QueueEntry(Struct):
    """A queue; the type is given in the arguments, or in later versions beside them."""

    name: str
    durable: bool = True
    auto_delete: bool = False
    type: str = "classic"
    arguments: Pairs = {}
    vhost: str = ""


class BindingEntry(Struct):
    """A binding."""

    source: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    routing_key: str = ""
    arguments: Pairs = {}
    vhost: str = ""


class Definitions(Struct):
    """The document. The entries of one that was exported from one virtual host do not name it."""

    users: list[UserEntry] = []
    vhosts: list[VHostEntry] = []
    permissions: list[PermissionEntry] = []
    topic_permissions: list[TopicPermissionEntry] = []
    parameters: list[ParameterEntry] = []
    global_parameters: list[GlobalParameterEntry] = []
    policies: list[PolicyEntry] = []
    exchanges: list[ExchangeEntry] = []
    queues: list[QueueEntry] = []
    bindings: list[BindingEntry] = []


def parse_definitions(document: bytes) -> Definitions:
    """The entries of a JSON document; fields nobody knows are left out. Raises DefinitionsError."""
    try:
        return msgspec.json.decode(document, type=Definitions)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DefinitionsError(str(error)) from None


def apply_definitions(broker: Broker, definitions: Definitions, vhost: str = "") -> None:
    """Bring definitions to the broker; ``vhost`` is for entries that name none. Raises DefinitionsError."""
    _Import(broker, vhost).run(definitions)


class _Import:
    """One import, in the order in which entries need each other."""

    def __init__(self, broker: Broker, vhost: str) -> None:
        self._broker = broker
        self._administration = Administration(broker)
        self._vhost = vhost
        self._log = structlog.get_logger()

    def run(self, definitions: Definitions) -> None:
        for vhost in definitions.vhosts:
            self._add_vhost(vhost)
        for user in definitions.users:
            self._add_user(user)
        for permission in definitions.permissions:
            self._permit(permission)
        for topic_permission in definitions.topic_permissions:
            self._permit_topic(topic_permission)
        for global_parameter in definitions.global_parameters:
            self._left_out(f"global parameter '{global_parameter.name}'")
        for parameter in definitions.parameters:
            self._set_parameter(parameter)
        for policy in definitions.policies:
            self._set_policy(policy)
        if definitions.policies or definitions.parameters:
            for each in self._broker.vhosts.values():
                each.apply_policies()
        for exchange in definitions.exchanges:
            self._declare_exchange(exchange)
        for queue in definitions.queues:
            self._declare_queue(queue)
        for binding in definitions.bindings:
            self._bind(binding)

    # -- what they refer to ------------------------------------------------------------------------------

    def _place(self, name: str) -> VHost:
        """The virtual host an entry names, or the one for those that name none."""
        return self._administration.vhost(name or self._vhost)

    def _in(self, vhost: str) -> str:
        return f"in vhost '{vhost or self._vhost}'"

    def _left_out(self, what: str, reason: str = "without effect on this broker") -> None:
        self._log.warning("definition left out", what=what, reason=reason)

    # -- entries -----------------------------------------------------------------------------------------

    def _add_vhost(self, entry: VHostEntry) -> None:
        self._administration.put_vhost(entry.name)
        metadata = _object(entry.metadata)
        queue_type = entry.default_queue_type or metadata.get("default_queue_type")
        if queue_type not in ("", None, "undefined", "classic"):
            self._left_out(f"default queue type '{queue_type}' of vhost '{entry.name}'")

    def _add_user(self, entry: UserEntry) -> None:
        password = PasswordHash(entry.password_hash, entry.hashing_algorithm)
        if entry.password:
            password = hash_password(entry.password, self._broker.settings.auth.password_hash)
        with _naming(f"user '{entry.name}'"):
            self._administration.put_user(entry.name, password=password, tags=split_tags(entry.tags))
        if entry.limits:
            self._left_out(f"limits of user '{entry.name}'")

    def _permit(self, entry: PermissionEntry) -> None:
        with _naming(f"permissions of user '{entry.user}' {self._in(entry.vhost)}"):
            self._administration.set_permission(
                entry.user,
                entry.vhost or self._vhost,
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
                entry.vhost or self._vhost,
                entry.exchange,
                write=entry.write,
                read=entry.read,
            )

    def _set_parameter(self, entry: ParameterEntry) -> None:
        if entry.component != "operator_policy":
            self._left_out(f"{entry.component} parameter '{entry.name}' {self._in(entry.vhost)}")
            return
        with _naming(f"operator policy '{entry.name}' {self._in(entry.vhost)}"):
            value = msgspec.convert(entry.value, OperatorPolicyValue)
            self._administration.set_policy(
                entry.vhost or self._vhost,
                entry.name,
                value.pattern,
                _object(value.definition),
                priority=value.priority,
                apply_to=value.apply_to,
                operator=True,
                live=False,
            )

    def _set_policy(self, entry: PolicyEntry) -> None:
        with _naming(f"policy '{entry.name}' {self._in(entry.vhost)}"):
            self._administration.set_policy(
                entry.vhost or self._vhost,
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
    except (
        DefinitionsError,
        AmqpError,
        NotThere,
        ValueError,
    ) as error:
        raise DefinitionsError(f"{what}: {error}") from None


def _object(pairs: Pairs) -> dict[str, Any]:
    return dict(pairs)
