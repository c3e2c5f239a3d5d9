"""Rows of the metadata that a broker cannot use: it starts without them, and says which.

Owns how a row is named, why it cannot be used, and the statement that removes it. What a row means is the
business of whoever restores it (``restoring``).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from protocol.errors import AmqpError

Raw: TypeAlias = bytes | int | float | str | None  # a column, whatever SQLite has there

KEYS = {  # the columns that tell a row of a table from the others
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
    "windows": "deduplication window of exchange '{exchange}' in vhost '{vhost}'",
}
SHOWN = 300  # characters of a name in an error


class RowId(NamedTuple):
    """A row, and how it is called in texts."""

    table: str
    what: str
    columns: Mapping[str, Raw]

    @classmethod
    def of(cls, table: str, columns: Mapping[str, Raw]) -> "RowId":
        """The row of a table with these columns; of an operator policy it says that it is one."""
        shown = {name: shown_text(value)[:SHOWN] for name, value in columns.items()}
        operator = "operator " if table == "policies" and columns["operator"] else ""
        return cls(table, operator + _NAMES[table].format(**shown), columns)

    def text(self, column: str) -> str:
        """A column as text; "" if it is none."""
        value = self.columns[column]
        try:
            return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else ""
        except UnicodeDecodeError:
            return ""

    def removal(self) -> tuple[str, tuple[Raw, ...]]:
        """The statement that removes the row, and its values."""
        columns = KEYS[self.table]
        condition = " AND ".join(f"{column} IS ?" for column in columns)
        return f"DELETE FROM {self.table} WHERE {condition}", tuple(self.columns[each] for each in columns)


class BadRow(NamedTuple):
    """A row that cannot be used, and why."""

    row: RowId
    why: str

    def __str__(self) -> str:
        return f"{self.row.what} cannot be restored: {self.why}"


class BadRows(list[BadRow]):
    """The rows that cannot be used, in the order they were met."""

    @contextmanager
    def skipping(self, row: RowId) -> Iterator[None]:
        """Do something with a row; if that fails, the row is a bad one.

        Whatever is raised is about the row: a broker has to start with whatever a directory holds.
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
        """Those of one table."""
        return [bad for bad in self if bad.row.table == table]


def shown_text(value: Raw) -> str:
    """A column as text for people; bytes that are not UTF-8 are spelled out."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
