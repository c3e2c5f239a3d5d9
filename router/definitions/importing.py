"""Import of a definitions document into a broker, entry by entry.

Responsible for the order of the entries, and for continuing after a refused one, which is logged once and
reported. Entries are checked by the code that declares or sets such objects. Importing a document again
changes nothing. As in RabbitMQ, users, permissions, policies and parameters are set, while existing exchanges
and queues stay as they are, even if their properties differ.

RabbitMQ ends an import at the first refused entry, with some of the others applied.

Parameters of plugins are logged and left out. So is a binding if its queue or exchange does not exist:
RabbitMQ 3.10 exports the bindings of internal exchanges without these exchanges.

Source: RabbitMQ, "Schema Definition Export and Import".
"""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import structlog

from leveret.protocol.errors import AmqpError
from leveret.router.auth import User
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.broker.checks import NoSuchObject
from leveret.router.broker.parameters import OPERATOR_POLICY, VHOST_LIMITS_COMPONENT
from leveret.router.definitions.document import (
    REFUSED_MAX,
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
    RefusedEntry,
    TopicPermissionEntry,
    UserEntry,
    VHostEntry,
    hash_of,
    hash_passwords,
)
from leveret.router.exchange import EXCHANGE_TYPES
from leveret.router.exchange.base import Exchange
from leveret.router.queue.interface import AnyQueue
from leveret.router.turns.backlog import LongWork, at_once
from leveret.router.vhost.declare import clean_name, is_reserved
from leveret.router.vhost.metadata import read_metadata, split_tags
from leveret.router.vhost.vhost import VHost

E = TypeVar("E")
RESERVED = "names that begin with amq. are reserved for the broker"  # left out by RabbitMQ too
TEXT_MAX = 500  # characters of the name of an entry, and of a reason, in a report


@dataclass(slots=True)
class ImportReport:
    """The result of an import: the first refused entries, the number of the others, and the users who cannot
    log in with a password, because their hashes are unusable.

    ``unfinished`` is the work that applies the policies and permissions to existing objects in later turns.
    """

    refused: list[RefusedEntry] = field(default_factory=list)
    more_refused: int = 0
    without_login: list[str] = field(default_factory=list)
    unfinished: list[LongWork] = field(default_factory=list)


def apply_definitions(
    broker: Broker, definitions: Definitions, vhost: str = "", maker: User | None = None
) -> ImportReport:
    """Import definitions at once, which blocks until all passwords are hashed and all entries imported. The
    entries are removed from ``definitions``.

    ``vhost`` replaces the virtual hosts that entries name, unless it is "". ``maker`` is the user who
    imports, see ``put_vhost``.
    """
    known = {user.name: user.password_hash for user in broker.users.values()}
    hash_passwords(definitions, broker.settings.auth.password_hash, known)
    return at_once(import_definitions(broker, definitions, vhost, maker))


def import_definitions(
    broker: Broker, definitions: Definitions, vhost: str = "", maker: User | None = None
) -> Generator[None, None, ImportReport]:
    """Import definitions without passwords, an entry a step, between which other tasks can run. The entries
    are removed from ``definitions``.
    """
    run = _Import(broker, vhost, maker)
    yield from run.run(definitions)
    return run.report


