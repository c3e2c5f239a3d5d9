"""Restoring a broker's metadata: virtual hosts, users, permissions, policies, exchanges, queues and bindings.

A row that cannot be restored is left out and added to ``Restored.bad``. A start uses this module, and so does
``leveret store check``, with a broker that it discards. ``message_restore``
restores messages.
"""

from msgspec import Struct, field

from leveret.router.auth import PasswordHash
from leveret.router.broker.broker import Broker
from leveret.router.exchange.base import Exchange
from leveret.router.persistence.rows import PermissionRow, PolicyRow, TopicPermissionRow, UserRow
from leveret.router.queue.interface import AnyQueue
from leveret.router.store.metadata.bad_rows import BadRows, RowId
from leveret.router.store.metadata.reading import StoredMetadata
from leveret.router.store.metadata.topology_restore import restore_binding, restore_exchange, restore_queue
from leveret.router.values.bounds import check_json, refused_name
from leveret.router.values.limits import USER_LIMITS, VHOST_LIMITS, check_limits
from leveret.router.vhost.metadata import read_metadata
from leveret.router.vhost.vhost import VHost


class Restored(Struct):
    """The objects that were restored from the metadata; queues have no messages yet."""

    exchanges: list[tuple[VHost, Exchange]] = field(default_factory=list)
    queues: list[tuple[int, AnyQueue]] = field(default_factory=list)  # by their ids
    windows: dict[tuple[str, str], int] = field(default_factory=dict)  # ids by virtual host and exchange
    bad: BadRows = field(default_factory=BadRows)
    doubts: list[tuple[RowId, str]] = field(default_factory=list)  # rows restored with a change, and which


def restore_metadata(broker: Broker, metadata: StoredMetadata) -> Restored:
    """Restore all rows that can be. Raises MetadataError if the database cannot be read."""
    found = Restored()
    _restore_vhosts(broker, metadata, found.bad)
    _restore_users(broker, metadata, found.bad)
    _restore_rights(broker, metadata, found.bad)
    _restore_policies(broker, metadata, found.bad)
    _restore_topology(broker, metadata, found)
    queues = {number for number, _ in found.queues} | {
        bad.row.columns["id"] for bad in found.bad.of("queues")
    }
    for row, window in metadata.read("windows", found.bad):
        with found.bad.skipping(row):
            if window.id in queues:
                raise ValueError(f"a queue has its id, {window.id}")
            found.windows[window.vhost, window.exchange] = window.id
    return found


def _restore_vhosts(broker: Broker, metadata: StoredMetadata, bad: BadRows) -> None:
    for row, vhost in metadata.read("vhosts", bad):
        with bad.skipping(row):
            _check_name("virtual host name", vhost.name)
            description = read_metadata(vhost.metadata)
            broker.add_vhost(vhost.name).metadata = description
    for each in bad.of("vhosts"):  # one with an unreadable description is restored without it
        name = each.row.text("name")
        if name and not refused_name("virtual host name", name):
            broker.add_vhost(name)


def _restore_users(broker: Broker, metadata: StoredMetadata, bad: BadRows) -> None:
    for row, user in metadata.read("users", bad):
        with bad.skipping(row):
            _restore_user(broker, user)


def _restore_user(broker: Broker, row: UserRow) -> None:
    _check_name("user name", row.name)
    limits = check_limits(row.limits, USER_LIMITS, "user-limits")
    broker.users.add(row.name, PasswordHash(row.password_hash, row.algorithm), row.tags).limits = limits


def _restore_rights(broker: Broker, metadata: StoredMetadata, bad: BadRows) -> None:
    for row, right in metadata.read("permissions", bad):
        with bad.skipping(row):
            _permit(broker, right)
    for row, topic in metadata.read("topic_permissions", bad):
        with bad.skipping(row):
            _permit_topic(broker, topic)
    for each in bad.of("topic_permissions"):  # without an entry the user could use every routing key
        user = broker.users.get(each.row.text("user"))
        if user is not None:
            user.permit_topic(each.row.text("vhost"), each.row.text("exchange"), write="", read="")


def _permit(broker: Broker, row: PermissionRow) -> None:
    _must_have_user(broker, row.user)
    broker.users[row.user].permit(row.vhost, configure=row.configure, write=row.write, read=row.read)


def _permit_topic(broker: Broker, row: TopicPermissionRow) -> None:
    _must_have_user(broker, row.user)
    broker.users[row.user].permit_topic(row.vhost, row.exchange, write=row.write, read=row.read)


def _must_have_user(broker: Broker, name: str) -> None:
    if name not in broker.users:
        raise ValueError(f"there is no user '{name}'")


def _restore_policies(broker: Broker, metadata: StoredMetadata, bad: BadRows) -> None:
    """Restore policies, limits and parameters, before the exchanges and queues that they apply to."""
    for row, policy in metadata.read("policies", bad):
        with bad.skipping(row):
            _restore_policy(broker, policy)
    for row, parameter in metadata.read("parameters", bad):
        with bad.skipping(row):
            if parameter.component == "vhost-limits":
                if not isinstance(parameter.value, dict):
                    raise ValueError("limits are an object")
                limits = check_limits(parameter.value, VHOST_LIMITS, "limits")
                _place(broker, parameter.vhost).limits = limits
    for row, each in metadata.read("global_parameters", bad):
        with bad.skipping(row):
            _check_name("global parameter name", each.name)
            check_json("value", each.value)
            broker.global_parameters[each.name] = each.value


def _restore_policy(broker: Broker, row: PolicyRow) -> None:
    _place(broker, row.vhost).policies.put(
        row.name,
        row.pattern,
        row.definition,
        priority=row.priority,
        apply_to=row.apply_to,
        operator=row.operator,
    )


def _restore_topology(broker: Broker, metadata: StoredMetadata, found: Restored) -> None:
    for row, kept in metadata.read("exchanges", found.bad):
        with found.bad.skipping(row):
            vhost = _place(broker, kept.vhost)
            exchange, doubt = restore_exchange(vhost, kept)
            found.exchanges.append((vhost, exchange))
            if doubt:
                found.doubts.append((row, doubt))
    for row, kept in metadata.read("queues", found.bad):
        with found.bad.skipping(row):
            queue, doubt = restore_queue(_place(broker, kept.vhost), kept)
            found.queues.append((kept.id, queue))
            if doubt:
                found.doubts.append((row, doubt))
    for each in found.bad.of("queues"):  # a new queue of the same name would replace the row
        place = broker.vhosts.get(each.row.text("vhost"))
        if place is not None:
            place.unavailable[each.row.text("name")] = each.why
    ends_missing = bool(found.bad.of("exchanges") or found.bad.of("queues"))
    for row, binding in metadata.read("bindings", found.bad):
        with found.bad.skipping(row):
            vhost = _place(broker, binding.vhost)
            if not restore_binding(vhost, binding) and ends_missing:
                raise ValueError("its source or its destination does not exist")


def _place(broker: Broker, name: str) -> VHost:
    """Return the virtual host of this name, created if necessary. Raises ValueError for an invalid name."""
    _check_name("virtual host name", name)
    return broker.add_vhost(name)


def _check_name(what: str, name: str) -> None:
    if refusal := "it has no name" if not name else refused_name(what, name):
        raise ValueError(refusal)
