"""Access to a data directory without a running broker.

Responsible for read-only files, the lock during a command, and access to the metadata that leaves no trace.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from leveret.protocol.amqp.table import Table
from leveret.router.broker.broker import Broker
from leveret.router.settings import Settings
from leveret.router.store.files import Data, DiskFiles, open_regular
from leveret.router.store.lock import DataDirectoryError, Lock
from leveret.router.store.metadata.bad_rows import BadRow, BadRows, RowId, shown_text
from leveret.router.store.metadata.database import Metadata
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.metadata.restore import Restored, restore_metadata
from leveret.router.store.metadata.statements import QueueRow
from leveret.router.store.opening import METADATA, must_have_metadata
from leveret.router.store.streams.files import stream_files

SQLITE_MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html 1.3.1


class ReadOnlyFiles(DiskFiles):
    """``Files`` that change nothing: writes are refused, and syncs are not needed."""

    def open(self, path: Path) -> int:
        if path.is_dir():  # a directory can be opened, and the error of reading it has no name
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return open_regular(path, os.O_RDONLY)

    def create(self, path: Path, size: int) -> int:
        raise _refused(path)

    def write(self, descriptor: int, data: Data, offset: int) -> None:
        raise _refused(Path())

    def sync(self, descriptor: int) -> None:
        pass

    def replace(self, path: Path, data: Data) -> None:
        raise _refused(path)

    def remove(self, path: Path) -> None:
        raise _refused(path)

    def sync_directory(self, directory: Path) -> None:
        pass

    def make_directory(self, directory: Path) -> None:
        raise _refused(directory)


class Overlay(ReadOnlyFiles):
    """Read-only files with some of them replaced: by path their bytes, None for a removed one."""

    def __init__(self, changes: Mapping[Path, bytes | None]) -> None:
        self._changes = changes
        self._open: dict[int, bytes] = {}  # by descriptors below zero

    def open(self, path: Path) -> int:
        if path not in self._changes:
            return super().open(path)
        data = self._changes[path]
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        descriptor = min(self._open, default=0) - 1
        self._open[descriptor] = data
        return descriptor

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        if descriptor < 0:
            return self._open[descriptor][offset : offset + size]
        return super().read(descriptor, size, offset)

    def size(self, path: Path) -> int:
        data = self._changes.get(path)
        return super().size(path) if data is None else len(data)

    def close(self, descriptor: int) -> None:
        if descriptor < 0:
            del self._open[descriptor]
        else:
            super().close(descriptor)

    def list(self, directory: Path) -> Sequence[Path]:
        found = set(super().list(directory))
        for path, data in self._changes.items():
            if path.parent == directory:
                (found.discard if data is None else found.add)(path)
        return sorted(found)


def _refused(path: Path) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def lock(path: Path) -> Lock:
    """Acquire the lock of an existing data directory, which may be read-only. Raises DataDirectoryError."""
    if not any((path / name).exists() for name in (METADATA, "journal", "checkpoint")):
        raise DataDirectoryError(f"{path} is no data directory of leveret")
    return Lock(path, may_read_only=True)


def read_metadata(path: Path) -> tuple[list[QueueRow], list[str]]:
    """Return the queues, and the faults that SQLite finds. Raises MetadataError if the file cannot be read.

    A queue with an unreadable row has its id, and the printable part of its names. SQLite writes beside a
    database that it only reads, so it works on a copy.
    """
    must_have_metadata(ReadOnlyFiles(), path)
    with _copied_metadata(path) as copy:
        return _read(copy, stream_files(ReadOnlyFiles(), path))


def is_stream(row: QueueRow) -> bool:
    """Return True if a durable queue is a stream, whose messages are not in pages."""
    return row.arguments.get("x-queue-type") == "stream"


def must_know(path: Path, queue_id: int) -> None:
    """Call ``Metadata.must_know``."""
    with _copied_metadata(path) as copy, closing(Metadata(copy)) as metadata:
        try:
            metadata.must_know(queue_id)
        except MetadataError as error:
            raise MetadataError(str(error).replace(str(copy), str(path / METADATA))) from None


def try_restore(path: Path) -> Restored:
    """Restore the metadata into a broker that is discarded, as a start would."""
    with _copied_metadata(path) as copy, closing(Metadata(copy)) as metadata:
        return restore_metadata(Broker(Settings()), metadata)


def without_rows(path: Path, bad: Iterable[BadRow]) -> bytes:
    """Return the database without the rows that cannot be restored."""
    with _copied_metadata(path) as copy:
        with closing(sqlite3.connect(copy)) as connection:
            for each in bad:
                connection.execute(*each.row.removal())
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return copy.read_bytes()


def reindexed_metadata(path: Path) -> bytes | None:
    """Return the database with its indexes rebuilt, if nothing else is wrong with it."""
    with _copied_metadata(path) as copy:
        before = _read(copy, ())[0]
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("REINDEX")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return copy.read_bytes() if _read(copy, ()) == (before, []) else None


@contextmanager
def _copied_metadata(path: Path) -> Iterator[Path]:
    original = path / METADATA
    _must_be_database(original)
    with TemporaryDirectory(prefix="leveret-") as directory:
        copy = Path(directory) / METADATA
        for suffix in ("", "-wal"):
            if original.with_name(METADATA + suffix).exists():
                shutil.copyfile(original.with_name(METADATA + suffix), copy.with_name(METADATA + suffix))
        try:
            yield copy
        except (MetadataError, sqlite3.Error) as error:
            text = str(error).replace(str(copy), str(original))
            if isinstance(error, sqlite3.Error):
                text = f"{original} cannot be read: {text}"
            raise MetadataError(text) from None


def _must_be_database(path: Path) -> None:
    """Raise MetadataError if a file does not begin as a database does: copying it might fill the disk."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(SQLITE_MAGIC)) != SQLITE_MAGIC:
                raise MetadataError(f"{path} cannot be used: file is not a database")


def _read(copy: Path, streams: Collection[int]) -> tuple[list[QueueRow], list[str]]:
    bad = BadRows()
    with closing(Metadata(copy)) as metadata:
        rows: list[QueueRow] = [row for _, row in metadata.read("queues", bad)]
    rows += [_guessed(each.row, streams) for each in bad]
    with closing(sqlite3.connect(copy)) as connection:
        wrong = [str(line) for (line,) in connection.execute("PRAGMA integrity_check") if line != "ok"]
    return sorted(rows), wrong


def _guessed(row: RowId, streams: Collection[int]) -> QueueRow:
    """Return the readable part of a malformed row of a queue."""
    number = row.columns["id"]
    assert isinstance(number, int)
    arguments: Table = {"x-queue-type": "stream"} if number in streams else {}
    return QueueRow(
        number, shown_text(row.columns["vhost"]), shown_text(row.columns["name"]), False, arguments
    )
