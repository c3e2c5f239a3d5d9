"""The journal: one write-ahead log for the whole node, in files of bounded size.

Responsible for the framing of batches, the order of files, and the distinction between damage and a torn end.
Not for the content of a batch (see ``records``), nor for the removal of files (see ``truncation``).

A file ``<number>.journal`` begins with a header and holds batches, one behind the other. Behind the last
there are zeros, because files are allocated in full when they are created:

    file      >8sQQQ4sI  magic "LVRTJRN2", number, sequence of its first batch, synced, mark, CRC-32 of these
    batch     >4sIQQQ    mark, CRC-32 of all behind it, payload bytes, sequence, synced
              ...        the payload, and zeros up to a multiple of 8

There is one checksum for the bytes that are written and synced together, computed in one call that does not
hold up the broker. The mark is random and unique to the file, so that neither older bytes on the disk nor a
message that carries a piece of a journal can be mistaken for a batch.

Batches are numbered from 1. A file is begun when the one before it is full and synced, or when a write to
that one failed: then it begins again with the failed batch. ``synced`` is the highest sequence that was on
disk when the header or the batch was written.

Reading a file ends where there is no batch with the next sequence. If a later batch of the file, or the
header of a later file, shows that the missing one had been on disk, the file is damaged: that is an error,
with file and offset. Otherwise a crash interrupted a write that was not confirmed, and the rest of it is
ignored.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import urandom
from pathlib import Path
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from leveret.router.store.files import Files, read_whole

MAGIC = b"LVRTJRN2"
SUFFIX = ".journal"
JUMP = 1 << 20  # batches that may be missing before a file, if they were not synced

_FILE = Struct(">8sQQQ4s")
_CRC = Struct(">I")
_BATCH = Struct(">4sIQQQ")
_COVERED = 8  # offset in a batch where the bytes that the CRC covers begin
FILE_HEADER = _FILE.size + _CRC.size


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


Unsynced = tuple[Sequence[bytes], int]  # the parts of a batch and its sequence, until they are on disk


class Header(NamedTuple):
    """The header of a file: the sequence of its first batch, the last synced sequence by then, its mark."""

    first: int
    synced: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class Batch:
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
    head = _FILE.pack(MAGIC, number, *header)
    return head + _CRC.pack(crc32(head))


def pack_batch(mark: bytes, parts: Sequence[bytes], sequence: int, synced: int) -> bytearray:
    """Return the bytes of a batch with all ``parts`` as its payload."""
    length = sum(map(len, parts))
    end = _BATCH.size + length
    data = bytearray().join((bytes(_BATCH.size), *parts, bytes(-end % 8)))
    _BATCH.pack_into(data, 0, mark, 0, length, sequence, synced)
    _CRC.pack_into(data, len(mark), crc32(memoryview(data)[_COVERED:end]))
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

    def append(
        self, parts: Sequence[bytes], sequence: int, *, sync: bool, before: Sequence[Unsynced] = ()
    ) -> None:
        """Write a batch, and sync it with all before it if ``sync``.

        ``before`` are batches of a file that failed; they are put in front, in the same write. After an
        OSError the state of the file is unknown, and it is closed: everything that was not on disk goes into
        another file.
        """
        data = bytearray().join(pack_batch(self._mark, *each, synced=self.synced) for each in before)
        data += pack_batch(self._mark, parts, sequence, self.synced)
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

        ``seal`` is for a journal that is left like this: another, empty batch proves that the last one was on
        disk.
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


# -- reading ----------------------------------------------------------------------------------------------


class Journal:
    """A reader of the files from ``number`` on, which hold the batches from ``sequence`` on.

    During iteration ``sequence`` grows to that of the next batch to write, ``cut`` collects descriptions of
    ignored ends, and ``corrected`` descriptions of impossible header values, for the log. ``numbers`` are the
    existing files; ``begun`` is True if any of them has a header.
    """

    def __init__(self, files: Files, directory: Path, number: int, sequence: int) -> None:
        self.sequence = sequence
        self.numbers = [each for each in numbers(files, directory) if each >= number]
        self.cut: list[str] = []
        self.corrected: list[str] = []
        self.begun = False
        self._number = number
        self._files = files
        self._directory = directory
        self._end = (path_of(directory, number), 0)  # where the last batch that was read ends

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches in the order of writing; a batch whose first write failed may be repeated.

        Every yielded batch is on disk, even if its writer was killed before it synced. Raises DamageError and
        OSError.
        """
        if self._number > 1 and self._number not in self.numbers:
            raise DamageError(*self._end, "the file is missing")
        for number in self.numbers:
            yield from self._read(number)

    def must_reach(self, sequence: int) -> None:
        """Raise DamageError if a batch that was on disk when the broker stopped was not read."""
        if self.sequence <= sequence:
            raise DamageError(
                *self._end, f"batch {self.sequence} is gone, which was on disk when the broker stopped"
            )

    def _read(self, number: int) -> Iterator[Batch]:
        path = path_of(self._directory, number)
        data = self._load(path)
        header = read_header(path, number, data, self.sequence, self._correct)
        if header is None:
            if number == self._number > 1:
                raise DamageError(path, 0, "the file header is gone")
            self.cut.append(f"{path}: the file was created and never written")
            return
        self.begun = True
        if header.synced >= self.sequence:
            proof = f"which was on disk when {path.name} was begun"
            raise DamageError(*self._end, f"batch {self.sequence} is gone, {proof}")
        if header.first > self.sequence:
            missing = f"batches {self.sequence} to {header.first - 1}"
            self.cut.append(f"{path}: {missing} are gone, which had not been synced before it was begun")
        expected, end = header.first, FILE_HEADER
        for batch in batches(path, data, header, self._correct):
            yield batch
            expected, end = batch.sequence + 1, batch.end
        later = find_later(path, data, end, header.mark, expected)
        if later is not None:
            proof = f"which was on disk when batch {later.sequence} was written"
            raise DamageError(path, end, f"batch {expected} is gone, {proof}")
        if not _is_zero(data, end):
            self.cut.append(f"{path}: an interrupted write at {end} is ignored; it was not confirmed")
        self.sequence = max(self.sequence, expected)
        self._end = path, end

    def _correct(self, path: Path, offset: int, what: str) -> None:
        self.corrected.append(f"{path}, offset {offset}: {what}")

    def _load(self, path: Path) -> bytes:
        """Sync and read a file: its writer may have been killed before it synced, and later writes depend on
        it.
        """
        descriptor = self._files.open(path)
        try:
            self._files.sync(descriptor)
            return read_whole(self._files, descriptor)
        finally:
            self._files.close(descriptor)


