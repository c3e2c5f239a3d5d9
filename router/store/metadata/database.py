"""The metadata database: topology, users and policies in SQLite.

Responsible for the tables, their format, and reading them once when the broker starts. The core gathers
changes as statements (see ``statements``), and the writer executes them in one transaction.

Names are stored as bytes: SQLite's TEXT cannot hold zeros or bytes that are not UTF-8, and AMQP allows both
in a name. Field tables are stored as on the wire, definitions of policies as JSON. A queue that is deleted
and declared again gets a new id, so that journal records of the deleted queue have no effect on the new one.
Exchanges with notes have ids from the same sequence.
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from leveret.protocol.amqp.table import Table, decode_table
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.store.journal.records import ID_MAX
from leveret.router.store.metadata.bad_rows import BadRows, Raw, RowId
from leveret.router.store.metadata.statements import BindingRow, ExchangeRow, QueueRow, Statement, WindowRow

FORMAT = 4
_IDS = "SELECT id FROM queues UNION ALL SELECT id FROM windows"

# The table `windows` has the ids of exchanges with notes, such as those of a deduplication cache. An earlier
# version called the cache a window; renaming the table would need a new format.
SCHEMA = """
CREATE TABLE vhosts (name BLOB PRIMARY KEY, metadata BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE users (
    name BLOB PRIMARY KEY, password_hash BLOB NOT NULL, algorithm BLOB NOT NULL, tags BLOB NOT NULL,
    limits BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE permissions (
    user BLOB, vhost BLOB, configure BLOB NOT NULL, write BLOB NOT NULL, read BLOB NOT NULL,
    PRIMARY KEY (user, vhost)
) WITHOUT ROWID;
CREATE TABLE topic_permissions (
    user BLOB, vhost BLOB, exchange BLOB, write BLOB NOT NULL, read BLOB NOT NULL,
    PRIMARY KEY (user, vhost, exchange)
) WITHOUT ROWID;
CREATE TABLE policies (
    vhost BLOB, operator INTEGER, name BLOB, pattern BLOB NOT NULL, apply_to BLOB NOT NULL,
    priority BLOB NOT NULL, definition BLOB NOT NULL, PRIMARY KEY (vhost, operator, name)
) WITHOUT ROWID;
CREATE TABLE parameters (
    vhost BLOB, component BLOB, name BLOB, value BLOB NOT NULL, PRIMARY KEY (vhost, component, name)
) WITHOUT ROWID;
CREATE TABLE global_parameters (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE exchanges (
    vhost BLOB, name BLOB, type BLOB NOT NULL, auto_delete INTEGER NOT NULL, internal INTEGER NOT NULL,
    arguments BLOB NOT NULL, PRIMARY KEY (vhost, name)
) WITHOUT ROWID;
CREATE TABLE queues (
    id INTEGER PRIMARY KEY AUTOINCREMENT, vhost BLOB NOT NULL, name BLOB NOT NULL,
    auto_delete INTEGER NOT NULL, arguments BLOB NOT NULL, UNIQUE (vhost, name)
);
CREATE TABLE bindings (
    number INTEGER PRIMARY KEY, vhost BLOB NOT NULL, source BLOB NOT NULL, kind BLOB NOT NULL,
    destination BLOB NOT NULL, routing_key BLOB NOT NULL, arguments BLOB NOT NULL,
    UNIQUE (vhost, source, kind, destination, routing_key, arguments)
);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, vhost BLOB NOT NULL, exchange BLOB NOT NULL,
    UNIQUE (vhost, exchange)
);
CREATE INDEX bindings_by_destination ON bindings (vhost, kind, destination);
"""

# What makes the tables of an older format those of the next one.
STEPS = {
    2: """
ALTER TABLE vhosts ADD COLUMN metadata BLOB NOT NULL DEFAULT '{}';
ALTER TABLE users ADD COLUMN limits BLOB NOT NULL DEFAULT '{}';
CREATE TABLE parameters (
    vhost BLOB, component BLOB, name BLOB, value BLOB NOT NULL, PRIMARY KEY (vhost, component, name)
) WITHOUT ROWID;
CREATE TABLE global_parameters (name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
""",
    3: """
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT, vhost BLOB NOT NULL, exchange BLOB NOT NULL,
    UNIQUE (vhost, exchange)
);
""",
}


class MetadataError(Exception):
    """The database cannot be used; the text gives the reason."""


class Metadata:
    """An open database. ``commit`` and the methods that read raise sqlite3.Error if the disk fails."""

    def __init__(self, path: Path) -> None:
        """Open or create the database. Raises MetadataError if it is damaged or has an unknown format."""
        self._path = path
        try:
            self._connection = _open(path)
        except sqlite3.Error as error:
            raise MetadataError(f"{path} cannot be used: {error}") from None

    def commit(self, statements: Iterable[Statement]) -> None:
        """Execute all statements in one transaction, which is on disk afterwards.

        If this raises, the transaction may or may not be found after a crash.
        """
        connection = self._connection
        if connection.in_transaction:  # the rollback after the last failure failed too
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()

    # -- reading ------------------------------------------------------------------------------------------

    def read(self, table: str, bad: BadRows) -> Iterator[tuple[RowId, Any]]:
        """Yield the rows of a table as named tuples, each with its identity; add malformed rows to ``bad``.

        Raises MetadataError if SQLite cannot read the table.
        """
        order, make = _TABLES[table]
        try:
            cursor = self._connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
            names = [column[0] for column in cursor.description]
            rows: list[tuple[Raw, ...]] = cursor.fetchall()
        except sqlite3.Error as error:
            raise MetadataError(f"{self._path} cannot be read: {error}") from None
        for values in rows:
            row = RowId.of(table, dict(zip(names, values, strict=True)))
            made: Any = None
            with bad.skipping(row):
                made = make(*values)
            if made is not None:
                yield row, made

    def _all(self, table: str) -> list[Any]:
        """Return the rows of a table. Raises MetadataError if one is malformed."""
        bad = BadRows()
        rows = [row for _, row in self.read(table, bad)]
        if bad:
            raise MetadataError(f"{self._path} is damaged: {bad[0]} (table {table})")
        return rows

    def vhosts(self) -> list[VHostRow]:
        return self._all("vhosts")

    def users(self) -> list[UserRow]:
        return self._all("users")

    def permissions(self) -> list[PermissionRow]:
        return self._all("permissions")

    def topic_permissions(self) -> list[TopicPermissionRow]:
        return self._all("topic_permissions")

    def policies(self) -> list[PolicyRow]:
        """Return the policies and operator policies."""
        return self._all("policies")

    def parameters(self) -> list[ParameterRow]:
        return self._all("parameters")

    def global_parameters(self) -> list[GlobalParameterRow]:
        return self._all("global_parameters")

    def exchanges(self) -> list[ExchangeRow]:
        return self._all("exchanges")

    def queues(self) -> list[QueueRow]:
        """Return the queues in the order of their declaration."""
        return self._all("queues")

    def windows(self) -> list[WindowRow]:
        """Return the ids of exchanges with notes."""
        return self._all("windows")

    def bindings(self) -> list[BindingRow]:
        """Return the bindings in the order of their creation."""
        return self._all("bindings")

    def ids(self) -> list[int]:
        """Return the ids of all queues and windows, including those of malformed rows."""
        return self._numbers(_IDS)

    def must_know(self, queue_id: int) -> None:
        """Raise MetadataError if this id of a queue, found in the journal, was never assigned."""
        if queue_id >= self.next_queue_id():
            raise MetadataError(
                f"{self._path} has lost changes: it has never assigned the id of queue {queue_id}, of which "
                f"there are messages. Nothing was changed. Restore it from a backup, with its "
                f"{self._path.name}-wal"
            )

    def next_queue_id(self) -> int:
        """Return an id that no queue or exchange has had: AUTOINCREMENT tables never reuse one."""
        given = self._numbers("SELECT seq FROM sqlite_sequence WHERE name IN ('queues', 'windows')")
        return max((number for number in (*given, *self.ids()) if number <= ID_MAX), default=0) + 1

    def _numbers(self, query: str) -> list[int]:
        try:
            return [int(number) for (number,) in self._connection.execute(query)]
        except (sqlite3.Error, ValueError) as error:
            raise MetadataError(f"{self._path} cannot be read: {error}") from None


def _open(path: Path) -> sqlite3.Connection:
    with suppress(OSError):  # SQLite reports the reason below
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        )  # not readable by others: the file has password hashes
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # SQLite silently drops changes after damage in its log, so the log is kept as short as possible.
        connection.execute("PRAGMA wal_autocheckpoint = 1")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        while version in STEPS:
            connection.executescript(f"BEGIN; {STEPS[version]} PRAGMA user_version = {version + 1}; COMMIT;")
            version += 1
        if version not in (0, FORMAT):
            raise MetadataError(
                f"{path} has format {version}, and this leveret knows {FORMAT}: use the version that wrote it"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _id(stored: Raw) -> int:
    if not isinstance(stored, int) or not 0 < stored <= ID_MAX:
        raise ValueError(f"{stored!r} stands where the id of a queue should be")
    return stored


def _text(stored: Raw) -> str:
    if not isinstance(stored, bytes):
        raise ValueError(f"{stored!r} stands where a text should be")
    return stored.decode("utf-8", "surrogatepass")


def _table(stored: Raw) -> Table:
    if not isinstance(stored, bytes):
        raise ValueError(f"{stored!r} stands where arguments should be")
    table, end = decode_table(stored, 0)
    if end != len(stored):
        raise ValueError("there is something after the arguments")
    return table


def _json(stored: Raw, *kinds: type) -> Any:
    """Decode JSON of one of these kinds; of any kind if none is given. Raises ValueError."""
    if not isinstance(stored, bytes | str):  # text comes from the conversion of an older format
        raise ValueError(f"{stored!r} stands where JSON should be")
    value = json.loads(stored)
    if kinds and not isinstance(value, kinds):
        raise ValueError(f"{value!r} stands where {kinds[0].__name__} should be")
    return value


def _tags(stored: Raw) -> tuple[str, ...]:
    tags = _json(stored, list)
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("a tag is not a text")
    return tuple(tags)


# By table: the order of its rows, and the function that makes a row from the columns.
_TABLES: dict[str, tuple[str, Callable[..., Any]]] = {
    "vhosts": ("name", lambda name, metadata: VHostRow(_text(name), _json(metadata, dict))),
    "users": (
        "name",
        lambda name, password_hash, algorithm, tags, limits: UserRow(
            _text(name), _text(password_hash), _text(algorithm), _tags(tags), _json(limits, dict)
        ),
    ),
    "permissions": ("user, vhost", lambda *row: PermissionRow(*map(_text, row))),
    "topic_permissions": ("user, vhost, exchange", lambda *row: TopicPermissionRow(*map(_text, row))),
    "policies": (
        "vhost, operator, name",
        lambda vhost, operator, name, pattern, apply_to, priority, definition: PolicyRow(
            _text(vhost),
            bool(operator),
            _text(name),
            _text(pattern),
            _text(apply_to),
            int(priority),
            _json(definition, dict),
        ),
    ),
    "parameters": (
        "vhost, component, name",
        lambda vhost, component, name, value: ParameterRow(
            _text(vhost), _text(component), _text(name), _json(value)
        ),
    ),
    "global_parameters": ("name", lambda name, value: GlobalParameterRow(_text(name), _json(value))),
    "exchanges": (
        "vhost, name",
        lambda vhost, name, kind, auto_delete, internal, arguments: ExchangeRow(
            _text(vhost), _text(name), _text(kind), bool(auto_delete), bool(internal), _table(arguments)
        ),
    ),
    "queues": (
        "id",
        lambda number, vhost, name, auto_delete, arguments: QueueRow(
            _id(number), _text(vhost), _text(name), bool(auto_delete), _table(arguments)
        ),
    ),
    "bindings": (
        "number",
        lambda _, vhost, source, kind, destination, routing_key, arguments: BindingRow(
            _text(vhost),
            _text(source),
            _text(kind),
            _text(destination),
            _text(routing_key),
            _table(arguments),
        ),
    ),
    "windows": ("id", lambda number, vhost, exchange: WindowRow(_id(number), _text(vhost), _text(exchange))),
}
