"""Copy of a whole store into another, empty backend, and the comparison of both.

Responsible for the files and rows. Not for opening the backends, which no broker may use meanwhile.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from leveret.router.store.backend import StorageBackend, StorageError
from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME as CHECKPOINT
from leveret.router.store.metadata.bad_rows import Raw
from leveret.router.store.metadata.reading import tables
from leveret.router.store.metadata.statements import QueueRow, add_queue, copy_row, remove_queue
from leveret.router.store.set_aside import PLACE as UNREADABLE
from leveret.router.store.unpackable_files import PLACE as UNPACKABLE

DIRECTORIES = (*map(PurePath, ("journal", "segments", "streams")), UNREADABLE, UNPACKABLE)
PIECE = 1 << 23  # bytes that are copied at once


class Copied(NamedTuple):
    """The content of a copy; ``size`` is in bytes."""

    files: int
    size: int
    rows: int


def copy_store(source: StorageBackend, target: StorageBackend) -> Copied:
    """Copy all files and rows, compare them, and return their numbers.

    Raises StorageError if the target is not empty or differs afterwards, MetadataError and OSError.
    """
    if any(_names(target)) or any(rows for _, rows in _all_rows(target)):
        raise StorageError(f"{target.path} is not empty: a store can be copied only into a new place")
    size = sum(_copy_file(source, target, name) for name in _names(source))
    rows = _copy_rows(source, target)
    _compare(source, target)
    return Copied(len(list(_names(source))), size, rows)


def _names(backend: StorageBackend) -> Iterator[PurePath]:
    """Yield the names of all files but the metadata and the transient ones."""
    for directory in DIRECTORIES:
        for path in backend.files.list(backend.path / directory):
            yield path.relative_to(backend.path)
    checkpoint = backend.path / CHECKPOINT
    if checkpoint in backend.files.list(backend.path):
        yield PurePath(CHECKPOINT)


def _pieces(files: Files, path: Path) -> Iterator[bytes]:
    """Yield the content of a file, in pieces of at most ``PIECE`` bytes, without the zeros at its end."""
    descriptor = files.open(path)
    try:
        zeros = 0
        offset = 0
        while piece := files.read(descriptor, PIECE, offset):
            offset += len(piece)
            content = piece.rstrip(b"\0")
            if content:
                yield from _zeros(zeros)
                yield content
                zeros = 0
            zeros += len(piece) - len(content)
    finally:
        files.close(descriptor)


def _zeros(count: int) -> Iterator[bytes]:
    while count:
        yield bytes(min(count, PIECE))
        count -= min(count, PIECE)


def _copy_file(source: StorageBackend, target: StorageBackend, name: PurePath) -> int:
    """Copy a file; return its bytes. A journal file is allocated in full on a disk, and only as far as it is
    used elsewhere, so the zeros at the end of a file are not copied.
    """
    path = target.path / name
    if name.parent not in DIRECTORIES[:3]:
        content = b"".join(_pieces(source.files, source.path / name))
        target.files.make_directory(path.parent)
        target.files.replace(path, content)
        return len(content)
    descriptor = target.files.create(path, 0)
    try:
        offset = 0
        for piece in _pieces(source.files, source.path / name):
            target.files.write(descriptor, piece, offset)
            target.files.sync(descriptor)
            offset += len(piece)
        return offset
    finally:
        target.files.close(descriptor)


def _all_rows(backend: StorageBackend) -> Iterator[tuple[str, list[tuple[bytes | int, ...]]]]:
    """Yield the tables of the metadata with their rows."""
    for table, order in tables():
        _, rows = backend.metadata.select(table, order)
        yield table, [tuple(_value(value, backend, table) for value in row) for row in rows]


def _value(value: Raw, backend: StorageBackend, table: str) -> bytes | int:
    """Return the value of a column. Raises StorageError if no broker has written it."""
    if isinstance(value, str):  # a default that was given to rows of an older format
        return value.encode()
    if isinstance(value, bytes | int):
        return value
    raise StorageError(
        f"{backend.metadata.name} has a malformed row in the table {table}: 'leveret store check --repair'"
        " removes it"
    )


def _copy_rows(source: StorageBackend, target: StorageBackend) -> int:
    """Copy the rows in one transaction; return their number."""
    found = [(table, row) for table, rows in _all_rows(source) for row in rows]
    statements = [copy_row(table, row) for table, row in found]
    # The ids of deleted queues are never given again: the journal may still have records of them.
    newest = source.metadata.next_queue_id() - 1
    if newest:
        vhost = "leveret store copy"  # the row is deleted in the same transaction
        used = {int(row[0]) for table, row in found if table in ("queues", "windows")}
        if newest not in used:
            statements += [add_queue(QueueRow(newest, vhost, "", False, {})), *remove_queue(vhost, "")]
    target.metadata.commit(statements)
    return len(found)


def _compare(source: StorageBackend, target: StorageBackend) -> None:
    """Raise StorageError unless both backends have the same content."""
    names = list(_names(source))
    different = [str(name) for name in set(names) ^ set(_names(target))]
    different += [str(name) for name in names if not _is_same(source, target, name)]
    theirs = dict(_all_rows(target))
    different += [table for table, rows in _all_rows(source) if rows != theirs[table]]
    if source.metadata.next_queue_id() != target.metadata.next_queue_id():
        different.append("the ids of queues")
    if different:
        raise StorageError(f"the copy in {target.path} differs from {source.path}: {', '.join(different)}")


def _is_same(source: StorageBackend, target: StorageBackend, name: PurePath) -> bool:
    one, other = (_joined(_pieces(each.files, each.path / name)) for each in (source, target))
    return all(left == right for left, right in zip(one, other, strict=True))


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of pieces, in pieces of ``PIECE`` bytes but for the last, which may be empty."""
    data = bytearray()
    for piece in pieces:
        data += piece
        while len(data) >= PIECE:
            yield bytes(data[:PIECE])
            del data[:PIECE]
    yield bytes(data)
