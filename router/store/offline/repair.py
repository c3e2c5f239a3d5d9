"""Repair of a data directory: damaged files are set aside and replaced by their readable rest.

Responsible for writing what ``check`` proposes. Nothing is deleted: the old files are in ``set-aside/<time>``
of the data directory before they are replaced. An interrupted repair can be started again.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.checkpoint import NAME
from leveret.router.store.offline.findings import FileSlice, Inspection
from leveret.router.store.streams.files import remake_index

SET_ASIDE = "set-aside"
COPIED = 1 << 20  # bytes copied at once


def repair(directory: Path, found: Inspection, now: datetime) -> Path:
    """Make the changes that an inspection proposes; return the place of the old files. Raises OSError."""
    files = DiskFiles()
    aside = directory / SET_ASIDE / now.strftime("%Y%m%dT%H%M%S.%f")
    indexes = [path.with_suffix(".index") for path in (*found.excerpts, *found.indexes)]
    for path in sorted({*found.changes, *found.excerpts, *found.given_up, *indexes}):
        if path.exists():
            _set_aside(files, path, aside / path.relative_to(directory))
    for path, pieces in found.excerpts.items():
        _excerpt(files, path, pieces)
    for path in (*found.excerpts, *found.indexes):
        remake_index(files, path)
    checkpoint = directory / NAME
    # The checkpoint last: everything that it names must exist.
    for path, data in sorted(found.changes.items(), key=lambda change: change[0] == checkpoint):
        if data is not None:
            files.replace(path, data)
        else:
            files.remove(path)
            files.sync_directory(path.parent)
    return aside


def _excerpt(files: DiskFiles, path: Path, pieces: Iterable[bytes | FileSlice]) -> None:
    """Replace a file by parts of it and other bytes, without loading it as a whole."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    source, target = files.open(path), files.create(temporary, 0)
    try:
        end = 0
        for piece in pieces:
            for data in _parts(files, source, piece):
                files.write(target, data, end)
                end += len(data)
        files.sync(target)
    finally:
        files.close(source)
        files.close(target)
    temporary.rename(path)
    files.sync_directory(path.parent)


def _parts(files: DiskFiles, source: int, piece: bytes | FileSlice) -> Iterator[bytes]:
    if isinstance(piece, bytes):
        yield piece
        return
    for start in range(piece.start, piece.stop, COPIED):
        yield files.read(source, min(COPIED, piece.stop - start), start)


def _set_aside(files: DiskFiles, path: Path, target: Path) -> None:
    """Give a file a second name, or copy it if that is impossible, and sync it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
    descriptor = files.open(target)
    try:
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    for parent in (target.parent, *target.parents[1:4]):
        files.sync_directory(parent)
