"""Rows of an outbox in PostgreSQL: reading, deleting and marking them, and the right to do so.

Responsible for the statements. All methods block, so the broker calls them in a thread, one at a time. One
connection at a time holds the outbox, by an advisory lock of its session.

The order: rows are read by id, among those that are visible. A row that was inserted after another one was
committed has a higher id, so it is never read before that one. A transaction that commits late has low ids;
its rows are read when they are visible, however many rows with higher ids have been deleted by then.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, NamedTuple

import psycopg

from leveret.router.transactional_outbox.connection import (
    Connection,
    OutboxError,
    as_outbox_errors,
    connect,
    find_outbox,
    must_be_current,
)
from leveret.router.transactional_outbox.read_bound import ReadBound
from leveret.router.transactional_outbox.rows import PROPERTIES_MAX, BatchResult, FailedRow, OutboxRow

SLOW_READ = 0.02  # seconds; after a read that took longer, others begin behind the rows that were read,
FULL_READ_INTERVAL = 1.0  # for so many seconds,
FULL_READ_SHARE = 20  # and for so many times the time that the read took
FIRST_ID = -(2**63)  # an application may choose ids
COUNTED = 100_000  # rows that are counted at most, since that takes time
LONGEST_RETRY = 60  # seconds
ERROR_MAX = 1000  # characters
CLOSE_TIMEOUT = 1  # seconds
LOCK_CLASS = 0x6C657665  # "leve": the first key of the advisory lock; the second is the table's oid
NAME = "leveret outbox"

# A body that is larger than the broker accepts is not read. At least one row is read, and further ones while
# bodies and properties are less than `bytes` together.
_READ = """
WITH waiting AS (
    SELECT id, message_id, virtual_host, exchange, routing_key, mandatory, properties::text AS properties,
           body, body_text, coalesce(octet_length(body), octet_length(body_text), 0) AS size
    FROM leveret_outbox WHERE failed_at IS NULL AND id > %(bound)s ORDER BY id LIMIT %(rows)s
), measured AS (
    SELECT *, sum(size + octet_length(properties)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING)
              - size - octet_length(properties) AS before
    FROM waiting
)
SELECT id, message_id, virtual_host, exchange, routing_key, mandatory,
       CASE WHEN octet_length(properties) <= %(properties)s THEN properties END,
       CASE WHEN size <= %(largest)s THEN coalesce(body, convert_to(body_text, 'UTF8'), '') END, size,
       xmin, xmax
FROM measured, (
    SELECT pg_snapshot_xmin(taken)::text::bigint AS xmin, pg_snapshot_xmax(taken)::text::bigint AS xmax
    FROM pg_current_snapshot() AS taken
) AS snapshot
WHERE before < %(bytes)s ORDER BY id
"""
# Statistics of a table that is full and empty in turn are often wrong; a scan of a backlog for each batch
# would take the square of its time. A deletion that a crash of the server undoes does no harm, because the
# broker recognizes the rows; at most 0.6 s are undone (three times wal_writer_delay). The other two replace
# what a database or a role may have as its default.
_SESSION = """
SET enable_seqscan = off; SET synchronous_commit = off; SET statement_timeout = 0;
SET default_transaction_isolation = 'read committed'
"""
# Rights on some columns are enough to read and to update.
_MISSING_RIGHTS = """
SELECT format('the role %I lacks a right: GRANT %s ON leveret_outbox TO %I',
              current_user, string_agg(name, ', ' ORDER BY place), current_user)
FROM (VALUES (1, 'SELECT', has_any_column_privilege('leveret_outbox', 'SELECT')),
             (2, 'UPDATE', has_any_column_privilege('leveret_outbox', 'UPDATE')),
             (3, 'DELETE', has_table_privilege('leveret_outbox', 'DELETE'))) AS rights(place, name, given)
WHERE NOT given HAVING count(*) > 0
"""
_DELETE = """
DELETE FROM leveret_outbox AS row USING unnest(%s::bigint[], %s::uuid[]) AS done(id, message_id)
WHERE row.id = ANY(%s::bigint[]) AND row.id = done.id AND row.message_id = done.message_id
"""
_FAIL = """
UPDATE leveret_outbox AS row
SET error = bad.error, attempts = attempts + 1, failed_at = clock_timestamp(),
    retry_at = CASE WHEN bad.temporary
                    THEN clock_timestamp() + least(%s, 2 ^ least(attempts, 30)) * interval '1 second' END
FROM unnest(%s::bigint[], %s::uuid[], %s::text[], %s::boolean[]) AS bad(id, message_id, error, temporary)
WHERE row.id = ANY(%s::bigint[]) AND row.id = bad.id AND row.message_id = bad.message_id
"""
_RETRY_DUE = """
UPDATE leveret_outbox SET failed_at = NULL, retry_at = NULL
WHERE failed_at IS NOT NULL AND retry_at <= clock_timestamp()
"""
_COUNT = """
SELECT (SELECT count(*) FROM (SELECT FROM leveret_outbox WHERE failed_at IS NULL LIMIT %(most)s) AS w),
       (SELECT count(*) FROM (SELECT FROM leveret_outbox WHERE failed_at IS NOT NULL LIMIT %(most)s) AS f),
       (SELECT extract(epoch FROM clock_timestamp() - created_at)::float8
        FROM leveret_outbox WHERE failed_at IS NULL ORDER BY id LIMIT 1)
"""
_HOLDER = """
SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = 'leveret_outbox'::regclass::oid
  AND objsubid = 2 AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class OutboxCounts(NamedTuple):
    """Rows that wait and that failed, at most ``COUNTED`` each; the oldest waiting row's age in seconds."""

    waiting: int
    failed: int
    oldest: float | None