# Called with a file, an offset and a description of the impossible value there
Correct = Callable[[Path, int, str], None]


def ignore_corrections(path: Path, offset: int, what: str) -> None:
    """Ignore an impossible value; a ``Correct``."""


def read_header(
    path: Path, number: int, data: bytes, expected: int = 0, correct: Correct = ignore_corrections
) -> Header | None:
    """Return the header of a file; None if the broker was interrupted before it was written.

    ``expected`` is the sequence of the next batch (0: unknown). If a header with a right checksum contradicts
    the first batch behind it, the batch counts, and ``correct`` is called. Raises DamageError for a header
    that cannot be here, or for a missing one before batches, and FormatError if another version wrote it.
    """
    if len(data) >= FILE_HEADER:
        magic, stated, first, synced, mark = _FILE.unpack_from(data)
        crc = _CRC.unpack_from(data, _FILE.size)[0]
        # A magic that was only changed on the disk is not another format, which would have a CRC of its own.
        if is_other_format(magic, MAGIC) and crc != crc32(MAGIC + data[len(MAGIC) : _FILE.size]):
            raise FormatError(path, magic, MAGIC)
        if crc == crc32(data[: _FILE.size]):
            header = Header(first, synced, mark)
            right = _corrected(path, data, header, expected)
            if magic != MAGIC or (stated != number and right.first != expected):
                raise DamageError(path, 0, f"it is file {stated} of format {magic!r}")
            if stated != number:
                correct(path, 0, f"the header is of file {stated}")
            if right != header:
                correct(path, 0, f"the header says {_shown(header)}, and the batches {_shown(right)}")
            return right
    if _is_zero(data, FILE_HEADER):  # the header is synced before the first batch is written
        return None
    raise DamageError(path, 0, "the file header is damaged")


