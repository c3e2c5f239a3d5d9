"""Metadata rows that cannot be restored: their names in texts, the reasons, and the statement that removes
one.

The broker starts without such rows and logs each of them. ``restore`` restores the rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from leveret.protocol.errors import AmqpError

Raw: TypeAlias = bytes | int | float | str | None  # a column value of any type of a database

KEYS = {  # the columns that identify a row, by table
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "policies": ("vhost", "operator", "name"),
    "parameters": ("vhost", "component", "name"),
    "global_parameters": ("name",),
    "exchanges": ("vhost", "name"),
    "queues": ("id",),
    "bindings": ("number",),
    "windows": ("id",),
}
_NAMES = {
    "vhosts": "virtual host '{name}'",
    "users": "user '{name}'",
    "permissions": "permissions of user '{user}' in vhost '{vhost}'",
    "topic_permissions": "topic permissions of user '{user}' at exchange '{exchange}' in vhost '{vhost}'",
    "policies": "policy '{name}' in vhost '{vhost}'",
    "parameters": "parameter '{name}' of component '{component}' in vhost '{vhost}'",
    "global_parameters": "global parameter '{name}'",
    "exchanges": "exchange '{name}' in vhost '{vhost}'",
    "queues": "queue '{name}' in vhost '{vhost}'",
    "bindings": (
        "binding of exchange '{source}' to {kind} '{destination}' in vhost '{vhost}' "
        "with routing key '{routing_key}'"
    ),
    "windows": "notes of exchange '{exchange}' in vhost '{vhost}'",
}
SHOWN = 300  # characters of a name in an error


class RowId(NamedTuple):
    """The identity of a row: table, key columns, and ``what``, its name in log lines and errors."""

    table: str
    what: str
    columns: Mapping[str, Raw]

    @classmethod
    def of(cls, table: str, columns: Mapping[str, Raw]) -> "RowId":
        """Name the row of a table that has these columns."""
        shown = {name: shown_text(value)[:SHOWN] for name, value in columns.items()}
        operator = "operator " if table == "policies" and columns["operator"] else ""
        return cls(table, operator + _NAMES[table].format(**shown), columns)

    def text(self, column: str) -> str:
        """Return a column as text; "" if it is not text."""
        value = self.columns[column]
        try:
            return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else ""
        except UnicodeDecodeError:
            return ""

    def removal(self) -> tuple[str, tuple[Raw, ...]]:
        """Return the SQL statement that deletes the row, and its parameters."""
        columns = KEYS[self.table]
        condition = " AND ".join(f"{column} IS ?" for column in columns)
        return f"DELETE FROM {self.table} WHERE {condition}", tuple(self.columns[each] for each in columns)


class BadRow(NamedTuple):
    """A row that cannot be restored, and the reason."""

    row: RowId
    why: str

    def __str__(self) -> str:
        return f"{self.row.what} cannot be restored: {self.why}"


class BadRows(list[BadRow]):
    """The rows that cannot be restored, in the order in which they were read."""

    @contextmanager
    def skipping(self, row: RowId) -> Iterator[None]:
        """Add the row to this list if the block, which restores it, raises an exception.

        Every exception counts, since no content of a data directory may keep the broker from starting.
        """
        try:
            yield
        except AmqpError as error:
            self.append(BadRow(row, str(error).removeprefix(f"{error.name} - ")))
        except ValueError as error:
            self.append(BadRow(row, str(error)))
        except Exception as error:
            self.append(BadRow(row, f"{type(error).__name__}: {error}"))

    def of(self, table: str) -> "list[BadRow]":
        """Return the bad rows of one table."""
        return [bad for bad in self if bad.row.table == table]


def shown_text(value: Raw) -> str:
    """Return a column as printable text, with bytes that are not UTF-8 as escapes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
