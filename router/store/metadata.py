"""The topology and the users on disk: small, relational, in SQLite.

Owns the tables and the statements. Changes are gathered as statements while the core works, and carried out in
one transaction by whoever commits; reading happens once, when the broker starts.

Field tables are kept as they are encoded on the wire. A queue's id is of its incarnation: a queue that is
deleted and declared again gets another, and nothing in the journal is taken for the new one's.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from protocol.amqp.table import Table, decode_table, encode_table

FORMAT = 1

SCHEMA = """
CREATE TABLE vhosts (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE users (
    name TEXT PRIMARY KEY, password_hash TEXT NOT NULL, algorithm TEXT NOT NULL, tags TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE permissions (
    user TEXT, vhost TEXT, configure TEXT NOT NULL, write TEXT NOT NULL, read TEXT NOT NULL,
    PRIMARY KEY (user, vhost)
) WITHOUT ROWID;
CREATE TABLE topic_permissions (
    user TEXT, vhost TEXT, exchange TEXT, write TEXT NOT NULL, read TEXT NOT NULL,
    PRIMARY KEY (user, vhost, exchange)
) WITHOUT ROWID;
CREATE TABLE policies (
    vhost TEXT, operator INTEGER, name TEXT, pattern TEXT NOT NULL, apply_to TEXT NOT NULL,
    priority INTEGER NOT NULL, definition BLOB NOT NULL, PRIMARY KEY (vhost, operator, name)
) WITHOUT ROWID;
CREATE TABLE exchanges (
    vhost TEXT, name TEXT, type TEXT NOT NULL, auto_delete INTEGER NOT NULL, internal INTEGER NOT NULL,
    arguments BLOB NOT NULL, PRIMARY KEY (vhost, name)
) WITHOUT ROWID;
CREATE TABLE queues (
    id INTEGER PRIMARY KEY, vhost TEXT NOT NULL, name TEXT NOT NULL, auto_delete INTEGER NOT NULL,
    arguments BLOB NOT NULL, UNIQUE (vhost, name)
);
CREATE TABLE bindings (
    number INTEGER PRIMARY KEY, vhost TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL,
    destination TEXT NOT NULL, routing_key TEXT NOT NULL, arguments BLOB NOT NULL,
    UNIQUE (vhost, source, kind, destination, routing_key, arguments)
);
CREATE INDEX bindings_by_destination ON bindings (vhost, kind, destination);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

Statement = tuple[str, tuple[Any, ...]]


class MetadataError(Exception):
    """The database cannot be used; the text says why."""


class QueueRow(NamedTuple):
    id: int
    vhost: str
    name: str
    auto_delete: bool
    arguments: Table


class ExchangeRow(NamedTuple):
    vhost: str
    name: str
    type: str
    auto_delete: bool
    internal: bool
    arguments: Table


class BindingRow(NamedTuple):
    vhost: str
    source: str
    kind: str  # "queue" or "exchange"
    destination: str
    routing_key: str
    arguments: Table


# -- statements: what changes ---------------------------------------------------------------------------------


def add_exchange(row: ExchangeRow) -> Statement:
    sql = "INSERT OR REPLACE INTO exchanges VALUES (?, ?, ?, ?, ?, ?)"
    return sql, (row.vhost, row.name, row.type, row.auto_delete, row.internal, encode_table(row.arguments))


def remove_exchange(vhost: str, name: str) -> list[Statement]:
    """With every binding from it and to it."""
    return [
        ("DELETE FROM exchanges WHERE vhost = ? AND name = ?", (vhost, name)),
        ("DELETE FROM bindings WHERE vhost = ? AND source = ?", (vhost, name)),
        (
            "DELETE FROM bindings WHERE vhost = ? AND kind = 'exchange' AND destination = ?",
            (vhost, name),
        ),
    ]


def add_queue(row: QueueRow) -> Statement:
    sql = "INSERT OR REPLACE INTO queues VALUES (?, ?, ?, ?, ?)"
    return sql, (row.id, row.vhost, row.name, row.auto_delete, encode_table(row.arguments))


def remove_queue(vhost: str, name: str) -> list[Statement]:
    """With every binding to it."""
    return [
        ("DELETE FROM queues WHERE vhost = ? AND name = ?", (vhost, name)),
        ("DELETE FROM bindings WHERE vhost = ? AND kind = 'queue' AND destination = ?", (vhost, name)),
    ]


def add_binding(row: BindingRow) -> Statement:
    sql = (
        "INSERT OR IGNORE INTO bindings (vhost, source, kind, destination, routing_key, arguments)"
        " VALUES (?, ?, ?, ?, ?, ?)"
    )
    return sql, (*row[:5], encode_table(row.arguments))


def remove_binding(row: BindingRow) -> Statement:
    sql = (
        "DELETE FROM bindings WHERE vhost = ? AND source = ? AND kind = ? AND destination = ?"
        " AND routing_key = ? AND arguments = ?"
    )
    return sql, (*row[:5], encode_table(row.arguments))


# -- the database ---------------------------------------------------------------------------------------------


class Metadata:
    """An open database. Every method raises sqlite3.Error when the disk fails it."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it. Raises MetadataError for a format of another version."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version != FORMAT:
            self._connection.close()
            raise MetadataError(
                f"{path} has format {version}, and this leveret knows format {FORMAT}: use the version that wrote it"
            )

    def commit(self, statements: Iterable[Statement]) -> None:
        """Carry out all of them, or none, and have them on disk."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()

    # -- reading ----------------------------------------------------------------------------------------------

    def vhosts(self) -> list[str]:
        return [name for (name,) in self._connection.execute("SELECT name FROM vhosts ORDER BY name")]

    def queues(self) -> list[QueueRow]:
        rows = self._connection.execute("SELECT * FROM queues ORDER BY id")
        return [QueueRow(number, vhost, name, bool(auto), _table(raw)) for number, vhost, name, auto, raw in rows]

    def exchanges(self) -> list[ExchangeRow]:
        rows = self._connection.execute("SELECT * FROM exchanges ORDER BY vhost, name")
        return [
            ExchangeRow(vhost, name, kind, bool(auto), bool(internal), _table(raw))
            for vhost, name, kind, auto, internal, raw in rows
        ]

    def bindings(self) -> list[BindingRow]:
        """In the order they were made."""
        rows = self._connection.execute(
            "SELECT vhost, source, kind, destination, routing_key, arguments FROM bindings ORDER BY number"
        )
        return [
            BindingRow(vhost, source, kind, destination, routing_key, _table(raw))
            for vhost, source, kind, destination, routing_key, raw in rows
        ]

    def counters(self) -> Mapping[str, int]:
        return dict(self._connection.execute("SELECT name, value FROM counters"))


def _table(raw: bytes) -> Table:
    return decode_table(raw, 0)[0]
