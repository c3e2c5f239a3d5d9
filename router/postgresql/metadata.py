"""The metadata of a store in PostgreSQL: the rows of SQLite's tables, with the number of the shard.

The core gathers changes as statements for SQLite (see ``statements`` in ``router/store/metadata``). They have
three forms, which are translated here; any other form is an error.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from leveret.router.postgresql import location
from leveret.router.postgresql.append_session import AppendSession
from leveret.router.postgresql.read_session import ReadSession
from leveret.router.postgresql.schema import METADATA, quoted
from leveret.router.store.metadata.bad_rows import Raw
from leveret.router.store.metadata.reading import MetadataError, StoredMetadata
from leveret.router.store.metadata.statements import Statement

_INSERT = re.compile(r"INSERT OR (REPLACE|IGNORE) INTO (\w+)(?: \(([^)]*)\))? VALUES \([?, ]+\)")
_DELETE = re.compile(r"DELETE FROM (\w+) WHERE (.+)")
_CONDITION = re.compile(r"(\w+) = \?")
IDS = ("queues", "windows")  # tables whose rows have an id that is never given again


class Translated(NamedTuple):
    """A statement of PostgreSQL, and the indexes of its parameters among those of SQLite's statement."""

    statement: str
    parameters: tuple[int, ...]


@lru_cache(256)
def translate(statement: str, shard: int) -> tuple[Translated, ...]:
    """Return the statements that do in PostgreSQL what a statement does in SQLite. Raises ValueError."""
    if found := _INSERT.fullmatch(statement):
        return _insert(found[2], found[3], shard, replace=found[1] == "REPLACE")
    if found := _DELETE.fullmatch(statement):
        columns = [each[1] for each in map(_CONDITION.fullmatch, found[2].split(" AND ")) if each]
        if len(columns) == found[2].count("?"):
            condition = "".join(f" AND {quoted(column)} = %s" for column in columns)
            deletion = f"DELETE FROM {found[1]} WHERE shard = {shard}{condition}"
            return (Translated(deletion, tuple(range(len(columns)))),)
    raise ValueError(f"no translation for {statement!r}")


def _insert(table: str, listed: str | None, shard: int, *, replace: bool) -> tuple[Translated, ...]:
    all_columns, keys = METADATA[table]
    columns = listed.split(", ") if listed else list(all_columns)
    every = tuple(range(len(columns)))
    names, places = ", ".join(map(quoted, columns)), ", ".join(["%s"] * len(columns))
    insert = f"INSERT INTO {table} (shard, {names}) VALUES ({shard}, {places})"
    if not replace:
        return (Translated(f"{insert} ON CONFLICT DO NOTHING", every),)
    # As in SQLite, where REPLACE deletes the row with the same key.
    alternatives = " OR ".join(
        f"({' AND '.join(f'{quoted(column)} = %s' for column in key)})" for key in keys
    )
    in_keys = tuple(columns.index(column) for key in keys for column in key)
    statements = [
        Translated(f"DELETE FROM {table} WHERE shard = {shard} AND ({alternatives})", in_keys),
        Translated(insert, every),
    ]
    if table == "bindings":  # a copied one, with its number
        newest = "SELECT setval(pg_get_serial_sequence('bindings', 'number'), max(number)) FROM bindings"
        statements.append(Translated(newest, ()))
    if table in IDS:
        newest = f"UPDATE newest_ids SET id = %s WHERE shard = {shard} AND id < %s"
        number = columns.index("id")
        statements.append(Translated(newest, (number, number)))
    return tuple(statements)


def _stored(value: bytes | int) -> bytes | int:
    """Return a value as PostgreSQL stores it: SQLite has no booleans."""
    return value if isinstance(value, bytes) else int(value)


class PostgresMetadata(StoredMetadata):
    """The metadata of one shard."""

    def __init__(self, append: AppendSession, reading: ReadSession, place: location.StoreLocation) -> None:
        self.name = f"the metadata in {place}"
        self.restoring = "Restore the whole database from one backup"
        self._append = append
        self._reading = reading
        self._shard = place.shard
        self._staged: list[location.Statement] = []  # to be committed with the next batch of the journal

    def commit(self, statements: Iterable[Statement], *, with_batch: bool = False) -> None:
        """Commit the statements, or stage them for the next batch.

        A staged job that failed is committed again as a whole, so that its statements replace those that
        were staged.
        """
        translated: list[location.Statement] = [
            (each.statement, tuple(_stored(values[index]) for index in each.parameters))
            for statement, values in statements
            for each in translate(statement, self._shard)
        ]
        self._staged = translated if with_batch else []
        if not with_batch:
            self._append.commit(translated)

    def staged(self) -> Sequence[location.Statement]:
        """Return the statements to commit with a batch of the journal."""
        return self._staged

    def committed(self) -> None:
        """Forget the staged statements: they are committed."""
        self._staged = []

    def close(self) -> None:
        """Nothing to do: the sessions belong to the backend."""

    def select(self, table: str, order: str) -> tuple[Sequence[str], Sequence[tuple[Raw, ...]]]:
        columns = METADATA[table][0]
        names, ordered = ", ".join(map(quoted, columns)), ", ".join(map(quoted, order.split(", ")))
        query = f"SELECT {names} FROM {table} WHERE shard = %s ORDER BY {ordered}"
        return columns, self._rows(query)

    def ids(self) -> list[int]:
        return [*self._numbers("SELECT id FROM queues"), *self._numbers("SELECT id FROM windows")]

    def next_queue_id(self) -> int:
        return max((*self._numbers("SELECT id FROM newest_ids"), *self.ids()), default=0) + 1

    def _numbers(self, query: str) -> list[int]:
        return [int(str(number)) for (number,) in self._rows(f"{query} WHERE shard = %s ORDER BY id")]

    def _rows(self, query: str) -> list[tuple[Raw, ...]]:
        try:
            return self._reading.rows(query, (self._shard,))
        except OSError as error:
            raise MetadataError(f"{self.name} cannot be read: {error}") from None
