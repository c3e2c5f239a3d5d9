"""The fence of a store: numbered positions, each of which one broker can take.

Every transaction of the broker that owns the store inserts the next position, with the epoch of the owner,
under the table's primary key. A broker that takes over inserts the next position with the next epoch. The
next transaction of the broker that it deposed then collides, whatever that broker believes: it has committed
nothing since, and can commit nothing more. No clock is compared, and no lock is held.

Positions are rows of a table ``fence_<shard>_<generation>``. After ``GENERATION`` positions the owner begins
another table, so that old positions are dropped and not deleted. The last row of a full table has the epoch
``SEALED``: a broker that read the list of tables before the next one was created reads the list again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from psycopg import errors

from leveret.router.postgresql.location import Connection, Statement, execute

GENERATION = 100_000  # positions in a table
SEALED = 0  # the epoch of the last row of a full table
FIRST_EPOCH = 1  # of the row that is inserted when the store is created
APPEND = "leveret append"  # the begin of the names of sessions in which owners append
LOCK_WAIT = "1s"  # that a take-over waits for a transaction of the owner


class CollisionError(Exception):
    """The position was taken: the owner lives, or another broker has taken over."""


class NewestPosition(NamedTuple):
    """The newest position of a store, and the table that it is in."""

    generation: int
    position: int
    epoch: int


def table_of(shard: int, generation: int) -> str:
    """Return the name of the table with the positions of a generation."""
    return f"fence_{shard}_{generation}"


def create_table(shard: int, generation: int, position: int, epoch: int) -> list[Statement]:
    """Return the statements that begin a table of positions with this one."""
    table = table_of(shard, generation)
    return [
        (
            f"CREATE TABLE {table} (position bigint PRIMARY KEY, epoch bigint NOT NULL)"
            " WITH (autovacuum_enabled = false)",
            (),
        ),
        (f"INSERT INTO {table} VALUES (%s, %s)", (position, epoch)),
    ]


def session_name(shard: int, epoch: int, schema: str) -> str:
    """Return the name of the session in which an owner appends. PostgreSQL cuts names after 63 bytes."""
    return f"{APPEND} {shard} {epoch} {schema}"


def read_newest(connection: Connection, shard: int) -> NewestPosition:
    """Return the newest position. Raises psycopg.Error; psycopg.errors.UndefinedTable without a store."""
    while True:
        generation = max(generations(connection, shard), default=1)
        try:
            rows = execute(
                connection,
                f"SELECT position, epoch FROM {table_of(shard, generation)} ORDER BY position DESC LIMIT 1",
            )
        except errors.UndefinedTable:
            if generation in generations(connection, shard) or generation == 1:
                raise
            continue  # dropped after it was listed: there is a newer one
        position, epoch = rows[0]
        if epoch != SEALED:
            return NewestPosition(generation, position, epoch)


def generations(connection: Connection, shard: int) -> list[int]:
    """Return the existing generations of positions. Raises psycopg.Error."""
    prefix = table_of(shard, 0)[:-1]
    query = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"
    names = [name.removeprefix(prefix) for (name,) in execute(connection, query) if name.startswith(prefix)]
    return [int(name) for name in names if name.isdecimal()]


def take_over(
    connection: Connection, shard: int, seen: NewestPosition, statements: Sequence[Statement] = ()
) -> NewestPosition:
    """Take the next position with the next epoch, and execute ``statements`` in the same transaction.

    ``seen`` is the newest position that was read. Returns the new one. Raises CollisionError if the position
    was taken, and psycopg.Error.
    """
    taken = NewestPosition(seen.generation, seen.position + 1, seen.epoch + 1)
    insert = f"INSERT INTO {table_of(shard, seen.generation)} VALUES (%s, %s)"
    for last_try in (False, True):
        try:
            with connection.transaction():
                execute(connection, f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
                execute(connection, insert, (taken.position, taken.epoch))
                for statement, values in statements:
                    execute(connection, statement, values)
            return taken
        except (errors.UniqueViolation, errors.UndefinedTable):
            raise CollisionError("another broker has committed meanwhile") from None
        except errors.LockNotAvailable:
            if last_try:
                raise CollisionError("a transaction of the owner is in progress") from None
            end_transactions(connection, table_of(shard, seen.generation))
    raise AssertionError("unreachable")


def end_transactions(connection: Connection, table: str) -> None:
    """End the append sessions with an open transaction that has inserted a position, unless they wait for a
    standby.

    The broker of such a session hangs or is unreachable. It learns from the fence whether it still owns the
    store. A session that waits for a standby ends by itself, and no broker can commit before that.
    """
    execute(
        connection,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)"
        " WHERE relation = to_regclass(%s) AND locktype = 'relation' AND mode = 'RowExclusiveLock'"
        " AND granted AND pid <> pg_backend_pid() AND wait_event IS DISTINCT FROM 'SyncRep'"
        " AND starts_with(application_name, %s)",
        (table, APPEND),
    )


def is_fence_error(error: psycopg.Error, shard: int) -> bool:
    """Return True if an error says that a position was taken, or its table dropped."""
    if isinstance(error, errors.UniqueViolation):
        return str(error.diag.table_name or "").startswith(f"fence_{shard}_")
    return isinstance(error, errors.UndefinedTable) and f"fence_{shard}_" in str(error)
