"""The journal: one write-ahead log for the whole node, in files of bounded size.

Responsible for the format of files and batches, and for writing them. Not for reading (see ``reading``), the
content of a batch (see ``records``) or the removal of files (see ``truncation``).

A file ``<number>.journal`` begins with a header and holds batches, one after the other. After the last
there are zeros, because files are allocated in full when they are created:

    file      >8sQQQ4sI  magic "LVRTJRN2", number, sequence of its first batch, synced, mark, CRC-32 of these
    batch     >4sIQQQ    mark, CRC-32 of all bytes after it, payload bytes, sequence, synced
              ...        the payload, and zeros up to a multiple of 8

One checksum covers all bytes that are written and synced together; it is computed in one call, which does not
delay the broker. The mark is random and unique to the file. So neither older bytes on the disk nor a message
that carries a piece of a journal can be mistaken for a batch.

Batches are numbered from 1. A new file is begun when the previous file is full and synced, or when a write to
it failed: then the new file begins with the failed batch. ``synced`` is the highest sequence that was on
disk when the header or the batch was written.

Reading a file ends where there is no batch with the next sequence. If a later batch of the file, or the
header of a later file, shows that the missing one had been on disk, the file is damaged: that is an error,
with file and offset. Otherwise a crash interrupted a write that was not confirmed, and the rest of it is
ignored.
"""

from collections.abc import Sequence
from contextlib import suppress
from os import urandom
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from leveret.protocol.amqp.message import Frames
from leveret.router.store.files import Files

MAGIC = b"LVRTJRN2"
SUFFIX = ".journal"
JUMP = 1 << 20  # batches that may be missing before a file, if they were not synced

FILE = Struct(">8sQQQ4s")
CRC = Struct(">I")
BATCH_HEADER = Struct(">4sIQQQ")
COVERED = 8  # offset in a batch where the bytes that the CRC covers begin
FILE_HEADER = FILE.size + CRC.size


class DamageError(Exception):
    """A file with damage that no crash can cause; the text says which file, where, and what to do."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{path} is damaged at offset {offset}: {what}. Nothing was changed. 'leveret store check' shows "
            "the whole damage, 'leveret store check --repair' sets the damaged part aside and keeps the rest"
        )
        self.path = path
        self.offset = offset
        self.what = what


class FormatError(Exception):
    """A file in the format of another version of leveret; the text says which file and what to do."""

    def __init__(self, path: Path, found: bytes, known: bytes) -> None:
        super().__init__(
            f"{path} has format {found.decode('ascii', 'replace')} at offset 0, and this leveret knows "
            f"{known.decode()}. Nothing was changed. Use the version that wrote it"
        )
        self.path = path


Parts = Sequence[Frames]  # of a batch
Unsynced = tuple[Parts, int]  # the parts of a batch and its sequence, until they are on disk


class Header(NamedTuple):
    """The header of a file: the sequence of its first batch, the last synced one before, the mark."""

    first: int
    synced: int
    mark: bytes


class Batch(msgspec.Struct, frozen=True):
    """A batch in a file, from ``offset`` to ``end``."""

    path: Path
    offset: int
    end: int
    sequence: int
    synced: int
    payload: bytes


def path_of(directory: Path, number: int) -> Path:
    """Return the path of the journal file with this number."""
    return directory / f"{number:010d}{SUFFIX}"


def numbers(files: Files, directory: Path) -> list[int]:
    """Return the numbers of the existing journal files, in order."""
    stems = (path.stem for path in files.list(directory) if path.suffix == SUFFIX)
    return sorted(int(stem) for stem in stems if stem.isdecimal())


# -- writing ----------------------------------------------------------------------------------------------


def pack_header(number: int, header: Header) -> bytes:
    """Return the bytes of a file header."""
    head = FILE.pack(MAGIC, number, *header)
    return head + CRC.pack(crc32(head))


def pack_batch(mark: bytes, parts: Parts, sequence: int, synced: int) -> bytearray:
    """Return the bytes of a batch with all ``parts`` as its payload."""
    length = sum(map(len, parts))
    end = BATCH_HEADER.size + length
    data = bytearray().join((bytes(BATCH_HEADER.size), *parts, bytes(-end % 8)))
    BATCH_HEADER.pack_into(data, 0, mark, 0, length, sequence, synced)
    CRC.pack_into(data, len(mark), crc32(memoryview(data)[COVERED:end]))
    return data


class JournalFile:
    """The file that batches are written to. Used by one thread at a time."""

    def __init__(
        self, files: Files, directory: Path, *, number: int, first: int, synced: int, size: int
    ) -> None:
        """Create the file, whose first batch will have the sequence ``first``. Raises OSError.

        ``synced`` is the sequence of the last batch on disk in the files before it.
        """
        self.number = number
        self.synced = synced
        self._last = synced  # the next value of ``synced``, once everything written is on disk
        self._size = size
        self.end = FILE_HEADER  # bytes that were written
        self.path = path_of(directory, number)
        self._mark = urandom(4)
        self._files = files
        self._descriptor = files.create(self.path, size)
        try:
            files.write(self._descriptor, pack_header(number, Header(first, synced, self._mark)), 0)
            files.sync(self._descriptor)
        except OSError:
            self._abandon()
            raise

    @property
    def full(self) -> bool:
        """True if the next batch belongs into another file."""
        return self.end >= self._size

    def append(self, parts: Parts, sequence: int, *, sync: bool, before: Sequence[Unsynced] = ()) -> None:
        """Write a batch, and sync it with all before it if ``sync``.

        ``before`` are batches of a file that failed; they are put in front, in the same write. After an
        OSError the state of the file is unknown, and it is closed: everything that was not on disk goes into
        another file.
        """
        data = pack_batch(self._mark, parts, sequence, self.synced)
        if before:  # otherwise it is not copied: the event loop would wait for the copy of a large batch
            earlier = [pack_batch(self._mark, *each, synced=self.synced) for each in before]
            data = bytearray().join((*earlier, data))
        try:
            self._files.write(self._descriptor, data, self.end)
            if sync:
                self._files.sync(self._descriptor)
        except OSError:
            self._abandon()
            raise
        self.end += len(data)
        self._last = sequence
        if sync:
            self.synced = sequence

    def sync(self) -> None:
        """Sync everything that was written; after an OSError the file is closed."""
        if self.synced == self._last:
            return
        try:
            self._files.sync(self._descriptor)
        except OSError:
            self._abandon()
            raise
        self.synced = self._last

    def finish(self, *, seal: bool = False) -> None:
        """Sync everything that was written, and close the file, even if OSError is raised.

        ``seal`` is for a journal that gets no further batches: an empty batch is added, which proves that the
        last one was on disk.
        """
        try:
            self.sync()
            if seal:
                self.append((), self._last + 1, sync=True)
        finally:
            self._close()

    def _abandon(self) -> None:
        """Close the file after a failed write; remove it if it holds no batch."""
        self._close()
        if self.end == FILE_HEADER:
            with suppress(OSError):
                self._files.remove(self.path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
            self._descriptor = -1
