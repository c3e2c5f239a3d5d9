"""Connections to the database of an outbox: options, errors and the installed version.

This module, ``database`` and ``maintenance`` need psycopg, which is an optional dependency.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from leveret.router.transactional_outbox.schema import TABLE, VERSION, Installed, parse_comment
from leveret.router.values.postgresql_urls import describe_url, parse_url

# So that a lost connection is noticed within half a minute, on both sides. The URL may set others.
OPTIONS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30000,
}
SERVER_OPTIONS = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"

Connection = psycopg.Connection[Any]


class OutboxError(Exception):
    """The database cannot be used; the text has the reason, and advice if there is one."""


def connect(url: str, name: str) -> Connection:
    """Connect to a database; ``name`` is shown in ``pg_stat_activity``. Raises OutboxError."""
    with as_outbox_errors():
        given = parse_url(url)
        options = f"{SERVER_OPTIONS} {given.get('options', '')}".rstrip()
        merged = OPTIONS | given | {"options": options, "application_name": name, "client_encoding": "UTF8"}
        return psycopg.connect(make_conninfo("", **merged), autocommit=True)


@contextmanager
def as_outbox_errors() -> Iterator[None]:
    """Convert the errors of psycopg in the block to ``OutboxError``."""
    try:
        yield
    except psycopg.Error as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise OutboxError(text) from None


def find_outbox(connection: Connection) -> Installed | None:
    """Return the installed version and id of the outbox; None if there is no table of its name.

    Raises OutboxError for a table that is not an outbox.
    """
    with as_outbox_errors():
        row = connection.execute(
            "SELECT obj_description(found, 'pg_class') FROM to_regclass(%s) AS found WHERE found IS NOT NULL",
            [TABLE],
        ).fetchone()
    if row is None:
        return None
    installed = parse_comment(row[0])
    if installed is None:
        raise OutboxError(
            f"the table {TABLE} was not created by 'leveret outbox install': its comment differs"
        )
    return installed


def must_be_current(installed: Installed | None) -> Installed:
    """Return the installed version. Raises OutboxError if it is missing, or not the one of this leveret."""
    if installed is None:
        raise OutboxError(f"there is no table {TABLE}; create it with 'leveret outbox install'")
    if installed.version < VERSION:
        raise OutboxError(
            f"the table {TABLE} has version {installed.version}, and this leveret needs {VERSION}; "
            f"upgrade it with 'leveret outbox install'"
        )
    if installed.version > VERSION:
        raise OutboxError(
            f"the table {TABLE} has version {installed.version}, and this leveret knows {VERSION} at most; "
            f"use a newer leveret"
        )
    return installed


def describe(url: str) -> str:
    """Return a name of the database without user and password. Raises OutboxError for a malformed URL."""
    with as_outbox_errors():
        return describe_url(url)
