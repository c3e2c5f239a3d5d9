"""The tables that hold the files of a store, and the SQL that reads and writes pieces of a file.

Every file that grows large has a table of its own, so that its removal is DROP TABLE: journal files, segments
of queues and of streams, and each version of the checkpoint. Rows are inserted only. A row holds a piece of
at most ``ROW`` bytes from the place ``start`` on; where pieces overlap, the one with the higher ``version``
is valid. All other files are small and rarely removed: they share the table ``files``.

A segment of a stream gets its table with the write that brings it beyond ``SMALL`` bytes; what was written
before stays in the shared table. So thousands of small streams are not thousands of tables. Segments do not
share other tables, because one live segment would keep the removed segments of other streams.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from leveret.router.postgresql.location import Statement
from leveret.router.store.files import Data

Piece = tuple[int, Data]  # a place in a file, and the bytes there

ROW = 1 << 20  # bytes of a row
SMALL = 1 << 18  # bytes of a segment of a stream in the shared table, at most
CHECKPOINT = "checkpoint"
SHARED = "files"
STREAMS = "streams/"  # the begin of the names of segments of streams, and of their indexes

_FILES = (  # a pattern for the name of a file, the prefix of its table, and the name of the file of a table
    (re.compile(r"journal/(\d+)\.journal"), "journal", "journal/{:010d}.journal"),
    (re.compile(r"segments/(\d+)\.segment"), "segment", "segments/{:010d}.segment"),
    (re.compile(r"streams/(\d+)-(\d+)\.segment"), "stream", "streams/{:010d}-{:020d}.segment"),
)
_OPTIONS = "autovacuum_enabled = false, toast.autovacuum_enabled = false"  # dropped before it would help


def table_of(name: str, shard: int) -> str | None:
    """Return the table of a file with this name; None if it is always in the shared table."""
    for pattern, prefix, _ in _FILES:
        if found := pattern.fullmatch(name):
            return "_".join((prefix, str(shard), *(str(int(number)) for number in found.groups())))
    return None


def new_file(name: str, shard: int) -> "StoredFile":
    """Return a file that is created now."""
    table = table_of(name, shard)
    if table is None or name.startswith(STREAMS):
        return StoredFile(name, shard)
    return StoredFile(name, shard, table, shared=False)


def file_in(table: str, shard: int) -> "StoredFile | None":
    """Return the file in an existing table; None if the table holds no file of this shard."""
    name = file_of(table, shard)
    return None if name is None else StoredFile(name, shard, table, shared=name.startswith(STREAMS))


def grown(file: "StoredFile", end: int) -> "StoredFile":
    """Return where a file is written to that will have bytes up to ``end``: perhaps to a table of its own,
    which does not exist yet.
    """
    table = table_of(file.name, file.shard) if file.table is None and end > SMALL else None
    return file if table is None else StoredFile(file.name, file.shard, table)


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
    """A file: its name, and the table of its own, if there is one.

    ``shared`` is True if rows of it may be in the shared table: all of them without a table of its own, or
    those from before it had one.
    """

    name: str
    shard: int
    table: str | None = None
    shared: bool = True

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
        parts = [
            "SELECT greatest(start, %s) AS place, version,"
            " substring(bytes FROM (greatest(start, %s) - start + 1)::int"
            " FOR (least(start + octet_length(bytes), %s) - greatest(start, %s))::int) AS piece"
            f" FROM {source} start < %s AND start > %s AND start + octet_length(bytes) > %s"
            for source, _ in self._sources()
        ]
        values = [
            value
            for _, each in self._sources()
            for value in (offset, offset, end, offset, *each, end, offset - ROW, offset)
        ]
        query = f"SELECT place, piece FROM ({' UNION ALL '.join(parts)}) AS pieces ORDER BY version"
        return query, values

    def select_size(self) -> Statement:
        """Return the query for the bytes of the file."""
        # The last row begins less than a row's length before the end.
        parts = [
            f"SELECT coalesce(max(start + octet_length(bytes)), 0) AS size FROM {source}"
            f" start > (SELECT max(start) FROM {source} true) - {ROW}"
            for source, _ in self._sources()
        ]
        values = [value for _, each in self._sources() for value in (*each, *each)]
        return f"SELECT max(size) FROM ({' UNION ALL '.join(parts)}) AS sizes", values

    def _sources(self) -> list[Statement]:
        """Return the tables with rows of the file, each with the begin of its condition."""
        sources: list[Statement] = []
        if self.shared:
            sources.append((f"{SHARED} WHERE shard = %s AND name = %s AND", (self.shard, self.name)))
        if self.table is not None:
            sources.append((f"{self.table} WHERE", ()))
        return sources


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
