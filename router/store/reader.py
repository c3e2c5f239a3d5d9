"""The hand that reads: brings pages back from the segments, beside whatever is being written.

It keeps no file open, so that the space of a segment that is removed is free at once; to open one costs
little beside a page. It runs in a thread of its own, or inline in a test.
"""

from pathlib import Path

from router.store.files import Files
from router.store.pages import check_page, segment_path
from router.store.writer import ReadPage


class Reader:
    """Reads pages of one data directory."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory

    def run(self, job: ReadPage) -> bytes:
        """The bytes of a page. Raises PageError when they are damaged, OSError when they cannot be read."""
        descriptor = self._files.open(segment_path(self._directory, job.segment, kept=job.kept))
        try:
            data = self._files.read(descriptor, job.length, job.offset)
        finally:
            self._files.close(descriptor)
        check_page(data, job.queue_id)
        return data
