"""The journal: one write-ahead log for the whole node, in files of bounded size.

Owns the framing of batches, the order of files and what a damaged end means. What a batch says is in
``records``; when a file is no longer needed is the store's business.

A file ``<number>.journal`` begins with a header and holds batches, one behind the other. Behind the last
there are zeros, since files are allocated in full when they are made:

    file      >8sQQI    magic "LVRTJRN1", number, sequence of its first batch, CRC-32 of these
    batch     >4sIIQQ   magic "BTCH", payload bytes, CRC-32, sequence, synced
              ...       the payload, and zeros up to a multiple of 8

The CRC covers the head behind it and the payload: one checksum for what is written and synced as one,
computed in one call that does not hold up the broker. Sequences count batches from 1, without a gap over all
files; a file that follows one whose write failed begins again with the batches that are not known to be on
disk. ``synced`` is the highest sequence that was on disk when this batch was written.

Reading a file ends where no batch with the next sequence stands. If a later batch, or the first sequence of
a later file, says that the missing one had been written in full, something was damaged: that is an error,
with file and offset. Otherwise a crash cut off a write that nobody was told of, and it is cut off here too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

from router.store.files import Files

MAGIC = b"LVRTJRN1"
BATCH = b"BTCH"
SUFFIX = ".journal"

_FILE = Struct(">8sQQ")
_CRC = Struct(">I")
_BATCH = Struct(">4sIIQQ")
_COVERED = 12  # where in a batch's head the part begins that the CRC covers
FILE_HEADER = _FILE.size + _CRC.size


class DamageError(Exception):
    """A file is damaged where no crash can have done it; the text says which, where, and what to do."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(
            f"{path} is damaged at offset {offset}: {what}. Nothing was changed. 'leveret store check' shows "
            "the whole damage, 'leveret store check --repair' sets the damaged part aside and keeps the rest"
        )
        self.path = path
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands in a file: from ``offset`` to ``end``."""

    sequence: int
    synced: int
    payload: bytes
    offset: int
    end: int


def path_of(directory: Path, number: int) -> Path:
    """Where the journal file of this number stands."""
    return directory / f"{number:010d}{SUFFIX}"


def numbers(files: Files, directory: Path) -> list[int]:
    """The numbers of the journal files there are, in order."""
    stems = (path.stem for path in files.list(directory) if path.suffix == SUFFIX)
    return sorted(int(stem) for stem in stems if stem.isdigit())


def pack_batch(payload: bytes, sequence: int, synced: int) -> bytes:
    """A batch's bytes."""
    head = _BATCH.pack(BATCH, len(payload), 0, sequence, synced)
    crc = crc32(payload, crc32(head[_COVERED:]))
    padding = -(len(head) + len(payload)) % 8
    return b"".join((head[:8], _CRC.pack(crc), head[_COVERED:], payload, bytes(padding)))


class JournalFile:
    """The file that batches are written to. Used by one thread at a time."""

    def __init__(self, files: Files, directory: Path, number: int, first: int, size: int) -> None:
        """Make the file, whose first batch has the sequence ``first``. Raises OSError."""
        self.number = number
        self.size = size
        self.end = FILE_HEADER
        self._files = files
        self._descriptor = files.create(path_of(directory, number), size)
        head = _FILE.pack(MAGIC, number, first)
        try:
            files.write(self._descriptor, head + _CRC.pack(crc32(head)), 0)
            files.sync(self._descriptor)
        except OSError:
            files.close(self._descriptor)
            files.remove(path_of(directory, number))
            raise

    @property
    def full(self) -> bool:
        """Whether the next batch belongs into another file."""
        return self.end >= self.size

    def append(self, payload: bytes, sequence: int, synced: int, *, sync: bool) -> None:
        """Write a batch, and have it on disk if ``sync``.

        After an OSError nothing may be assumed of it, nor of this file.
        """
        data = pack_batch(payload, sequence, synced)
        self._files.write(self._descriptor, data, self.end)
        if sync:
            self._files.sync(self._descriptor)
        self.end += len(data)

    def close(self) -> None:
        self._files.close(self._descriptor)


def read_file(files: Files, directory: Path, number: int) -> tuple[int, bytes]:
    """The sequence of a file's first batch, and the whole of its bytes.

    The sequence is 0 for a file that was made by a broker that was cut off before it wrote the header. Raises
    DamageError when there is another header than there should be.
    """
    path = path_of(directory, number)
    descriptor = files.open(path)
    try:
        pieces = []
        offset = 0
        while piece := files.read(descriptor, 1 << 22, offset):
            pieces.append(piece)
            offset += len(piece)
    finally:
        files.close(descriptor)
    data = b"".join(pieces)
    if len(data) < FILE_HEADER or not any(data[:FILE_HEADER]):
        if any(data):
            raise DamageError(path, 0, "the file header is missing")
        return 0, data
    magic, told, first = _FILE.unpack_from(data)
    if _CRC.unpack_from(data, _FILE.size)[0] != crc32(data[: _FILE.size]) or magic != MAGIC or told != number:
        raise DamageError(path, 0, "the file header is wrong")
    return first, data


def batches(data: bytes, expected: int) -> Iterator[Batch]:
    """The whole batches of a file's bytes, the first with sequence ``expected``."""
    offset = FILE_HEADER
    while (batch := batch_at(data, offset)) is not None and batch.sequence == expected:
        yield batch
        expected += 1
        offset = batch.end


def find_later(data: bytes, offset: int, missing: int) -> Batch | None:
    """A whole batch behind ``offset`` that was written when batch ``missing`` was on disk already."""
    while (offset := data.find(BATCH, offset)) >= 0:
        batch = batch_at(data, offset)
        if batch is not None and batch.synced >= missing:
            return batch
        offset += 1
    return None


def batch_at(data: bytes, offset: int) -> Batch | None:
    """The batch that stands whole at an offset; None when none does."""
    if not data.startswith(BATCH, offset) or offset + _BATCH.size > len(data):
        return None
    _, length, crc, sequence, synced = _BATCH.unpack_from(data, offset)
    start = offset + _BATCH.size
    end = start + length
    if end > len(data) or crc32(data[start:end], crc32(data[offset + _COVERED : start])) != crc:
        return None
    return Batch(sequence, synced, data[start:end], offset, end + -(end - offset) % 8)
