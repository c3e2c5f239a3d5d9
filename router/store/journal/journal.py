"""The journal: one write-ahead log for the whole node, in files of bounded size.

Owns the framing of batches, the order of files, and what is damage and what a torn end. What a batch says is
in ``records``; when a file is no longer needed is the store's business.

A file ``<number>.journal`` begins with a header and holds batches, one behind the other. Behind the last
there are zeros, since files are allocated in full when they are made:

    file      >8sQQQ4sI  magic "LVRTJRN2", number, sequence of its first batch, synced, mark, CRC-32 of these
    batch     >4sIQQQ    mark, CRC-32 of all behind it, payload bytes, sequence, synced
              ...        the payload, and zeros up to a multiple of 8

There is one checksum for what is written and synced as one, computed in one call that does not hold up the
broker. The mark is random and the file's own, so that neither what stood on the disk before nor a message
that carries a piece of a journal can be taken for a batch.

Batches are numbered from 1. A file is begun when the one before it is full and synced, or when a write to
that one failed: then it begins again with the batch that failed. ``synced`` is the highest sequence that was
on disk when the header or the batch was written.

Reading a file ends where no batch with the next sequence stands. If a later batch of the file, or the header
of a later file, says that the missing one had been on disk, something was damaged: that is an error, with
file and offset. Otherwise a crash cut off what nobody was told of, and it is left out.
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
_COVERED = 8  # where in a batch the part begins that the CRC covers
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
        self.what = what


class FormatError(Exception):
    """A file is of a format that another version of leveret writes; the text says which and what to do."""

    def __init__(self, path: Path, found: bytes, known: bytes) -> None:
        super().__init__(
            f"{path} has format {found.decode('ascii', 'replace')} at offset 0, and this leveret knows "
            f"{known.decode()}. Nothing was changed. Use the version that wrote it"
        )
        self.path = path


Unsynced = tuple[Sequence[bytes], int]  # the parts of a batch and its sequence, until they are on disk


class Header(NamedTuple):
    """What a file says of itself: the sequence of its first batch, what was on disk by then, its mark."""

    first: int
    synced: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it stands in a file: from ``offset`` to ``end``."""

    path: Path
    offset: int
    end: int
    sequence: int
    synced: int
    payload: bytes


def path_of(directory: Path, number: int) -> Path:
    """Where the journal file of this number stands."""
    return directory / f"{number:010d}{SUFFIX}"


def numbers(files: Files, directory: Path) -> list[int]:
    """The numbers of the journal files there are, in order."""
    stems = (path.stem for path in files.list(directory) if path.suffix == SUFFIX)
    return sorted(int(stem) for stem in stems if stem.isdecimal())


# -- writing ----------------------------------------------------------------------------------------------


def pack_header(number: int, header: Header) -> bytes:
    """A file header's bytes."""
    head = _FILE.pack(MAGIC, number, *header)
    return head + _CRC.pack(crc32(head))


def pack_batch(mark: bytes, parts: Sequence[bytes], sequence: int, synced: int) -> bytearray:
    """A batch's bytes, whose payload is all ``parts``."""
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
        """Make the file, whose first batch will have the sequence ``first``. Raises OSError.

        ``synced`` is the sequence of the last batch that is on disk in the files before it.
        """
        self.number = number
        self.synced = synced
        self._last = synced  # what ``synced`` will be when all that was written is on disk
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
        """Whether the next batch belongs into another file."""
        return self.end >= self._size

    def append(
        self, parts: Sequence[bytes], sequence: int, *, sync: bool, before: Sequence[Unsynced] = ()
    ) -> None:
        """Write a batch, and have it on disk, with all before it, if ``sync``.

        ``before`` are batches that go with it in the same write: those of a file that failed. After an
        OSError nothing may be assumed of it, and the file is closed: what was not on disk goes into another
        one.
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
        """Have everything that was written on disk; after an OSError the file is closed."""
        if self.synced == self._last:
            return
        try:
            self._files.sync(self._descriptor)
        except OSError:
            self._abandon()
            raise
        self.synced = self._last

    def finish(self, *, seal: bool = False) -> None:
        """Have everything that was written on disk, and close the file, also when OSError is raised.

        ``seal`` is for a journal that is left like this: one batch more, an empty one, tells that the last
        was on disk.
        """
        try:
            self.sync()
            if seal:
                self.append((), self._last + 1, sync=True)
        finally:
            self._close()

    def _abandon(self) -> None:
        """Close the file, since writing failed; and remove it if not one batch was written."""
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
    """Reads the files from ``number`` on, which hold what comes from the batch ``sequence`` on.

    While it is iterated over, ``sequence`` grows to that of the batch which is to be written next, ``cut``
    gathers what was left out, and ``corrected`` what headers say that cannot be, both in words for the log.
    ``numbers`` are the files there are, ``begun`` says whether any of them has a header.
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
        """All batches, in the order they were written; one whose write failed at first may come again.

        What was read is on disk, however far the process came that wrote it. Raises DamageError and OSError.
        """
        if self._number > 1 and self._number not in self.numbers:
            raise DamageError(*self._end, "the file is missing")
        for number in self.numbers:
            yield from self._read(number)

    def must_reach(self, sequence: int) -> None:
        """DamageError when a batch that was on disk when the broker stopped is not among those read."""
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
            self.cut.append(f"{path}: the file was made and not begun")
            return
        self.begun = True
        if header.synced >= self.sequence:
            told = f"which was on disk when {path.name} was begun"
            raise DamageError(*self._end, f"batch {self.sequence} is gone, {told}")
        if header.first > self.sequence:
            missing = f"batches {self.sequence} to {header.first - 1}"
            self.cut.append(f"{path}: {missing} are gone, which had not been synced before it was begun")
        expected, end = header.first, FILE_HEADER
        for batch in batches(path, data, header, self._correct):
            yield batch
            expected, end = batch.sequence + 1, batch.end
        later = find_later(path, data, end, header.mark, expected)
        if later is not None:
            told = f"which was on disk when batch {later.sequence} was written"
            raise DamageError(path, end, f"batch {expected} is gone, {told}")
        if not _is_zero(data, end):
            self.cut.append(f"{path}: a write that was cut off at {end} is left out; nobody was told of it")
        self.sequence = max(self.sequence, expected)
        self._end = path, end

    def _correct(self, path: Path, offset: int, what: str) -> None:
        self.corrected.append(f"{path}, offset {offset}: {what}")

    def _load(self, path: Path) -> bytes:
        """A file's bytes, which are synced first: whoever wrote them may have been killed before that, and
        what is done next builds on them.
        """
        descriptor = self._files.open(path)
        try:
            self._files.sync(descriptor)
            return read_whole(self._files, descriptor)
        finally:
            self._files.close(descriptor)


