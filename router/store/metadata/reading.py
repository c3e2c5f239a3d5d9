"""Reading of the metadata: rows of topology, users and policies from any database.

Responsible for the rows as named tuples, and for what every metadata database offers the store. Not for a
database itself: see ``database`` for the one of a data directory.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from leveret.protocol.amqp.table import Table, decode_table
from leveret.router.persistence.rows import (
    GlobalParameterRow,
    ParameterRow,
    PermissionRow,
    PolicyRow,
    TopicPermissionRow,
    UserRow,
    VHostRow,
)
from leveret.router.store.journal.records import ID_MAX
from leveret.router.store.metadata.bad_rows import BadRows, Raw, RowId
from leveret.router.store.metadata.statements import BindingRow, ExchangeRow, QueueRow, Statement, WindowRow


class MetadataError(Exception):
    """The database cannot be used; the text gives the reason."""


class StoredMetadata(ABC):
    """The metadata of one store.

    Errors call the database ``name``, and end with the advice ``restoring``.
    """

    name: str
    restoring: str

    @abstractmethod
    def commit(self, statements: Iterable[Statement], *, with_batch: bool = False) -> None:
        """Execute all statements in one transaction, which is on disk afterwards.

        With ``with_batch`` the next synced batch of the journal is part of the same job: a database that
        holds the journal, too, may commit both together. If this raises, the transaction may or may not be
        found after a crash.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the database."""

    @abstractmethod
    def select(self, table: str, order: str) -> tuple[Sequence[str], Sequence[tuple[Raw, ...]]]:
        """Return the columns and rows of a table, in this order. Raises MetadataError."""

    @abstractmethod
    def ids(self) -> list[int]:
        """Return the ids of all queues and windows, including those of malformed rows. Raises
        MetadataError.
        """

    @abstractmethod
    def next_queue_id(self) -> int:
        """Return an id that no queue or exchange has had. Raises MetadataError."""

    def read(self, table: str, bad: BadRows) -> Iterator[tuple[RowId, Any]]:
        """Yield the rows of a table as named tuples, each with its identity; add malformed rows to ``bad``.

        Raises MetadataError if the table cannot be read.
        """
        order, make = _TABLES[table]
        names, rows = self.select(table, order)
        for values in rows:
            row = RowId.of(table, dict(zip(names, values, strict=True)))
            made: Any = None
            with bad.skipping(row):
                made = make(*values)
            if made is not None:
                yield row, made

    def _all(self, table: str) -> list[Any]:
        """Return the rows of a table. Raises MetadataError if one is malformed."""
        bad = BadRows()
        rows = [row for _, row in self.read(table, bad)]
        if bad:
            raise MetadataError(f"{self.name} is damaged: {bad[0]} (table {table})")
        return rows

    def vhosts(self) -> list[VHostRow]:
        return self._all("vhosts")

    def users(self) -> list[UserRow]:
        return self._all("users")

    def permissions(self) -> list[PermissionRow]:
        return self._all("permissions")

    def topic_permissions(self) -> list[TopicPermissionRow]:
        return self._all("topic_permissions")

    def policies(self) -> list[PolicyRow]:
        """Return the policies and operator policies."""
        return self._all("policies")

    def parameters(self) -> list[ParameterRow]:
        return self._all("parameters")

    def global_parameters(self) -> list[GlobalParameterRow]:
        return self._all("global_parameters")

    def exchanges(self) -> list[ExchangeRow]:
        return self._all("exchanges")

    def queues(self) -> list[QueueRow]:
        """Return the queues in the order of their declaration."""
        return self._all("queues")

    def windows(self) -> list[WindowRow]:
        """Return the ids of exchanges with notes."""
        return self._all("windows")

    def bindings(self) -> list[BindingRow]:
        """Return the bindings in the order of their creation."""
        return self._all("bindings")

    def must_know(self, queue_id: int) -> None:
        """Raise MetadataError if this id of a queue, found in the journal, was never assigned."""
        if queue_id >= self.next_queue_id():
            raise MetadataError(
                f"{self.name} has lost changes: it has never assigned the id of queue {queue_id}, of which "
                f"there are messages. Nothing was changed. {self.restoring}"
            )


def _id(stored: Raw) -> int:
    if not isinstance(stored, int) or not 0 < stored <= ID_MAX:
        raise ValueError(f"{stored!r} stands where the id of a queue should be")
    return stored


def _text(stored: Raw) -> str:
    if not isinstance(stored, bytes):
        raise ValueError(f"{stored!r} stands where a text should be")
    return stored.decode("utf-8", "surrogatepass")


def _table(stored: Raw) -> Table:
    if not isinstance(stored, bytes):
        raise ValueError(f"{stored!r} stands where arguments should be")
    table, end = decode_table(stored, 0)
    if end != len(stored):
        raise ValueError("there is something after the arguments")
    return table


def _json(stored: Raw, *kinds: type) -> Any:
    """Decode JSON of one of these kinds; of any kind if none is given. Raises ValueError."""
    if not isinstance(stored, bytes | str):  # text comes from the conversion of an older format
        raise ValueError(f"{stored!r} stands where JSON should be")
    value = json.loads(stored)
    if kinds and not isinstance(value, kinds):
        raise ValueError(f"{value!r} stands where {kinds[0].__name__} should be")
    return value


def _tags(stored: Raw) -> tuple[str, ...]:
    tags = _json(stored, list)
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("a tag is not a text")
    return tuple(tags)


def tables() -> list[tuple[str, str]]:
    """Return the tables, each with the order of its rows."""
    return [(table, order) for table, (order, _) in _TABLES.items()]


# By table: the order of its rows, and the function that makes a row from the columns.
_TABLES: dict[str, tuple[str, Callable[..., Any]]] = {
    "vhosts": ("name", lambda name, metadata: VHostRow(_text(name), _json(metadata, dict))),
    "users": (
        "name",
        lambda name, password_hash, algorithm, tags, limits: UserRow(
            _text(name), _text(password_hash), _text(algorithm), _tags(tags), _json(limits, dict)
        ),
    ),
    "permissions": ("user, vhost", lambda *row: PermissionRow(*map(_text, row))),
    "topic_permissions": ("user, vhost, exchange", lambda *row: TopicPermissionRow(*map(_text, row))),
    "policies": (
        "vhost, operator, name",
        lambda vhost, operator, name, pattern, apply_to, priority, definition: PolicyRow(
            _text(vhost),
            bool(operator),
            _text(name),
            _text(pattern),
            _text(apply_to),
            int(priority),
            _json(definition, dict),
        ),
    ),
    "parameters": (
        "vhost, component, name",
        lambda vhost, component, name, value: ParameterRow(
            _text(vhost), _text(component), _text(name), _json(value)
        ),
    ),
    "global_parameters": ("name", lambda name, value: GlobalParameterRow(_text(name), _json(value))),
    "exchanges": (
        "vhost, name",
        lambda vhost, name, kind, auto_delete, internal, arguments: ExchangeRow(
            _text(vhost), _text(name), _text(kind), bool(auto_delete), bool(internal), _table(arguments)
        ),
    ),
    "queues": (
        "id",
        lambda number, vhost, name, auto_delete, arguments: QueueRow(
            _id(number), _text(vhost), _text(name), bool(auto_delete), _table(arguments)
        ),
    ),
    "bindings": (
        "number",
        lambda _, vhost, source, kind, destination, routing_key, arguments: BindingRow(
            _text(vhost),
            _text(source),
            _text(kind),
            _text(destination),
            _text(routing_key),
            _table(arguments),
        ),
    ),
    "windows": ("id", lambda number, vhost, exchange: WindowRow(_id(number), _text(vhost), _text(exchange))),
}
