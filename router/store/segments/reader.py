"""The hand that reads: brings pages back from the segments, beside whatever is being written.

It keeps no file open, so that the space of a segment that is removed is free at once; to open one costs
little beside a page. It runs in a thread of its own, inline in a test, or offline.
"""

from pathlib import Path

from leveret.router.store.files import Files
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.segments.pages import (
    Page,
    PageError,
    Stored,
    check_page,
    read_entries,
    segment_path,
)
from leveret.router.store.streams.files import Read, ReadStream, read_stream
from leveret.router.store.writer import ReadPage


class Reader:
    """Reads pages of one data directory."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory

    def run(self, job: ReadPage | ReadStream) -> bytes | Read:
        """The bytes of a page, or chunks of a stream. Raises PageError and PieceError when they are damaged,
        OSError when they cannot be read.
        """
        if isinstance(job, ReadStream):
            return read_stream(self._files, self._directory, job)
        path = segment_path(self._directory, job.segment, kept=job.kept)
        data = read_piece(self._files, path, job.length, job.offset)
        check_page(data, job.queue_id)
        return data


def read_stored(files: Files, directory: Path, page: Page) -> list[Stored]:
    """The live messages of a page that a checkpoint tells of, as far as they can be found in it. Raises
    DamageError.
    """
    path = segment_path(directory, page.segment)
    try:
        data = read_piece(files, path, page.length, page.offset)
        check_page(data, page.queue_id)
    except FileNotFoundError:
        raise DamageError(path, page.offset, "the file is missing") from None
    except PageError as error:
        raise DamageError(path, page.offset, str(error)) from None
    return [
        entry._replace(returns=page.returns(entry.position, entry.returns))
        for entry in map(Stored._make, read_entries(page, data))
        if not page.is_settled(entry.position)
    ]


def read_piece(files: Files, path: Path, length: int, offset: int) -> bytes:
    """A piece of a file; less at its end. Raises OSError."""
    length = min(length, max(0, files.size(path) - offset))  # no memory for what is not there
    descriptor = files.open(path)
    try:
        return files.read(descriptor, length, offset)
    finally:
        files.close(descriptor)
