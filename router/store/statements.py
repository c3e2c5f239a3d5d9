"""The statements that change the metadata, and the rows of the topology.

Owns how a change is put in SQL, and that carrying a statement out twice is carrying it out once. What the
tables are and what is read from them is ``metadata``'s.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from protocol.amqp.table import Table, Value, encode_table
from router.rows import PermissionRow, PolicyRow, TopicPermissionRow, UserRow

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
    arguments: Table


class BindingRow(NamedTuple):
    vhost: str
    source: str
    kind: str  # "queue" or "exchange"
    destination: str
    routing_key: str
    arguments: Mapping[str, Value]


def add_vhost(name: str) -> Statement:
    return _insert("vhosts", name)


def remove_vhost(name: str) -> list[Statement]:
    """With all that is in it, and all rights there."""
    tables = ("permissions", "topic_permissions", "policies", "exchanges", "queues", "bindings")
    return [_delete("vhosts", name=name), *(_delete(table, vhost=name) for table in tables)]


def add_user(row: UserRow) -> Statement:
    """Or change one."""
    return _insert("users", row.name, row.password_hash, row.algorithm, json.dumps(sorted(row.tags)))


def remove_user(name: str) -> list[Statement]:
    """With all rights."""
    rights = [_delete(table, user=name) for table in ("permissions", "topic_permissions")]
    return [_delete("users", name=name), *rights]


def add_permission(row: PermissionRow) -> Statement:
    """Or change it."""
    return _insert("permissions", *row)


def remove_permission(user: str, vhost: str) -> Statement:
    return _delete("permissions", user=user, vhost=vhost)


def add_topic_permission(row: TopicPermissionRow) -> Statement:
    """Or change it."""
    return _insert("topic_permissions", *row)


def remove_topic_permission(user: str, vhost: str, exchange: str) -> Statement:
    return _delete("topic_permissions", user=user, vhost=vhost, exchange=exchange)


def add_policy(row: PolicyRow) -> Statement:
    """Or change one. Its numbers may be larger than SQLite's."""
    return _insert("policies", *row[:5], str(row.priority), json.dumps(row.definition))


def remove_policy(vhost: str, operator: bool, name: str) -> Statement:
    return _delete("policies", vhost=vhost, operator=operator, name=name)


def add_exchange(row: ExchangeRow) -> Statement:
    return _insert("exchanges", *row[:5], encode_table(row.arguments))


def remove_exchange(vhost: str, name: str) -> list[Statement]:
    """With every binding from it and to it."""
    return [
        _delete("exchanges", vhost=vhost, name=name),
        _delete("bindings", vhost=vhost, source=name),
        _delete("bindings", vhost=vhost, kind="exchange", destination=name),
    ]


def add_queue(row: QueueRow) -> Statement:
    return _insert("queues", *row[:4], encode_table(row.arguments))


def remove_queue(vhost: str, name: str) -> list[Statement]:
    """With every binding to it."""
    return [
        _delete("queues", vhost=vhost, name=name),
        _delete("bindings", vhost=vhost, kind="queue", destination=name),
    ]


def add_binding(row: BindingRow) -> Statement:
    """One that is there already keeps its place in the order."""
    sql = (
        "INSERT OR IGNORE INTO bindings (vhost, source, kind, destination, routing_key, arguments)"
        " VALUES (?, ?, ?, ?, ?, ?)"
    )
    return sql, (*map(_stored, row[:5]), _canonical(row.arguments))


def remove_binding(row: BindingRow) -> Statement:
    names = dict(zip(BindingRow._fields, row[:5], strict=False))
    return _delete("bindings", **names, arguments=_canonical(row.arguments))


def _insert(table: str, *values: str | bytes | int) -> Statement:
    """A row in place of the one with the same key that may be there."""
    places = ", ".join("?" * len(values))
    return f"INSERT OR REPLACE INTO {table} VALUES ({places})", tuple(map(_stored, values))


def _delete(table: str, **key: str | bytes | int) -> Statement:
    condition = " AND ".join(f"{column} = ?" for column in key)
    return f"DELETE FROM {table} WHERE {condition}", tuple(map(_stored, key.values()))


def _stored(value: str | bytes | int) -> bytes | int:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _canonical(arguments: Mapping[str, Value]) -> bytes:
    """A binding's arguments: their order makes no other binding."""
    return encode_table(dict(sorted(arguments.items())))