class OutboxDatabase:
    """A connection to the database of an outbox."""

    def __init__(self, url: str, *, store: bytes, process: bytes) -> None:
        """``store`` names the broker's data, and ``process`` this process, both at random."""
        self._url = url
        self._store, self._process = store.hex()[:16], process.hex()[:8]
        self._connection: Connection | None = None
        self._lock = Lock()
        self._bound = ReadBound()
        self._full_at = 0.0  # when rows are read from the first id on again, in seconds
        self.notified = False  # rows were inserted since the last read began

    def open(self) -> bytes:
        """Connect; return the id of the outbox, of 16 bytes. Raises OutboxError."""
        with self._lock, as_outbox_errors():
            connection = connect(self._url, f"{NAME} {self._store} {self._process}")
            self._connection = connection
            installed = must_be_current(find_outbox(connection))
            if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                raise OutboxError("the server is a standby, which takes no changes; name the primary")
            if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
                raise OutboxError("the database has the encoding SQL_ASCII, in which texts may be anything")
            if missing := connection.execute(_MISSING_RIGHTS).fetchone():
                raise OutboxError(missing[0])
            connection.add_notify_handler(self._notice)
            connection.execute("LISTEN leveret_outbox")
            connection.execute(_SESSION)
        return installed.id.bytes

    def hold(self) -> str:
        """Lock the outbox for this connection. Return "", or the reason if another connection holds the lock.

        Raises OutboxError.

        If that connection is of an earlier process with the same data, its session is ended: the process may
        hang, and can commit nothing to that data any more.
        """
        with self._using() as connection:
            lock = "SELECT pg_try_advisory_lock(%s, 'leveret_outbox'::regclass::oid::int)"
            if connection.execute(lock, [LOCK_CLASS]).fetchone() == (True,):
                return ""
            holder = connection.execute(_HOLDER, [LOCK_CLASS]).fetchone()
            if holder is None:
                return "another broker has just released this outbox"
            pid, name = holder
            store, _, process = str(name).removeprefix(NAME).strip().partition(" ")
            if process == self._process:
                return "this database is in outbox.databases twice"
            if store != self._store:
                return f"another broker publishes from this outbox (process {pid} of PostgreSQL)"
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
            return "an earlier process of this broker is still connected; its connection is ended"

    def read(self, *, rows: int, size: int, largest: int) -> list[OutboxRow]:
        """Return the next waiting rows: at most ``rows``, and about ``size`` bytes. Bodies larger than
        ``largest`` bytes are not read. Raises OutboxError.
        """
        began = time.monotonic()
        full = began >= self._full_at
        limits = {"rows": rows, "bytes": size, "largest": largest, "properties": PROPERTIES_MAX}
        limits["bound"] = FIRST_ID if full else self._bound.id
        self.notified = False
        with self._using() as connection, connection.cursor(binary=True) as cursor:
            found = cursor.execute(_READ, limits).fetchall()
        if full and (took := time.monotonic() - began) > SLOW_READ:
            self._full_at = began + max(FULL_READ_INTERVAL, FULL_READ_SHARE * took)
        if found:
            xmin, xmax = found[-1][-2:]
            self._bound.advance(xmin, xmax, [row[0] for row in found])
        return [OutboxRow(*row[:-2]) for row in found]

    @property
    def full_read_in(self) -> float:
        """The seconds until rows may be read whose ids are below the last bound: rows that are retried."""
        return max(0.0, self._full_at - time.monotonic())

    def settle(self, result: BatchResult) -> None:
        """Delete published rows, and mark failed ones. Raises OutboxError."""
        with self._using() as connection, connection.transaction():
            if result.published:
                connection.execute(_DELETE, _with_ids(_columns(result.published)))
            if result.failed:
                connection.execute(_FAIL, [LONGEST_RETRY, *_with_ids(_failures(result.failed))])

    def retry_due(self) -> None:
        """Let rows wait again whose temporary failure was some time ago. Raises OutboxError."""
        with self._using() as connection:
            connection.execute(_RETRY_DUE)

    def count(self) -> OutboxCounts:
        """Count the rows. Raises OutboxError."""
        with self._using() as connection:
            row = connection.execute(_COUNT, {"most": COUNTED}).fetchone()
        assert row is not None
        return OutboxCounts(*row)

    def fileno(self) -> int:
        """Return the socket, which is readable after a notification, and when the connection is lost. Raises
        OutboxError.
        """
        with as_outbox_errors():
            return self._opened.fileno()

    def close(self) -> None:
        """Close the connection, which releases the outbox; not while a statement hangs in a thread."""
        if self._lock.acquire(timeout=CLOSE_TIMEOUT):
            try:
                if self._connection is not None:
                    self._connection.close()
            finally:
                self._lock.release()

    @contextmanager
    def _using(self) -> Iterator[Connection]:
        """Lend the connection to one thread, and convert errors of psycopg. Raises OutboxError."""
        with self._lock, as_outbox_errors():
            yield self._opened

    @property
    def _opened(self) -> Connection:
        if self._connection is None:
            raise OutboxError("there is no connection")
        return self._connection

    def _notice(self, notification: psycopg.Notify) -> None:
        self.notified = True


def _columns(rows: Sequence[OutboxRow]) -> list[list[Any]]:
    return [[row.id for row in rows], [row.message_id for row in rows]]


def _with_ids(columns: list[list[Any]]) -> list[list[Any]]:
    """Return the parameters of a statement that finds its rows by their ids, which are the first column."""
    return [*columns, columns[0]]


def _failures(failed: Sequence[FailedRow]) -> list[list[Any]]:
    errors = [each.error.replace("\0", "")[:ERROR_MAX] for each in failed]
    return [*_columns([each.row for each in failed]), errors, [each.temporary for each in failed]]
