"""The files of a store as rows in PostgreSQL.

Responsible for which files exist, and for writes that are not committed yet. ``write`` keeps its data in
memory, where reads find it; ``sync`` commits it. The names and sizes of files are read once, since no other
process can change them while this one owns the store. Files below ``transient/``, which do not outlive the
broker, are in a local directory.
"""

import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from leveret.router.postgresql import tables
from leveret.router.postgresql.append_session import (
    AppendError,
    AppendSession,
    LockedError,
    MissingTableError,
)
from leveret.router.postgresql.location import Statement
from leveret.router.postgresql.metadata import PostgresMetadata
from leveret.router.postgresql.read_session import ReadSession
from leveret.router.postgresql.tables import Piece, StoredFile
from leveret.router.store.files import Data, DiskFiles

LOCAL = "transient"
JOURNAL = "journal"  # the directory whose files are committed with the metadata
FIRST_DESCRIPTOR = 1 << 30  # those of the operating system are below
VERSIONS = 1 << 40  # pieces that one owner may write
Pieces = list[Piece]

DROP_RETRY = 1.0  # seconds until another attempt to drop tables that were in use


class PostgresFiles:
    """The ``Files`` of one shard, whose paths are below ``root``."""

    def __init__(
        self,
        append: AppendSession,
        reading: ReadSession,
        metadata: PostgresMetadata,
        *,
        root: Path,
        local: Path,
        shard: int,
    ) -> None:
        """Read the names of all files. ``local`` is the directory for transient files. Raises OSError."""
        self._append = append
        self._reading = reading
        self._metadata = metadata
        self._root = root
        self._local = local
        self._disk = DiskFiles()
        self._shard = shard
        self._version = append.epoch * VERSIONS
        self._files: dict[str, StoredFile] = {}  # by name
        self._sizes: dict[str, int] = {}
        self._open: dict[int, str] = {}
        self._next = FIRST_DESCRIPTOR
        self._unsynced: dict[str, Pieces] = {}
        self._in_use: set[str] = set()  # tables to drop, which another session was using
        self._drop_again_at = 0.0  # the monotonic time of the next attempt
        self._find()

    def _find(self) -> None:
        rows = self._reading.rows("SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()")
        checkpoints = []
        for (table,) in rows:
            file = tables.file_in(table, self._shard)
            if file is not None and file.name == tables.CHECKPOINT:
                checkpoints.append(table)
            elif file is not None:
                self._files[file.name] = file
        if checkpoints:
            *older, newest = sorted(checkpoints, key=lambda table: int(table.rpartition("_")[2]))
            self._files[tables.CHECKPOINT] = _checkpoint(newest, self._shard)
            self._in_use.update(older)
        query = f"SELECT DISTINCT name FROM {tables.SHARED} WHERE shard = %s"
        for (name,) in self._reading.rows(query, (self._shard,)):
            self._files.setdefault(name, StoredFile(name, self._shard))

    # -- the interface ------------------------------------------------------------------------------------

    def create(self, path: Path, size: int) -> int:
        name = self._name(path)
        if name is None:
            return self._disk.create(self._local / path.name, size)
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        file = tables.new_file(name, self._shard)
        if file.table is not None:
            self._append.commit(tables.create(file.table))
        self._files[name] = file
        self._sizes[name] = 0
        return self._descriptor(name)

    def open(self, path: Path) -> int:
        name = self._name(path)
        if name is None:
            return self._disk.open(self._local / path.name)
        self._must_exist(name, path)
        return self._descriptor(name)

    def write(self, descriptor: int, data: Data, offset: int) -> None:
        if descriptor < FIRST_DESCRIPTOR:
            self._disk.write(descriptor, data, offset)
            return
        self._unsynced.setdefault(self._open[descriptor], []).append((offset, data))

    def sync(self, descriptor: int) -> None:
        if descriptor < FIRST_DESCRIPTOR:
            self._disk.sync(descriptor)
            return
        name = self._open[descriptor]
        directory = tables.directory_of(name)
        # Small files beside it, such as the indexes of streams, are never synced by themselves.
        names = [name, *(each for each in list(self._unsynced) if tables.directory_of(each) == directory)]
        written = {each: self._unsynced.get(each, []) for each in names}
        try:
            self._write(written, whole=directory == JOURNAL)
        except Exception:
            self._unsynced.pop(name, None)  # after a failure everything is written again
            raise
        for each in written:
            self._unsynced.pop(each, None)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        if descriptor < FIRST_DESCRIPTOR:
            return self._disk.read(descriptor, size, offset)
        name = self._open[descriptor]
        end = offset + size
        unsynced = [
            (max(start, offset), bytes(piece[max(0, offset - start) : end - start]))
            for start, piece in list(self._unsynced.get(name, ()))
            if start < end and start + len(piece) > offset
        ]  # before the rows are read: it may be committed meanwhile
        rows = self._reading.rows(*self._file(name).select_piece(offset, end))
        data = tables.overlay((*rows, *unsynced), offset)
        if len(data) < size and name in self._files:  # the end of the file, or a hole before it
            data += bytes(max(0, min(end, self._size(name)) - offset - len(data)))
        return data

    def size(self, path: Path) -> int:
        name = self._name(path)
        if name is None:
            return self._disk.size(self._local / path.name)
        self._must_exist(name, path)
        return self._size(name)

    def _size(self, name: str) -> int:
        size = self._sizes.get(name)
        if size is None:
            ((size,),) = self._reading.rows(*self._file(name).select_size())
            self._sizes[name] = size
        unsynced = max((start + len(piece) for start, piece in self._unsynced.get(name, ())), default=0)
        return max(size, unsynced)

    def close(self, descriptor: int) -> None:
        if descriptor < FIRST_DESCRIPTOR:
            self._disk.close(descriptor)
        else:
            self._open.pop(descriptor, None)

    def replace(self, path: Path, data: Data) -> None:
        name = self._name(path)
        if name is None:
            self._disk.replace(self._local / path.name, data)
            return
        if name == tables.CHECKPOINT:
            table = tables.checkpoint_table(self._shard, self._next_version())
            file = _checkpoint(table, self._shard)
            before = tables.create(table)
        else:
            file = StoredFile(name, self._shard)
            before = [file.delete()]
        inserts = [file.insert(self._next_version(), *piece) for piece in tables.rows([(0, data)])]
        try:
            self._append.commit([*before, *inserts])
        except AppendError:
            if file.table is not None:
                self._in_use.add(file.table)  # it may exist: another version will be written
            raise
        old = self._files.get(name)
        self._files[name] = file
        self._sizes[name] = len(data)
        self._unsynced.pop(name, None)
        if old is not None and old.table is not None:
            self._drop(old.table)
        if name == tables.CHECKPOINT:
            self.drop_unused()

    def remove(self, path: Path) -> None:
        name = self._name(path)
        if name is None:
            self._disk.remove(self._local / path.name)
            return
        file = self._files.get(name)
        if file is None:
            return
        # First: if the outcome of the removal is unknown, no other commit may need the table.
        self._unsynced.pop(name, None)
        if file.shared:
            self._append.commit([file.delete()])
        if file.table is not None:
            self._drop(file.table)
        del self._files[name]
        self._sizes.pop(name, None)

    def sync_directory(self, directory: Path) -> None:
        """Nothing to do: the names are committed with the tables."""

    def make_directory(self, directory: Path) -> None:
        """Nothing to do: the names of directories are part of the names of files."""

    def list(self, directory: Path) -> Sequence[Path]:
        inside = directory.relative_to(self._root).as_posix()
        if inside == LOCAL:
            return [directory / path.name for path in self._disk.list(self._local)]
        wanted = "" if inside == "." else inside
        found = (name for name in list(self._files) if tables.directory_of(name) == wanted)
        return sorted(self._root / name for name in found)

    # -- rows -----------------------------------------------------------------------------------------------

    def drop_unused(self) -> None:
        """Drop old tables of positions, and tables that were in use before. Raises AppendError."""
        self._in_use.update(self._append.old_generations())
        self._drop_again()

    def _write(self, written: dict[str, Pieces], *, whole: bool) -> None:
        """Commit pieces of files: in one transaction, or in transactions of about a row, so that the journal
        waits for none for long.
        """
        statements: list[Statement] = [*self._metadata.staged()] if whole else []
        size = 0
        for name, each in written.items():
            file = self._files.get(name)
            if file is None:
                continue  # removed meanwhile
            for start, piece in tables.rows(each):
                if size and not whole and size + len(piece) > tables.ROW:
                    self._append.commit(statements)
                    statements, size = [], 0
                file = self._with_table(file, start + len(piece))
                statements.append(file.insert(self._next_version(), start, piece))
                size += len(piece)
        if statements:
            self._append.commit(statements)
        if whole:
            self._metadata.committed()
        for name, each in written.items():
            if name in self._sizes:
                end = max((start + len(piece) for start, piece in each), default=0)
                self._sizes[name] = max(self._sizes[name], end)

    def _with_table(self, file: StoredFile, end: int) -> StoredFile:
        """Return the file, with a table of its own if it is needed for bytes up to ``end``."""
        written = tables.grown(file, end)
        if written is not file and written.table is not None:
            self._append.commit(tables.create(written.table))
            self._files[file.name] = written
        return written

    def _drop(self, table: str) -> None:
        """Drop a table, or remember it while another session uses it."""
        self._in_use.add(table)
        self._drop_again((table,))

    def _drop_again(self, besides: Iterable[str] = ()) -> None:
        """Drop the tables in ``besides``, and every ``DROP_RETRY`` seconds those that were in use."""
        due = list(besides)
        if (now := time.monotonic()) >= self._drop_again_at:
            due = list(self._in_use)
        for table in due:
            try:
                self._append.commit(tables.drop(table))
            except LockedError:
                self._drop_again_at = now + DROP_RETRY
            except MissingTableError:  # dropped by an attempt whose outcome was unknown
                self._in_use.discard(table)
            else:
                self._in_use.discard(table)

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    # -- names ----------------------------------------------------------------------------------------------

    def _name(self, path: Path) -> str | None:
        """Return the name of a file of the store; None for a local file."""
        name = path.relative_to(self._root).as_posix()
        return None if name.startswith(f"{LOCAL}/") else name

    def _must_exist(self, name: str, path: Path) -> None:
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def _file(self, name: str) -> StoredFile:
        """Return a file, also one that was removed while it is open."""
        return self._files.get(name) or tables.new_file(name, self._shard)

    def _descriptor(self, name: str) -> int:
        self._next += 1
        self._open[self._next] = name
        return self._next


def _checkpoint(table: str, shard: int) -> StoredFile:
    return StoredFile(tables.CHECKPOINT, shard, table, shared=False)
