"""The metadata database of a data directory: topology, users and policies in SQLite.

Responsible for the tables and their format. The core gathers changes as statements (see ``statements``), the
writer executes them in one transaction, and ``reading`` reads the rows when the broker starts.

Names are stored as bytes: SQLite's TEXT cannot hold zeros or bytes that are not UTF-8, and AMQP allows both
in a name. Field tables are stored as on the wire, definitions of policies as JSON. A queue that is deleted
and declared again gets a new id, so that journal records of the deleted queue have no effect on the new one.
Exchanges with notes have ids from the same sequence.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from leveret.router.store.journal.records import ID_MAX
from leveret.router.store.metadata.bad_rows import Raw
from leveret.router.store.metadata.reading import MetadataError, StoredMetadata
from leveret.router.store.metadata.statements import Statement

FORMAT = 4
NEEDED = 1 << 18  # bytes of free space that SQLite may need to open the database, with its log and index
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


class Metadata(StoredMetadata):
    """An open SQLite database. ``commit`` and the methods that read raise sqlite3.Error if the disk fails."""

    def __init__(self, path: Path) -> None:
        """Open or create the database. Raises MetadataError if it is damaged or has an unknown format."""
        self.name = str(path)
        self.restoring = f"Restore it from a backup, with its {path.name}-wal"
        try:
            self._connection = _open(path)
        except sqlite3.Error as error:
            raise MetadataError(f"{path} cannot be used: {error}{_if_full(path, error)}") from None

    def commit(self, statements: Iterable[Statement], *, with_batch: bool = False) -> None:
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

    def select(self, table: str, order: str) -> tuple[Sequence[str], Sequence[tuple[Raw, ...]]]:
        try:
            cursor = self._connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
            return [column[0] for column in cursor.description], cursor.fetchall()
        except sqlite3.Error as error:
            raise MetadataError(f"{self.name} cannot be read: {error}") from None

    def ids(self) -> list[int]:
        return self._numbers(_IDS)

    def next_queue_id(self) -> int:
        # AUTOINCREMENT tables never reuse an id.
        given = self._numbers("SELECT seq FROM sqlite_sequence WHERE name IN ('queues', 'windows')")
        return max((number for number in (*given, *self.ids()) if number <= ID_MAX), default=0) + 1

    def _numbers(self, query: str) -> list[int]:
        try:
            return [int(number) for (number,) in self._connection.execute(query)]
        except (sqlite3.Error, ValueError) as error:
            raise MetadataError(f"{self.name} cannot be read: {error}") from None


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


def _if_full(path: Path, error: sqlite3.Error) -> str:
    """Return the rest of an error's text if SQLite found no space: its own text may not say so."""
    kind = error.sqlite_errorcode & 0xFF
    with suppress(OSError):
        found = os.statvfs(path.parent)
        free = found.f_bavail * found.f_frsize
        if kind in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL) and free < NEEDED:
            return f"; the file system has {free} bytes of free space, and SQLite needs some"
    return ""
