"""Reading of the journal: batches in order, torn ends, and damage.

Responsible for the distinction between an interrupted write and damage, see ``journal``. Not for the content
of batches (see ``records``) or for the repair of files (see ``salvage``).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

from msgspec.structs import replace

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal.journal import (
    BATCH_HEADER,
    COVERED,
    CRC,
    FILE,
    FILE_HEADER,
    JUMP,
    MAGIC,
    Batch,
    DamageError,
    FormatError,
    Header,
    numbers,
    path_of,
)


class Journal:
    """A reader of the files from ``number`` on, which hold the batches from ``sequence`` on.

    Iteration sets ``sequence`` to the sequence of the next batch to write. It collects descriptions for the
    log: of ignored ends of files in ``cut``, of impossible header values in ``corrected``. ``numbers`` are
    the existing files; ``begun`` is True if any of them has a header.
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

    ``expected`` is the sequence that the first batch should have (0: unknown). A header with a valid checksum
    may still have wrong values. If the first batches show that, the values are corrected and ``correct`` is
    called.

    Raises DamageError for the header of another file and for batches without a header, FormatError if another
    version wrote the file.
    """
    if len(data) >= FILE_HEADER:
        magic, stated, first, synced, mark = FILE.unpack_from(data)
        crc = CRC.unpack_from(data, FILE.size)[0]
        # If the CRC is right for this version's magic, the magic was damaged: another format has another CRC.
        if is_other_format(magic, MAGIC) and crc != crc32(MAGIC + data[len(MAGIC) : FILE.size]):
            raise FormatError(path, magic, MAGIC)
        if crc == crc32(data[: FILE.size]):
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
    """Return the header, with values corrected that contradict the first batches or are impossible."""
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
    """Return batch ``expected`` if there is a whole batch at ``offset``, where the previous one ends.

    Batches of a file have consecutive sequences. If the batch at ``offset`` has another sequence, that number
    is wrong: ``correct`` is called, and the batch is returned with the sequence ``expected``. But if its
    ``synced`` shows that batch ``expected`` had been on disk, it is missing, and None is returned.
    """
    batch = batch_at(path, data, offset, mark)
    if batch is None or batch.sequence == expected:
        return batch
    if expected <= batch.synced < batch.sequence:
        return None
    correct(path, offset, f"batch {expected} says that it is batch {batch.sequence}")
    return replace(batch, sequence=expected, synced=min(batch.synced, expected - 1))


def find_later(path: Path, data: bytes, offset: int, mark: bytes, missing: int) -> Batch | None:
    """Return a whole batch after ``offset`` that was written after batch ``missing`` had been synced."""
    while (offset := data.find(mark, offset)) >= 0:
        batch = batch_at(path, data, offset, mark)
        if batch is not None and missing <= batch.synced < batch.sequence:
            return batch
        offset += 1
    return None


def batch_at(path: Path, data: bytes, offset: int, mark: bytes) -> Batch | None:
    """Return the whole batch at an offset; None if there is none."""
    start = offset + BATCH_HEADER.size
    if start > len(data) or not data.startswith(mark, offset):
        return None
    _, crc, length, sequence, synced = BATCH_HEADER.unpack_from(data, offset)
    end = start + length
    if end > len(data) or crc32(memoryview(data)[offset + COVERED : end]) != crc:
        return None
    return Batch(path, offset, end + -end % 8, sequence, synced, data[start:end])


def _is_zero(data: bytes, offset: int) -> bool:
    """Return True if there are only zeros, or no bytes, from ``offset`` on."""
    return data.count(0, offset) == max(0, len(data) - offset)
