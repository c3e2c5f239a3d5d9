"""The tables that hold the files of a store, and the SQL that reads and writes pieces of a file.

Every file that grows large has a table of its own, so that its removal is DROP TABLE: journal files, segments
of queues and of streams, and each version of the checkpoint. Rows are inserted only. A row holds a piece of
at most ``ROW`` bytes from the place ``start`` on; where pieces overlap, the one with the higher ``version``
is valid. All other files are small and rarely removed: they share the table ``files``.

A stream has a table for each of its segments. Streams that shared tables would need compaction, because one
live segment would keep the removed segments of other streams.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from leveret.router.postgresql.location import Statement
from leveret.router.store.files import Data

Piece = tuple[int, Data]  # a place in a file, and the bytes there

ROW = 1 << 20  # bytes of a row
CHECKPOINT = "checkpoint"
SHARED = "files"

_FILES = (  # a pattern for the name of a file, the prefix of its table, and the name of the file of a table
    (re.compile(r"journal/(\d+)\.journal"), "journal", "journal/{:010d}.journal"),
    (re.compile(r"segments/(\d+)\.segment"), "segment", "segments/{:010d}.segment"),
    (re.compile(r"streams/(\d+)-(\d+)\.segment"), "stream", "streams/{:010d}-{:020d}.segment"),
)
_OPTIONS = "autovacuum_enabled = false, toast.autovacuum_enabled = false"  # dropped before it would help


def table_of(name: str, shard: int) -> str | None:
    """Return the table of a file with this name; None if it is in the shared table."""
    for pattern, prefix, _ in _FILES:
        if found := pattern.fullmatch(name):
            return "_".join((prefix, str(shard), *(str(int(number)) for number in found.groups())))
    return None


def checkpoint_table(shard: int, version: int) -> str:
    """Return the table of a version of the checkpoint."""
    return f"{CHECKPOINT}_{shard}_{version}"


def file_of(table: str, shard: int) -> str | None:
    """Return the name of the file in a table; None if the table holds no file of this shard."""
    prefix, *numbers = table.split("_")
    if len(numbers) < 2 or not all(number.isdecimal() for number in numbers) or int(numbers[0]) != shard:
        return None
    values = [int(number) for number in numbers[1:]]
    if prefix == CHECKPOINT:
        return CHECKPOINT
    for _, known, name in _FILES:
        if prefix == known and name.count("{") == len(values):
            return name.format(*values)
    return None


def directory_of(name: str) -> str:
    """Return the directory of a file; "" for the highest one."""
    parent = str(PurePath(name).parent)
    return "" if parent == "." else parent


def create(table: str) -> list[Statement]:
    """Return the statements that create the table of a file."""
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {table} (start bigint, version bigint, bytes bytea NOT NULL,"
            f" PRIMARY KEY (start, version)) WITH ({_OPTIONS})",
            (),
        ),
        # Messages are stored as they are: compressing them would cost more time than writing them.
        (f"ALTER TABLE {table} ALTER COLUMN bytes SET STORAGE EXTERNAL", ()),
    ]


def drop(table: str) -> list[Statement]:
    """Return the statements that drop a table, or fail at once if it is in use."""
    return [(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE NOWAIT", ()), (f"DROP TABLE {table}", ())]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file: its name, and the table of its own; None for one in the shared table."""

    name: str
    table: str | None
    shard: int

    def insert(self, version: int, start: int, piece: Data) -> Statement:
        """Return the statement that writes a piece."""
        if self.table is None:
            values = (self.shard, self.name, start, version, piece)
            return f"INSERT INTO {SHARED} VALUES (%s, %s, %s, %s, %s)", values
        return f"INSERT INTO {self.table} VALUES (%s, %s, %s)", (start, version, piece)

    def delete(self) -> Statement:
        """Return the statement that removes the file from the shared table."""
        return f"DELETE FROM {SHARED} WHERE shard = %s AND name = %s", (self.shard, self.name)

    def select_piece(self, offset: int, end: int) -> Statement:
        """Return the query for the pieces from ``offset`` to ``end``, the valid one last."""
        source, values = self._source()
        query = (
            "SELECT greatest(start, %s), substring(bytes FROM (greatest(start, %s) - start + 1)::int"
            " FOR (least(start + octet_length(bytes), %s) - greatest(start, %s))::int)"
            f" FROM {source} start < %s AND start > %s AND start + octet_length(bytes) > %s ORDER BY version"
        )
        return query, (offset, offset, end, offset, *values, end, offset - ROW, offset)

    def select_size(self) -> Statement:
        """Return the query for the bytes of the file."""
        source, values = self._source()
        # The last row begins less than a row's length before the end.
        query = (
            f"SELECT coalesce(max(start + octet_length(bytes)), 0) FROM {source}"
            f" start > (SELECT max(start) FROM {source} true) - {ROW}"
        )
        return query, (*values, *values)

    def _source(self) -> Statement:
        if self.table is None:
            return f"{SHARED} WHERE shard = %s AND name = %s AND", (self.shard, self.name)
        return f"{self.table} WHERE", ()


def rows(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the rows for pieces in the order of writing: adjacent pieces are joined, up to ``ROW`` bytes."""
    begin = size = 0
    parts: list[Data] = []
    for start, data in pieces:
        if parts and (start != begin + size or size + len(data) > ROW):
            yield begin, parts[0] if len(parts) == 1 else b"".join(parts)
            parts, size = [], 0
        begin = begin if parts else start
        parts.append(data)
        size += len(data)
        if size > ROW:  # of one piece
            view = memoryview(data)
            for offset in range(0, size, ROW):
                yield start + offset, bytes(view[offset : offset + ROW])
            parts, size = [], 0
    if parts:
        yield begin, parts[0] if len(parts) == 1 else b"".join(parts)


def overlay(found: Iterable[tuple[int, bytes]], offset: int) -> bytes:
    """Return the bytes from ``offset`` on that pieces make, later ones over earlier ones."""
    parts = list(found)
    if len(parts) == 1 and parts[0][0] == offset:
        return parts[0][1]
    data = bytearray(max((start + len(piece) - offset for start, piece in parts), default=0))
    for start, piece in parts:
        data[start - offset : start - offset + len(piece)] = piece
    return bytes(data)
