"""The reader of segments: reads pages and chunks of streams, in parallel with writing.

Opens, reads and checks files. No file stays open, so that the space of a removed segment is free at once;
opening a file costs little compared with reading a page. Runs in a thread of its own, inline in a test, or
offline.
"""

from pathlib import Path

from leveret.router.store.files import Files
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.segments.pages import (
    PageError,
    StoredMessage,
    StoredPage,
    check_page,
    read_entries,
    segment_path,
)
from leveret.router.store.streams.files import Read, ReadStream, read_stream
from leveret.router.store.writer import ReadPage


class SegmentReader:
    """A reader of pages and stream chunks of one data directory."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory

    def run(self, job: ReadPage | ReadStream) -> bytes | Read:
        """Return the bytes of a page, or chunks of a stream.

        Raises PageError and PieceError for damaged ones, OSError for a failed read.
        """
        if isinstance(job, ReadStream):
            return read_stream(self._files, self._directory, job)
        path = segment_path(self._directory, job.segment, kept=job.kept)
        data = read_piece(self._files, path, job.length, job.offset)
        check_page(data, job.queue_id)
        return data


def read_stored(files: Files, directory: Path, page: StoredPage) -> list[StoredMessage]:
    """Return the live messages of a page that a checkpoint names, as far as they are found. Raises
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
        for entry in map(StoredMessage._make, read_entries(page, data))
        if not page.is_settled(entry.position)
    ]


def read_piece(files: Files, path: Path, length: int, offset: int) -> bytes:
    """Read a piece of a file; it is shorter at the end of the file. Raises OSError."""
    length = min(length, max(0, files.size(path) - offset))  # allocates no memory beyond the end of the file
    descriptor = files.open(path)
    try:
        return files.read(descriptor, length, offset)
    finally:
        files.close(descriptor)
