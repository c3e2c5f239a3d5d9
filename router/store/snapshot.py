"""The files of a snapshot: a consistent copy of the data directory of a running broker.

A snapshot holds the state that a crash at one moment would have left. ``stage`` makes a hard link to every
file and begins a read transaction on the metadata, while no thread writes to the directory. ``finish`` then
works in parallel with the broker. It copies the files that still grow, up to their length at that moment, and
the metadata from the transaction. Files that are never written to again stay shared with the broker's
directory: full journal files, full segments, the checkpoint. Not for threads (see
``server/snapshot_threads``).

A snapshot is in ``snapshots/NAME`` of the data directory, so that both are on one file system. Until it is
complete and on disk its directory is called ``NAME.partial``.
"""

import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.checkpoint import NAME as CHECKPOINT
from leveret.router.store.opening import METADATA
from leveret.router.store.streams.files import segment_path, stream_files

SNAPSHOTS = "snapshots"
PLACES = ("journal", "segments", "streams")
PARTIAL = ".partial"
PIECE = 1 << 20  # bytes that are copied at once
SYNC_EVERY = 1 << 23  # bytes between two syncs, so that the journal's syncs do not wait for all of them

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SnapshotError(Exception):
    """A snapshot cannot be taken; the text is the reason."""


class Snapshot(Struct, frozen=True):
    """A complete snapshot.

    ``linked`` files are shared with the broker's directory, ``copied`` files, of ``size`` bytes together, are
    not.
    """

    path: Path
    linked: int
    copied: int
    size: int


class Staged(Struct, frozen=True):
    """Links to every file, made at one moment. Of the files in ``growing`` only the given length is valid."""

    directory: Path
    files: int
    growing: Mapping[Path, int]
    metadata: sqlite3.Connection  # in a transaction that sees this moment


def remove_partial(data: Path) -> None:
    """Remove the directories of snapshots that were interrupted."""
    if (data / SNAPSHOTS).is_dir():
        for path in (data / SNAPSHOTS).iterdir():
            if not path.name.endswith(PARTIAL):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()  # ``rmtree`` would wait for the writer of a FIFO


def prepare(data: Path, name: str) -> Path:
    """Create the directory for a snapshot and return it. Raises SnapshotError and OSError."""
    if not _NAME.fullmatch(name) or name.endswith(PARTIAL):
        raise SnapshotError(
            f"{name!r} is not a valid snapshot name: use 1 to 100 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    path = data / SNAPSHOTS / name
    if path.exists():
        raise SnapshotError(f"there is a snapshot {name!r} already: {path}")
    remove_partial(data)
    partial = path.with_name(name + PARTIAL)
    for place in PLACES:
        (partial / place).mkdir(parents=True)
    return partial


def stage(data: Path, partial: Path, growing: Mapping[Path, int]) -> Staged:
    """Make a hard link to every file in ``partial``. No thread may write to the directory meanwhile.

    ``growing`` has the journal and segment files that are still written to, with their lengths in bytes; the
    newest segment of each stream is added here. Raises OSError and sqlite3.Error.
    """
    lengths = dict(growing)
    for stream, firsts in stream_files(DiskFiles(), data).items():
        newest = segment_path(data, stream, max(firsts))
        for path in (newest, newest.with_suffix(".index")):
            if path.exists():
                lengths[path] = path.stat().st_size
    paths = [path for place in PLACES for path in DiskFiles().list(data / place)]
    if (data / CHECKPOINT).exists():
        paths.append(data / CHECKPOINT)
    for path in paths:
        os.link(path, partial / path.relative_to(data))
    connection = sqlite3.connect(
        f"{(data / METADATA).absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # begins to read: fixes the state
    except sqlite3.Error:
        connection.close()
        raise
    there = {partial / path.relative_to(data): length for path, length in lengths.items()}
    return Staged(partial, len(paths), there, connection)


def finish(staged: Staged) -> Snapshot:
    """Copy the growing files and the metadata, sync everything and give the directory its name.

    Raises SnapshotError, OSError and sqlite3.Error.
    """
    partial = staged.directory
    size = _copy_metadata(staged.metadata, partial / METADATA)
    for path, length in staged.growing.items():
        _replace_by_copy(path, length)
        size += length
    for directory in (*(partial / place for place in PLACES), partial):
        DiskFiles().sync_directory(directory)
    path = partial.with_name(partial.name.removesuffix(PARTIAL))
    partial.rename(path)
    DiskFiles().sync_directory(path.parent)
    copied = len(staged.growing)
    return Snapshot(path, staged.files - copied, copied + 1, size)


def _copy_metadata(source: sqlite3.Connection, path: Path) -> int:
    """Copy the database as the transaction of ``source`` sees it; return the size of the copy in bytes."""
    with closing(source):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        with closing(sqlite3.connect(path)) as target:
            source.backup(target)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path.stat().st_size


def _replace_by_copy(path: Path, length: int) -> None:
    """Replace a link to a file that still grows by a copy of its first ``length`` bytes."""
    copy = path.with_name(path.name + ".tmp")
    with open(path, "rb", buffering=0) as source, open(copy, "xb", buffering=0, opener=_private) as target:
        unsynced = 0
        while length:
            piece = source.read(min(PIECE, length))
            if not piece:
                raise SnapshotError(f"{path} is shorter than it was")
            target.write(piece)
            length -= len(piece)
            unsynced += len(piece)
            if unsynced >= SYNC_EVERY:
                os.fdatasync(target.fileno())
                unsynced = 0
        os.fsync(target.fileno())
    copy.rename(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)
