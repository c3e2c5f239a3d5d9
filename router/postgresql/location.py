"""Connections to the PostgreSQL of a store, and the checks that a server can hold one.

Responsible for the session settings, and for what a commit promises: on one machine, or on a quorum.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg.conninfo import make_conninfo

from leveret.router.store.backend import StorageError
from leveret.router.values.postgresql_urls import describe_url, parse_url

# Whatever fails is an exception here, and the caller logs it.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)

Connection = psycopg.Connection[Any]
Statement = tuple[str, Sequence[Any]]  # SQL with %s, and its parameters
Durability = Literal["quorum", "local"]

OLDEST = 120000  # server_version of PostgreSQL 12
# Seconds after which a server that does not answer is given up. These are properties of the connection, not
# of a statement: a statement that was cancelled while it waits for a standby would be visible at once.
CONNECT = 5
LIVENESS = {
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 6000,  # ms
}
# The server notices as soon that a broker is gone, and ends its transaction.
SERVER_LIVENESS = {"tcp_keepalives_idle": 3, "tcp_keepalives_interval": 1, "tcp_keepalives_count": 3}
# Timeouts that may be configured for the role. They would end a commit that waits for a standby, or a lock of
# the session. The last one is of PostgreSQL 17.
TIMEOUTS = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
]
QUORUM_COMMITS = ("on", "remote_apply")  # values of synchronous_commit
STANDBYS = "current_setting('synchronous_standby_names')"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """The place of a store: a database, a schema in it, and what its commits must promise."""

    url: str
    schema: str = "leveret"
    durability: Durability = "quorum"
    shard: int = 0

    def __str__(self) -> str:
        """Return the place without the user and the password."""
        try:
            return describe_url(self.url)
        except psycopg.ProgrammingError:
            return "the PostgreSQL of the store"

    def connect(self, name: str) -> Connection:
        """Return a session whose statements commit on their own. Raises psycopg.Error.

        ``name`` is the name of the session in pg_stat_activity.
        """
        known: dict[str, Any] = {"connect_timeout": CONNECT, **LIVENESS, **parse_url(self.url)}
        known["application_name"] = name
        connection = psycopg.connect(make_conninfo("", **known), autocommit=True)
        try:
            settings = SERVER_LIVENESS | {
                "search_path": f"{self.schema}, pg_temp",
                "default_transaction_isolation": "read committed",
            }
            for setting, value in settings.items():
                execute(connection, "SELECT set_config(%s, %s, false)", (setting, str(value)))
            without = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY(%s)"
            execute(connection, without, (TIMEOUTS,))
        except BaseException:
            connection.close()
            raise
        return connection

    def check_promise(self, connection: Connection) -> None:
        """Make the commits of a session as durable as the setting says. Raises StorageError if the server
        cannot do that.
        """
        ((commit, standbys, recovering, read_only),) = execute(
            connection,
            f"SELECT current_setting('synchronous_commit'), {STANDBYS}, pg_is_in_recovery(),"
            " current_setting('transaction_read_only')",
        )
        if recovering:
            raise StorageError(
                f"{self} is a standby of PostgreSQL, which cannot be written to: name the primary, or all"
                " hosts with target_session_attrs=read-write"
            )
        if read_only == "on":
            raise StorageError(
                f"{self} is read-only: default_transaction_read_only is on for this user or database"
            )
        if self.durability == "quorum":
            if not standbys:
                raise StorageError(self.without_standby())
            if commit not in QUORUM_COMMITS:
                execute(connection, "SET synchronous_commit = on")
        elif commit == "off":
            execute(connection, "SET synchronous_commit = local")

    def without_standby(self) -> str:
        """Return the text for a server whose commits wait for no standby."""
        return (
            f"commits of {self} wait for no standby: its synchronous_standby_names is empty, and"
            " cluster.durability is 'quorum'. Configure a synchronous standby, or set cluster.durability to"
            " 'local' if one copy, or the copies that the storage of the server makes, are enough"
        )

    def open(self, name: str) -> Connection:
        """Return a checked session for a start. Raises StorageError, which tells what is wrong."""
        try:
            connection = self.connect(name)
        except psycopg.ProgrammingError as error:
            raise StorageError(f"store.url is no URL of a PostgreSQL: {text_of(error)}") from None
        except psycopg.Error as error:
            raise StorageError(f"cannot connect to {self}: {text_of(error)}") from None
        try:
            if connection.info.server_version < OLDEST:
                raise StorageError(
                    f"{self} is PostgreSQL {connection.info.parameter_status('server_version')}; the store"
                    " needs 12 or newer"
                )
            self.check_promise(connection)
        except psycopg.Error as error:
            connection.close()
            raise StorageError(f"cannot use {self}: {text_of(error)}") from None
        except BaseException:
            connection.close()
            raise
        return connection


def execute(connection: Connection, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Execute one statement; return its rows, none if it has no result. Raises psycopg.Error."""
    cursor = connection.execute(statement.encode(), values or None)
    return cursor.fetchall() if cursor.description is not None else []


def text_of(error: psycopg.Error) -> str:
    """Return the text of an error in one line."""
    said = error.diag.message_primary or str(error)
    return " ".join(said.split()) or type(error).__name__