class _Import:
    """One import. Entries are imported after the entries that they refer to."""

    def __init__(self, broker: Broker, vhost: str, maker: User | None) -> None:
        self.report = ImportReport()
        self._broker = broker
        self._administration = Administration(broker)
        self._vhost = vhost
        self._maker = maker
        self._log = structlog.get_logger()

    def run(self, definitions: Definitions) -> Iterator[None]:
        """Import entry by entry; an import to one virtual host skips users and other entries of the
        broker.
        """
        for refusal in definitions.refused:
            self._report_refusal(refusal)
            yield
        self.report.more_refused = definitions.more_refused
        yield from self._import_entries(definitions)
        if self.report.more_refused:
            self._log.warning("further definitions refused", count=self.report.more_refused)

    def _import_entries(self, definitions: Definitions) -> Iterator[None]:
        if not self._vhost:
            yield from map(self._add_vhost, _taken(definitions.vhosts))
            yield from map(self._add_user, _taken(definitions.users))
            yield from map(self._permit, _taken(definitions.permissions))
            yield from map(self._permit_topic, _taken(definitions.topic_permissions))
            yield from map(self._set_global_parameter, _taken(definitions.global_parameters))
        # Limits last: an export may have more queues than may be declared now.
        others = [each for each in definitions.parameters if each.component != VHOST_LIMITS_COMPONENT]
        limits = [each for each in definitions.parameters if each.component == VHOST_LIMITS_COMPONENT]
        yield from map(self._set_parameter, others)
        policies = len(definitions.policies)
        yield from map(self._set_policy, _taken(definitions.policies))
        if policies or definitions.parameters:
            for each in self._broker.vhosts.values():
                self._continues(each.apply_policies())
                yield
        yield from map(self._declare_exchange, _taken(definitions.exchanges))
        yield from map(self._declare_queue, _taken(definitions.queues))
        for binding in _taken(definitions.bindings):
            yield from self._bind(binding)
            yield
        yield from map(self._set_parameter, limits)

    def _continues(self, work: LongWork | None) -> None:
        """Report work that is unfinished."""
        if work is not None:
            self.report.unfinished.append(work)

    def _report_refusal(self, refusal: RefusedEntry) -> None:
        """Log and report a refused entry, or count it if many are reported already."""
        if len(self.report.refused) == REFUSED_MAX:
            self.report.more_refused += 1
            return
        refusal = RefusedEntry(*(text[:TEXT_MAX] for text in refusal))
        self._log.warning("definition refused", entry=refusal.entry, reason=refusal.reason)
        self.report.refused.append(refusal)

    @contextmanager
    def _reporting_refusals(self, name: str) -> Iterator[None]:
        """Report the entry of this name as refused if the block raises an error of an invalid entry."""
        try:
            yield
        except (DefinitionsError, AmqpError, NoSuchObject, ValueError, msgspec.MsgspecError) as error:
            self._report_refusal(RefusedEntry(name, str(error)))

    # -- entries and their virtual hosts ------------------------------------------------------------------

    def _place(self, name: str) -> VHost:
        """Return the virtual host of an entry: the one of the import, or the one that the entry names."""
        return self._administration.vhost(self._vhost or name)

    def _in(self, vhost: str) -> str:
        return f"in vhost '{self._vhost or vhost}'"

    def _left_out(self, what: str, reason: str = "without effect on this broker") -> None:
        self._log.warning("definition not imported", what=what, reason=reason)

    # -- entries -----------------------------------------------------------------------------------------

    def _add_vhost(self, entry: VHostEntry) -> None:
        """Create or change a virtual host. The entry has its metadata directly or in the field ``metadata``;
        an entry without metadata does not change the virtual host's.
        """
        said = _object(entry.metadata)
        for name in ("description", "tags", "default_queue_type"):
            if getattr(entry, name) is not None:
                said[name] = getattr(entry, name)
        with self._reporting_refusals(f"vhost '{entry.name}'"):
            metadata = read_metadata(said) if said else None
            self._administration.put_vhost(entry.name, metadata, maker=self._maker)

    def _add_user(self, entry: UserEntry) -> None:
        with self._reporting_refusals(f"user '{entry.name}'"):
            user = self._administration.put_user(
                entry.name,
                password=hash_of(entry),
                tags=split_tags(entry.tags),
                limits=_object(entry.limits),
            )
            fault = user.password_hash.fault
            if fault is not None:
                self._log.warning("user cannot log in with a password", user=entry.name, reason=fault)
                self.report.without_login.append(entry.name)

    def _permit(self, entry: PermissionEntry) -> None:
        with self._reporting_refusals(f"permissions of user '{entry.user}' {self._in(entry.vhost)}"):
            work = self._administration.set_permission(
                entry.user,
                self._vhost or entry.vhost,
                configure=entry.configure,
                write=entry.write,
                read=entry.read,
            )
            self._continues(work)

    def _permit_topic(self, entry: TopicPermissionEntry) -> None:
        what = (
            f"topic permissions of user '{entry.user}' at exchange '{entry.exchange}' {self._in(entry.vhost)}"
        )
        with self._reporting_refusals(what):
            self._administration.set_topic_permission(
                entry.user,
                self._vhost or entry.vhost,
                entry.exchange,
                write=entry.write,
                read=entry.read,
            )

    def _set_global_parameter(self, entry: GlobalParameterEntry) -> None:
        with self._reporting_refusals(f"global parameter '{entry.name}'"):
            self._administration.parameters.set_global(entry.name, entry.value)

    def _set_parameter(self, entry: ParameterEntry) -> None:
        what, vhost = f"{entry.component} parameter '{entry.name}' {self._in(entry.vhost)}", entry.vhost
        if entry.component == OPERATOR_POLICY:
            with self._reporting_refusals(f"operator policy '{entry.name}' {self._in(vhost)}"):
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
            with self._reporting_refusals(what):
                self._administration.parameters.set(
                    entry.component, self._vhost or vhost, entry.name, _limits(entry.value)
                )
        else:
            self._left_out(what)

    def _set_policy(self, entry: PolicyEntry) -> None:
        with self._reporting_refusals(f"policy '{entry.name}' {self._in(entry.vhost)}"):
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
        name = clean_name(entry.name)
        what = f"exchange '{name}' {self._in(entry.vhost)}"
        with self._reporting_refusals(what):
            vhost = self._place(entry.vhost)
            if name in vhost.exchanges:
                return
            if is_reserved(name):
                self._left_out(what, RESERVED)
                return
            if entry.type not in EXCHANGE_TYPES:
                raise DefinitionsError(f"unknown exchange type '{entry.type}'")
            vhost.declare_exchange(
                name,
                entry.type,
                durable=entry.durable,
                auto_delete=entry.auto_delete,
                internal=entry.internal,
                arguments=_object(entry.arguments),
            )

    def _declare_queue(self, entry: QueueEntry) -> None:
        name = clean_name(entry.name)
        what = f"queue '{name}' {self._in(entry.vhost)}"
        with self._reporting_refusals(what):
            vhost = self._place(entry.vhost)
            if not name:
                raise DefinitionsError("a queue needs a name")
            if name in vhost.queues:
                return
            if is_reserved(name):
                self._left_out(what, RESERVED)
                return
            arguments = _object(entry.arguments)
            if entry.type != "classic":
                arguments.setdefault("x-queue-type", entry.type)
            vhost.declare_queue(
                name, durable=entry.durable, auto_delete=entry.auto_delete, arguments=arguments
            )

    def _bind(self, entry: BindingEntry) -> Iterator[None]:
        if not entry.source:
            return  # every queue is bound to the default exchange anyway
        what = (
            f"binding from exchange '{entry.source}' to {entry.destination_type} '{entry.destination}' "
            f"with key '{entry.routing_key}' {self._in(entry.vhost)}"
        )
        with self._reporting_refusals(what):
            vhost = self._place(entry.vhost)
            ends: Mapping[str, AnyQueue | Exchange] = (
                vhost.queues if entry.destination_type == "queue" else vhost.exchanges
            )
            source = vhost.exchanges.get(clean_name(entry.source))
            destination = ends.get(clean_name(entry.destination))
            if source is None or destination is None:
                self._log.warning(
                    "definition not imported", what=what, reason="source or destination does not exist"
                )
                return
            arguments = _object(entry.arguments)
            yield from vhost.bind_in_slices(source, destination, entry.routing_key, arguments)


def _taken(entries: list[E]) -> Iterator[E]:
    """Yield the entries in order, and remove them: freeing many at once would block all clients."""
    entries.reverse()
    while entries:
        yield entries.pop()


def _object(pairs: Pairs) -> dict[str, Any]:
    return dict(pairs)


def _limits(value: Any) -> Any:
    """Return limits as an object; some versions export an empty object as an empty list."""
    return {} if value == [] else value