Correct = Callable[[Path, int, str], None]  # what stands at an offset of a file cannot be, in words


def not_told(path: Path, offset: int, what: str) -> None:
    """Nobody is told."""


def read_header(
    path: Path, number: int, data: bytes, expected: int = 0, correct: Correct = not_told
) -> Header | None:
    """The header of a file; None if the broker was cut off before it was written.

    ``expected`` is the sequence of the next batch (0: unknown). A header with a right checksum that
    contradicts the first batch behind it gives way to that, and ``correct`` is told.

    Raises DamageError when there is another header than there should be, or none before batches; and
    FormatError when another version wrote it.
    """
    if len(data) >= FILE_HEADER:
        magic, told, first, synced, mark = _FILE.unpack_from(data)
        crc = _CRC.unpack_from(data, _FILE.size)[0]
        # A magic that only was changed on the disk does not make it another format, which knows its own CRC.
        if is_other_format(magic, MAGIC) and crc != crc32(MAGIC + data[len(MAGIC) : _FILE.size]):
            raise FormatError(path, magic, MAGIC)
        if crc == crc32(data[: _FILE.size]):
            header = Header(first, synced, mark)
            right = _corrected(path, data, header, expected)
            if magic != MAGIC or (told != number and right.first != expected):
                raise DamageError(path, 0, f"it is file {told} of format {magic!r}")
            if told != number:
                correct(path, 0, f"the header is of file {told}")
            if right != header:
                correct(path, 0, f"the header says {_shown(header)}, and the batches {_shown(right)}")
            return right
    if _is_zero(data, FILE_HEADER):  # the header is synced before the first batch is written
        return None
    raise DamageError(path, 0, "the file header is damaged")


def _any_batch(path: Path, data: bytes, mark: bytes) -> bool:
    """Whether a whole batch with this mark stands anywhere in a file."""
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
        # Files are made of zeros: no other file's batch can stand there.
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
    """Whether it is the magic of our kind of file in another version: they differ in the last digit."""
    return magic[:-1] == known[:-1] and magic != known and magic[-1:].isdigit()


def batches(path: Path, data: bytes, header: Header, correct: Correct = not_told) -> Iterator[Batch]:
    """The whole batches of a file's bytes, from the first on, without a gap."""
    expected, offset = header.first, FILE_HEADER
    while (batch := next_batch(path, data, offset, header.mark, expected, correct)) is not None:
        yield batch
        expected += 1
        offset = batch.end


def next_batch(  # noqa: PLR0917 - a place in a file, and what stands there
    path: Path, data: bytes, offset: int, mark: bytes, expected: int, correct: Correct = not_told
) -> Batch | None:
    """The batch ``expected`` if it stands whole at an offset where the one before it ends.

    Nothing can be missing between the two. A batch that says another sequence is therefore this one, unless
    it says that batch ``expected`` had been on disk before; ``correct`` is told.
    """
    batch = batch_at(path, data, offset, mark)
    if batch is None or batch.sequence == expected:
        return batch
    if expected <= batch.synced < batch.sequence:
        return None
    correct(path, offset, f"batch {expected} says that it is batch {batch.sequence}")
    return replace(batch, sequence=expected, synced=min(batch.synced, expected - 1))


def find_later(path: Path, data: bytes, offset: int, mark: bytes, missing: int) -> Batch | None:
    """A whole batch behind ``offset`` that was written when batch ``missing`` was on disk already."""
    while (offset := data.find(mark, offset)) >= 0:
        batch = batch_at(path, data, offset, mark)
        if batch is not None and missing <= batch.synced < batch.sequence:
            return batch
        offset += 1
    return None


def batch_at(path: Path, data: bytes, offset: int, mark: bytes) -> Batch | None:
    """The batch that stands whole at an offset; None when none does."""
    start = offset + _BATCH.size
    if start > len(data) or not data.startswith(mark, offset):
        return None
    _, crc, length, sequence, synced = _BATCH.unpack_from(data, offset)
    end = start + length
    if end > len(data) or crc32(memoryview(data)[offset + _COVERED : end]) != crc:
        return None
    return Batch(path, offset, end + -end % 8, sequence, synced, data[start:end])


def _is_zero(data: bytes, offset: int) -> bool:
    """Whether nothing but zeros, or nothing at all, stands from ``offset`` on."""
    return data.count(0, offset) == max(0, len(data) - offset)
