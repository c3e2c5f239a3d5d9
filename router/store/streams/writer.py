"""The writer of stream segments: runs jobs in their order, in parallel with the journal's writer.

Responsible for the open segments. A failed job may be run again unchanged.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from leveret.router.store.files import Files
from leveret.router.store.streams.files import segment_path
from leveret.router.stream.chunk import Chunk

OPEN = 64  # number of segments that stay open


class WriteStream(Struct, frozen=True, eq=False):
    """Write chunks to a segment and sync them; then write to its index.

    ``head`` is the head of a segment to be created, else empty. Head and chunks have ``size`` bytes together.
    The writer joins them and computes the checksums. ``end`` is the offset after the last chunk.
    """

    stream: int
    segment: int
    place: int
    head: bytes
    chunks: Sequence[Chunk]
    size: int
    index: bytes
    index_place: int
    end: int


class RemoveStream(Struct, frozen=True, eq=False):
    """Remove segments of a stream."""

    stream: int
    segments: Sequence[int]


class StreamWriter:
    """Writes the segments of one data directory. Any job may raise OSError."""

    def __init__(self, files: Files, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._open: OrderedDict[Path, int] = OrderedDict()

    def run(self, job: WriteStream | RemoveStream) -> int:
        if isinstance(job, WriteStream):
            self._write(job)
        else:
            for first in job.segments:
                path = segment_path(self._directory, job.stream, first)
                for each in (path, path.with_suffix(".index")):
                    self._close(each)
                    self._files.remove(each)
        return 0

    def close(self) -> None:
        """Close all files: everything is on disk."""
        for path in list(self._open):
            self._close(path)

    def _write(self, job: WriteStream) -> None:
        path = segment_path(self._directory, job.stream, job.segment)
        segment = self._descriptor(path, made=not job.place)
        data = b"".join((job.head, *(piece for chunk in job.chunks for piece in chunk.pieces())))
        self._files.write(segment, data, job.place)
        self._files.sync(segment)
        if job.index:
            index = self._descriptor(path.with_suffix(".index"), made=not job.index_place)
            self._files.write(index, job.index, job.index_place)

    def _descriptor(self, path: Path, *, made: bool) -> int:
        """Return the descriptor of an open file; a new file (``made``) may exist after a failed attempt."""
        descriptor = self._open.get(path)
        if descriptor is not None:
            self._open.move_to_end(path)
            return descriptor
        try:
            descriptor = self._files.open(path)
            if made:
                try:
                    self._files.sync_directory(path.parent)
                except OSError:
                    self._files.close(descriptor)
                    raise
        except FileNotFoundError:
            descriptor = self._files.create(path, 0)
        self._open[path] = descriptor
        while len(self._open) > OPEN:
            self._close(next(iter(self._open)))
        return descriptor

    def _close(self, path: Path) -> None:
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            self._files.close(descriptor)