def _any_batch(path: Path, data: bytes, mark: bytes) -> bool:
    """Return True if a file has a whole batch with this mark anywhere."""
    offset = FILE_HEADER - 1
    while (offset := data.find(mark, offset + 1)) >= 0:
        if batch_at(path, data, offset, mark) is not None:
            return True
    return False


def _shown(header: Header) -> str:
    return f"first {header.first}, synced {header.synced}, mark {header.mark.hex()}"


def _corrected(path: Path, data: bytes, header: Header, expected: int) -> Header:
    """Return a header without what its first batches contradict, or what no broker writes."""
    first, synced, mark = header
    batch = batch_at(path, data, FILE_HEADER, mark)
    if batch is None and not _any_batch(path, data, mark):
        # Files are created with zeros: no other file's batch can be there.
        other = data[FILE_HEADER : FILE_HEADER + len(mark)]
        batch = batch_at(path, data, FILE_HEADER, other) if any(other) else None
        mark = mark if batch is None else other
    if batch is not None and batch.sequence != first:
        second = batch_at(path, data, batch.end, mark)
        sure = {expected, second.sequence - 1 if second is not None else expected}
        if batch.sequence in sure and first not in sure - {expected}:
            first = batch.sequence
    elif batch is None and expected and first > expected + JUMP:
        first = expected
    return Header(first, min(synced, max(first - 1, 0)), mark)


def is_other_format(magic: bytes, known: bytes) -> bool:
    """Return True for the magic of this kind of file in another version: only the last digit differs."""
    return magic[:-1] == known[:-1] and magic != known and magic[-1:].isdigit()


def batches(
    path: Path, data: bytes, header: Header, correct: Correct = ignore_corrections
) -> Iterator[Batch]:
    """Yield the whole batches of a file's bytes, from the first on, without a gap."""
    expected, offset = header.first, FILE_HEADER
    while (batch := next_batch(path, data, offset, header.mark, expected, correct)) is not None:
        yield batch
        expected += 1
        offset = batch.end


def next_batch(  # noqa: PLR0917 - a place in a file, and what stands there
    path: Path, data: bytes, offset: int, mark: bytes, expected: int, correct: Correct = ignore_corrections
) -> Batch | None:
    """Return batch ``expected`` if it is whole at an offset where the one before it ends.

    Nothing can be missing between the two. So a batch with another sequence is this one, unless it shows that
    batch ``expected`` had been on disk before; ``correct`` is called.
    """
    batch = batch_at(path, data, offset, mark)
    if batch is None or batch.sequence == expected:
        return batch
    if expected <= batch.synced < batch.sequence:
        return None
    correct(path, offset, f"batch {expected} says that it is batch {batch.sequence}")
    return replace(batch, sequence=expected, synced=min(batch.synced, expected - 1))


def find_later(path: Path, data: bytes, offset: int, mark: bytes, missing: int) -> Batch | None:
    """Return a whole batch behind ``offset`` that was written after batch ``missing`` had been synced."""
    while (offset := data.find(mark, offset)) >= 0:
        batch = batch_at(path, data, offset, mark)
        if batch is not None and missing <= batch.synced < batch.sequence:
            return batch
        offset += 1
    return None


def batch_at(path: Path, data: bytes, offset: int, mark: bytes) -> Batch | None:
    """Return the whole batch at an offset; None if there is none."""
    start = offset + _BATCH.size
    if start > len(data) or not data.startswith(mark, offset):
        return None
    _, crc, length, sequence, synced = _BATCH.unpack_from(data, offset)
    end = start + length
    if end > len(data) or crc32(memoryview(data)[offset + _COVERED : end]) != crc:
        return None
    return Batch(path, offset, end + -end % 8, sequence, synced, data[start:end])


def _is_zero(data: bytes, offset: int) -> bool:
    """Return True if there are only zeros, or no bytes, from ``offset`` on."""
    return data.count(0, offset) == max(0, len(data) - offset)
