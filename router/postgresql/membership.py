"""The PostgreSQL of a cluster, as its brokers use it to choose the active one.

Responsible for what a standby reads, on a session of its own, and for the take-over. Not for the decision to
take over (see ``router/cluster``).
"""

import time
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import psycopg
from psycopg import errors

from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.cluster.shared_store import Observation, SharedStoreError
from leveret.router.postgresql import fence, schema
from leveret.router.postgresql.backend import STOPPED, PostgresBackend
from leveret.router.postgresql.fence import NewestPosition
from leveret.router.postgresql.location import Connection, Statement, StoreLocation, execute, text_of
from leveret.router.settings import parse_address
from leveret.router.store.backend import StorageError

STANDBY = "leveret standby"  # the beginning of the names of sessions of standbys
IDLE = 0.8  # seconds without a commit after which an owner appends an empty position
KEPT = 1000  # take-overs whose rows are kept
STATE = """
SELECT (SELECT secret FROM clusters LIMIT 1),
    (SELECT node FROM takeovers WHERE shard = %s AND epoch = %s),
    (SELECT advertise FROM takeovers WHERE shard = %s AND epoch = %s),
    (SELECT lease FROM takeovers WHERE shard = %s AND epoch = %s),
    EXISTS (SELECT FROM files WHERE shard = %s AND name = %s)
"""
PEERS = """
SELECT DISTINCT substr(application_name, %s) FROM pg_stat_activity
WHERE application_name LIKE %s AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY 1
"""


class TakeOverError(Exception):
    """The store was not taken over, because another broker owns it; the text has the reason."""


class StoreObserver:
    """Reads the store for a broker that does not own it. ``node`` is the name of that broker."""

    def __init__(self, location: StoreLocation, node: str) -> None:
        self._location = location
        self._prefix = _standby_name(location, "")
        self._name = _standby_name(location, node)
        self._connection: Connection | None = None
        self.newest: NewestPosition | None = None  # the newest position that was observed

    def observe(self) -> Observation:
        """Return the newest position; position 0 if there is no store yet. Raises SharedStoreError."""
        shard = self._location.shard
        connection = self._connected()
        try:
            self.newest = newest = fence.read_newest(connection, shard)
            values = (*3 * (shard, newest.epoch), shard, STOPPED)
            ((secret, node, advertise, lease, stopped),) = execute(connection, STATE, values)
        except errors.UndefinedTable:
            self.newest = None
            return Observation(0, 0, stopped=True)
        except psycopg.Error as error:
            raise self._failed(error) from None
        return Observation(
            newest.position,
            newest.epoch,
            stopped=stopped or newest.epoch == fence.FIRST_EPOCH,  # no broker has used it yet
            node=node or "",
            active=_active(node, newest.epoch, advertise),
            lease=(lease or 0) / 1000,
            secret=bytes(secret or b""),
        )

    def standbys(self) -> tuple[str, ...]:
        """Return the names of the other brokers that observe the store. Raises SharedStoreError."""
        connection = self._connected()
        try:
            rows = execute(connection, PEERS, (len(self._prefix) + 1, f"{self._prefix}%"))
        except psycopg.Error as error:
            raise self._failed(error) from None
        return tuple(name for (name,) in rows)

    def close(self) -> None:
        """Close the session."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = self._location.connect(self._name)
            except psycopg.Error as error:
                raise SharedStoreError(f"cannot connect to {self._location}: {text_of(error)}") from None
        return self._connection

    def _failed(self, error: psycopg.Error) -> SharedStoreError:
        self.close()
        return SharedStoreError(f"{self._location} cannot be read: {text_of(error)}")


class StoreOwnership:
    """The store as its owner uses it to keep its lease."""

    def __init__(self, backend: PostgresBackend) -> None:
        self._backend = backend
        self._append = backend.append

    @property
    def epoch(self) -> int:
        return self._append.epoch

    @property
    def position(self) -> int:
        """Return the position of the last commit."""
        return self._append.position

    @property
    def renewed_at(self) -> float:
        """Return when the last successful commit began, in seconds of the monotonic clock."""
        return self._append.renewed_at

    @property
    def commits(self) -> int:
        """Return the number of commits so far."""
        return self._append.commits

    @property
    def commit_seconds(self) -> float:
        """Return the seconds that all commits have taken."""
        return self._append.commit_seconds

    def abandon(self) -> None:
        """Close the store without a record of a regular stop."""
        self._backend.close(clean=False)

    def renew(self) -> None:
        """Append an empty position, unless one was appended lately. Raises AppendError and DeposedError."""
        if time.monotonic() - self._append.renewed_at >= IDLE:
            self._backend.renew()


def _standby_name(location: StoreLocation, node: str) -> str:
    """Return the name of the session of a standby. PostgreSQL cuts names after 63 bytes.

    The digits tell apart the schemas of one database.
    """
    return f"{STANDBY} {location.shard} {crc32(location.schema.encode()) & 0xFFFFFF:06x} {node}"


def _active(node: str | None, epoch: int, advertise: str | None) -> ActiveBroker | None:
    """Return the active broker; None if it advertises no address."""
    if not node or not advertise:
        return None
    try:
        return ActiveBroker(node, epoch, *parse_address(advertise))
    except ValueError:
        return None


def take_over(
    location: StoreLocation, seen: NewestPosition | None, node: str, advertise: str, lease: int
) -> PostgresBackend:
    """Take over the store from the owner of the position ``seen``, which is None if there was no store.

    ``lease`` is the time in ms for which the new owner acts without a successful commit.
    Raises TakeOverError if a position was appended after ``seen``, and StorageError.
    """
    connection = location.open(_standby_name(location, node))
    shard = location.shard
    try:
        schema.prepare(connection, location)
        if seen is None:
            seen = fence.read_newest(connection, shard)
        values: Sequence[Any] = (shard, seen.epoch + 1, node, advertise, lease)
        statements: list[Statement] = [
            ("INSERT INTO takeovers VALUES (%s, %s, %s, %s, %s)", values),
            ("DELETE FROM takeovers WHERE shard = %s AND epoch <= %s", (shard, seen.epoch - KEPT)),
        ]
        began = time.monotonic()
        taken = fence.take_over(connection, shard, seen, statements)
        backend = PostgresBackend(location, taken, connection)
        backend.append.renewed_at = began
        return backend
    except fence.CollisionError as error:
        connection.close()
        raise TakeOverError(str(error)) from None
    except psycopg.Error as error:
        connection.close()
        raise StorageError(f"cannot take over {location}: {text_of(error)}") from None
    except BaseException:
        connection.close()
        raise
