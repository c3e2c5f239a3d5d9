"""Installing, upgrading and removing an outbox, and the lists for an operator, for ``leveret outbox``."""

from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from psycopg import sql

from leveret.router.transactional_outbox.connection import (
    Connection,
    OutboxError,
    as_outbox_errors,
    find_outbox,
)
from leveret.router.transactional_outbox.database import LOCK_CLASS
from leveret.router.transactional_outbox.schema import (
    DROP,
    SCRIPTS,
    TABLE,
    TRIGGER,
    VERSION,
    make_comment,
)

SHOWN = 20  # failed rows in a report


class FailedReport(NamedTuple):
    """A failed row; ``retry_at`` is None if only an operator retries it."""

    id: int
    virtual_host: str
    exchange: str
    routing_key: str
    attempts: int
    error: str
    failed_at: datetime
    retry_at: datetime | None


class OutboxReport(NamedTuple):
    """The state of an outbox. ``oldest`` is the age of the oldest waiting row, in seconds.

    ``notifies``: the trigger that wakes the broker is enabled. ``publisher`` is the address of the broker
    that publishes, None if none is connected.
    """

    version: int
    waiting: int
    oldest: float | None
    failed: int
    notifies: bool
    publisher: str | None
    failures: list[FailedReport]


def install(connection: Connection) -> int | None:
    """Create or upgrade the outbox. Return the version that was installed before; None if there was none.

    Raises OutboxError.
    """
    with as_outbox_errors(), connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [TABLE])  # another installation
        installed = find_outbox(connection)
        before = 0 if installed is None else installed.version
        if before > VERSION:
            raise OutboxError(
                f"the outbox has version {before}, which is newer than this leveret's, {VERSION}"
            )
        for script in SCRIPTS[before:]:
            connection.execute(script)
        if installed is not None and before < VERSION:
            comment = make_comment(installed._replace(version=VERSION))
            connection.execute(sql.SQL("COMMENT ON TABLE leveret_outbox IS {}").format(comment))
    return before or None


def uninstall(connection: Connection) -> None:
    """Remove an outbox. Raises OutboxError, also if it has rows."""
    with as_outbox_errors(), connection.transaction():
        if find_outbox(connection) is None:
            raise OutboxError(f"there is no table {TABLE}")
        connection.execute("LOCK TABLE leveret_outbox")
        if connection.execute("SELECT FROM leveret_outbox LIMIT 1").fetchone() is not None:
            raise OutboxError(
                f"the table {TABLE} has rows that were not published; "
                "let a broker publish them, or delete them"
            )
        connection.execute(DROP)


def report(connection: Connection) -> OutboxReport:
    """Return the state of an outbox. Raises OutboxError."""
    installed = find_outbox(connection)
    if installed is None:
        raise OutboxError(f"there is no table {TABLE}; create it with 'leveret outbox install'")
    with as_outbox_errors():
        waiting, oldest, failed = _row(
            connection,
            "SELECT count(*) FILTER (WHERE failed_at IS NULL), extract(epoch FROM clock_timestamp() - "
            "min(created_at) FILTER (WHERE failed_at IS NULL))::float8, count(failed_at) FROM leveret_outbox",
        )
        (notifies,) = _row(
            connection,
            "SELECT coalesce(bool_or(tgenabled <> 'D'), false) FROM pg_trigger "
            "WHERE tgrelid = 'leveret_outbox'::regclass AND tgname = %s",
            TRIGGER,
        )
        publisher = connection.execute(
            "SELECT coalesce(host(client_addr), 'local') FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND classid = %s AND objsubid = 2 "
            "AND objid = 'leveret_outbox'::regclass::oid "
            "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [LOCK_CLASS],
        ).fetchone()
        failures = connection.execute(
            "SELECT id, virtual_host, exchange, routing_key, attempts, error, failed_at, retry_at "
            "FROM leveret_outbox WHERE failed_at IS NOT NULL ORDER BY id LIMIT %s",
            [SHOWN],
        ).fetchall()
    return OutboxReport(
        installed.version,
        waiting,
        oldest,
        failed,
        notifies,
        None if publisher is None else publisher[0],
        [FailedReport(*row) for row in failures],
    )


def retry(connection: Connection, ids: list[int] | None) -> int:
    """Let failed rows wait again: these, or (None) all. Return their number. Raises OutboxError."""
    statement = "UPDATE leveret_outbox SET failed_at = NULL, retry_at = NULL WHERE failed_at IS NOT NULL"
    with as_outbox_errors(), connection.transaction():
        if ids is None:
            count = connection.execute(statement).rowcount
        else:
            count = connection.execute(f"{statement} AND id = ANY(%s)", [ids]).rowcount
        connection.execute("SELECT pg_notify('leveret_outbox', '')")
    return count


def _row(connection: Connection, statement: LiteralString, *parameters: Any) -> tuple[Any, ...]:
    """Return the only row of a query."""
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return tuple(row)
