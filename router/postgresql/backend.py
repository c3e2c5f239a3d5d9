"""The ``StorageBackend`` in a PostgreSQL.

Responsible for the order of a start: connect and check, create the tables, take over, read the names of
files. The record of a regular stop is a small file; the lock is the fence.
"""

import time
from pathlib import Path
from threading import Thread

import psycopg
from psycopg import errors

from leveret.router.postgresql import schema
from leveret.router.postgresql.append_session import AppendSession
from leveret.router.postgresql.fence import (
    APPEND,
    CollisionError,
    NewestPosition,
    read_newest,
    session_name,
    take_over,
)
from leveret.router.postgresql.files import LOCAL, PostgresFiles
from leveret.router.postgresql.local_directory import LocalDirectory
from leveret.router.postgresql.location import Connection, StoreLocation, execute, text_of
from leveret.router.postgresql.metadata import PostgresMetadata
from leveret.router.postgresql.read_session import ReadSession
from leveret.router.store.backend import StorageError

STOPPED = "stopped"  # the file with the last batch of the journal, after a regular stop
CLOSE_TIMEOUT = 1.0  # seconds to wait at most for the end of the sessions
SESSION_END_TIMEOUT = 12.0  # seconds until the session of a dead broker ends (``SERVER_LIVENESS``)
CHECK_INTERVAL = 0.2  # seconds between two checks


class PostgresBackend:
    """The store of one shard, which this process owns until another broker takes it over."""

    def __init__(self, location: StoreLocation, taken: NewestPosition, connection: Connection) -> None:
        """Read the store after the take-over that ``taken`` describes. Raises StorageError.

        ``connection`` is the checked session of the take-over, which becomes the append session.
        """
        self.location = location
        self.path = Path(f"{location}/{location.schema}/{location.shard}".replace("//", "/"))
        name = session_name(location.shard, taken.epoch, location.schema)
        execute(connection, "SELECT set_config('application_name', %s, false)", (name,))
        self.append = AppendSession(location, taken, connection)
        self._reading = ReadSession(location)
        self.metadata = PostgresMetadata(self.append, self._reading, location)
        self.local = LocalDirectory()
        try:
            (self.local.path / LOCAL).mkdir()
            self.files = PostgresFiles(
                self.append,
                self._reading,
                self.metadata,
                root=self.path,
                local=self.local.path / LOCAL,
                shard=location.shard,
            )
            self.stopped = self._read_stopped()
        except OSError as error:
            self.close(clean=False)
            raise StorageError(str(error)) from None

    def begin(self) -> None:
        self.files.remove(self.path / STOPPED)

    def renew(self) -> None:
        """Append a position, which shows that the owner lives, and drop tables that were in use before.

        Raises AppendError and DeposedError.
        """
        self.append.commit()
        self.files.drop_unused()

    def leave(self) -> None:
        self.close(clean=False)

    def close(self, *, clean: bool, sequence: int = 0) -> None:
        if clean:
            self.files.replace(self.path / STOPPED, str(sequence).encode())
        # A statement that hangs would be waited for: the process can end without that.
        closing = Thread(target=self._close_sessions, name="closing", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT)
        self.local.remove()

    def _close_sessions(self) -> None:
        self.append.close()
        self._reading.close()

    def _read_stopped(self) -> int | None:
        path = self.path / STOPPED
        if path not in self.files.list(self.path):
            return None
        descriptor = self.files.open(path)
        try:
            return int(self.files.read(descriptor, 64, 0))
        finally:
            self.files.close(descriptor)


def open_backend(location: StoreLocation) -> PostgresBackend:
    """Take over the store, unless another broker uses it, and return it. Raises StorageError."""
    connection = location.open(f"leveret start {location.shard}")
    try:
        schema.prepare(connection, location)
        taken = _take(connection, location)
        return PostgresBackend(location, taken, connection)
    except psycopg.Error as error:
        connection.close()
        raise StorageError(f"cannot use {location}: {text_of(error)}") from None
    except BaseException:
        connection.close()
        raise


def _take(connection: Connection, location: StoreLocation) -> NewestPosition:
    """Take over a store that no broker uses. Raises StorageError and psycopg.Error."""
    try:
        newest = read_newest(connection, location.shard)
    except errors.UndefinedTable:
        raise StorageError(
            f"the schema '{location.schema}' of {location} has no positions of shard {location.shard}: it is"
            " damaged, restore the whole database from one backup"
        ) from None
    _wait_until_unused(connection, location)
    try:
        return take_over(connection, location.shard, read_newest(connection, location.shard))
    except CollisionError:
        raise StorageError(
            f"another broker has taken over {location} at the same time (epoch {newest.epoch + 1} or later)"
        ) from None


def _wait_until_unused(connection: Connection, location: StoreLocation) -> None:
    """Return once no broker has a session in which it appends. Raises StorageError and psycopg.Error."""
    query = (
        "SELECT pid, coalesce(host(client_addr), 'a local socket') FROM pg_stat_activity"
        " WHERE starts_with(application_name, %s) AND right(application_name, %s) = %s"
        " AND datname = current_database()"
    )
    place = f" {location.schema}"
    values = (f"{APPEND} {location.shard} ", len(place), place)
    end = time.monotonic() + SESSION_END_TIMEOUT
    while owners := execute(connection, query, values):
        if time.monotonic() > end:
            pid, address = owners[0]
            raise StorageError(
                f"the store in {location} is in use by a broker at {address} (session {pid} of the server);"
                " stop it first"
            )
        time.sleep(CHECK_INTERVAL)
