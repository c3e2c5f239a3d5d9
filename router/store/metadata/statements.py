"""The SQL statements for changes of the metadata, and the rows of the topology.

Executing a statement twice has the same effect as executing it once. Not for the tables and for reading (see
``database``).
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from leveret.protocol.amqp.table import Table, Value, encode_table
from leveret.router.exchange.base import Binding, kind
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    Row,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)

Statement: TypeAlias = tuple[str, tuple[bytes | int, ...]]


class ExchangeRow(NamedTuple):
    vhost: str
    name: str
    type: str
    auto_delete: bool
    internal: bool
    arguments: Table


class QueueRow(NamedTuple):
    id: int
    vhost: str
    name: str
    auto_delete: bool
    arguments: Mapping[str, Value]


class WindowRow(NamedTuple):
    """An exchange with notes. Queues have other ids."""

    id: int
    vhost: str
    exchange: str


class BindingRow(NamedTuple):
    vhost: str
    source: str
    kind: str  # "queue" or "exchange"
    destination: str
    routing_key: str
    arguments: Mapping[str, Value]

    @classmethod
    def of(cls, vhost: str, binding: Binding) -> "BindingRow":
        """Return the row of a binding."""
        end = binding.destination
        return cls(
            vhost, binding.source.name, kind(end), end.name, binding.routing_key, dict(binding.arguments)
        )


def copy_row(table: str, values: Sequence[bytes | int]) -> Statement:
    """Return the statement that stores a row with all its columns, as another database has it."""
    return _insert(table, *values)


def keep(row: Row) -> Statement:  # noqa: PLR0911 - one return for each type
    """Return the statement that stores a row, or replaces the row with the same key.

    Priorities of policies are stored as text, because they may exceed SQLite's integers.
    """
    match row:
        case VHostRow(name, metadata):
            return _insert("vhosts", name, json.dumps(metadata))
        case UserRow(name, password_hash, algorithm, tags, limits):
            return _insert("users", name, password_hash, algorithm, json.dumps(tags), json.dumps(limits))
        case PermissionRow():
            return _insert("permissions", *row)
        case TopicPermissionRow():
            return _insert("topic_permissions", *row)
        case PolicyRow():
            return _insert("policies", *row[:5], str(row.priority), json.dumps(row.definition))
        case ParameterRow():
            return _insert("parameters", *row[:3], json.dumps(row.value))
        case GlobalParameterRow(name, value):
            return _insert("global_parameters", name, json.dumps(value))


def forget(row: Row) -> list[Statement]:  # noqa: PLR0911 - likewise
    """Return the statements that delete the row with this key, and rows that depend on it."""
    match row:
        case VHostRow(name):
            return remove_vhost(name)
        case UserRow(name):
            return remove_user(name)
        case PermissionRow(user, vhost):
            return [_delete("permissions", user=user, vhost=vhost)]
        case TopicPermissionRow(user, vhost, exchange):
            return [_delete("topic_permissions", user=user, vhost=vhost, exchange=exchange)]
        case PolicyRow(vhost, operator, name):
            return [_delete("policies", vhost=vhost, operator=operator, name=name)]
        case ParameterRow(vhost, component, name):
            return [_delete("parameters", vhost=vhost, component=component, name=name)]
        case GlobalParameterRow(name):
            return [_delete("global_parameters", name=name)]


def remove_vhost(name: str) -> list[Statement]:
    """Return the statements that delete a virtual host with its objects and permissions."""
    tables = (
        "permissions",
        "topic_permissions",
        "policies",
        "parameters",
        "exchanges",
        "queues",
        "bindings",
        "windows",
    )
    return [_delete("vhosts", name=name), *(_delete(table, vhost=name) for table in tables)]


def remove_user(name: str) -> list[Statement]:
    """Return the statements that delete a user with its permissions."""
    rights = [_delete(table, user=name) for table in ("permissions", "topic_permissions")]
    return [_delete("users", name=name), *rights]


def add_exchange(row: ExchangeRow) -> Statement:
    return _insert("exchanges", *row[:5], encode_table(row.arguments))


def remove_exchange(vhost: str, name: str) -> list[Statement]:
    """Return the statements that delete an exchange with the bindings from it and to it."""
    return [
        _delete("exchanges", vhost=vhost, name=name),
        _delete("windows", vhost=vhost, exchange=name),
        _delete("bindings", vhost=vhost, source=name),
        _delete("bindings", vhost=vhost, kind="exchange", destination=name),
    ]


def add_window(row: WindowRow) -> Statement:
    return _insert("windows", *row)


def add_queue(row: QueueRow) -> Statement:
    return _insert("queues", *row[:4], encode_table(row.arguments))


def remove_queue(vhost: str, name: str) -> list[Statement]:
    """Return the statements that delete a queue with its bindings."""
    return [
        _delete("queues", vhost=vhost, name=name),
        _delete("bindings", vhost=vhost, kind="queue", destination=name),
    ]


def add_binding(row: BindingRow) -> Statement:
    """Return the statement that stores a binding; an existing one keeps its place in the order."""
    sql = (
        "INSERT OR IGNORE INTO bindings (vhost, source, kind, destination, routing_key, arguments)"
        " VALUES (?, ?, ?, ?, ?, ?)"
    )
    return sql, (*map(_stored, row[:5]), _canonical(row.arguments))


def remove_binding(row: BindingRow) -> Statement:
    names = dict(zip(BindingRow._fields, row[:5], strict=False))
    return _delete("bindings", **names, arguments=_canonical(row.arguments))


def _insert(table: str, *values: str | bytes | int) -> Statement:
    """Return the statement that inserts a row, or replaces the row with the same key."""
    places = ", ".join("?" * len(values))
    return f"INSERT OR REPLACE INTO {table} VALUES ({places})", tuple(map(_stored, values))


def _delete(table: str, **key: str | bytes | int) -> Statement:
    condition = " AND ".join(f"{column} = ?" for column in key)
    return f"DELETE FROM {table} WHERE {condition}", tuple(map(_stored, key.values()))


def _stored(value: str | bytes | int) -> bytes | int:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _canonical(arguments: Mapping[str, Value]) -> bytes:
    """Encode a binding's arguments sorted by name, because their order does not distinguish bindings."""
    return encode_table(dict(sorted(arguments.items())))
