"""The writer: runs the store's write jobs on one data directory, one after the other.

Responsible for the open journal file, the open segments and the sequence of the last synced batch. It runs in
a thread of its own, or inline in a test. ``store`` makes the jobs, which contain all data to write; for
reading see ``segments/reader``. A failed job may be run again unchanged, including its finished parts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from leveret.protocol.amqp.message import Frames
from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME, Checkpoint, pack_checkpoint
from leveret.router.store.journal.journal import JournalFile, Unsynced, numbers, path_of
from leveret.router.store.metadata.reading import StoredMetadata
from leveret.router.store.metadata.statements import Statement
from leveret.router.store.segments.pages import PageParts, segment_path
from leveret.router.store.streams.files import Read, ReadStream
from leveret.router.store.streams.writer import RemoveStream, WriteStream
from leveret.router.store.unpackable_files import Aside, write_aside


class Commit(Struct, frozen=True):
    """Run the statements, then write a batch, and sync it if ``sync``; without parts there is no batch.

    Sequences follow one another, without a gap between batches. ``aside`` holds records that could not be
    packed: names and content of files that are put on disk before anything else.
    """

    statements: Sequence[Statement]
    parts: Sequence[Frames]
    sequence: int
    sync: bool
    aside: Sequence[Aside] = ()


class Sync(Struct, frozen=True):
    """Sync every batch that was written without a sync."""


class WritePages(Struct, frozen=True, eq=False):
    """Write pages to a segment file, which is created if it is missing, and sync them if ``sync``.

    A checkpoint may name only pages that were synced.
    """

    segment: int
    pieces: Sequence[tuple[int, bytes | bytearray | PageParts]]  # offset, page
    sync: bool
    kept: bool = True


class ReadPage(Struct, frozen=True, eq=False):
    """Read a page and check it. Run by a ``SegmentReader``, in parallel with writing."""

    kept: bool
    segment: int
    offset: int
    length: int
    queue_id: int


class SaveCheckpoint(Struct, frozen=True):
    """Replace the checkpoint, then remove the files that only the last one needed."""

    checkpoint: Checkpoint
    segments: Sequence[int]  # to remove


class RemoveSegments(Struct, frozen=True):
    """Remove segment files that no checkpoint names."""

    segments: Sequence[int]
    kept: bool = True


Job = (
    Commit
    | Sync
    | WritePages
    | SaveCheckpoint
    | RemoveSegments
    | ReadPage
    | ReadStream
    | WriteStream
    | RemoveStream
)
Result = int | bytes | Read  # of a job


class Disk(Protocol):
    """Runs jobs of the store on a ``Writer``, a ``StreamWriter`` and a ``SegmentReader``."""

    def submit(self, job: Job) -> None:
        """Run a job after all earlier ones, or in parallel if it reads; then call ``Store.done``."""


class Writer:
    """Runs jobs on one data directory. Any job may raise OSError or sqlite3.Error."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        metadata: StoredMetadata,
        *,
        next_journal: int,
        synced: int,
        journal_size: int,
    ) -> None:
        """``next_journal`` is the number of the next journal file to create, of ``journal_size`` bytes.

        ``synced`` is the sequence of the last batch on disk.
        """
        self._files = files
        self._directory = directory
        self._metadata = metadata
        self._journal: JournalFile | None = None
        self._next_journal = next_journal
        self._journal_size = journal_size
        self._synced = synced
        # Written and not on disk: at most the content of one journal file
        self._unsynced: list[Unsynced] = []
        # Number and descriptor of the open segments, by kind
        self._segments: dict[bool, tuple[int, int]] = {}

    @property
    def synced(self) -> int:
        """The sequence of the last batch on disk."""
        return self._synced

    def run(self, job: Job) -> int:
        """Run a job; for a commit, return the number of the journal file that its batch was written to."""
        match job:
            case Commit():
                return self._commit(job)
            case Sync():
                self._sync()
            case WritePages():
                self._write_pages(job)
            case SaveCheckpoint():
                self._save_checkpoint(job)
            case RemoveSegments():
                self._remove_segments(job.segments, kept=job.kept)
            case ReadPage():
                raise TypeError("reading is a Reader's job")
        return 0

    def growing(self) -> dict[Path, int]:
        """Return the files that are still written to, with their bytes. Other files never change."""
        lengths = {}
        if self._journal is not None:
            lengths[self._journal.path] = self._journal.end
        if True in self._segments:
            path = segment_path(self._directory, self._segments[True][0], kept=True)
            lengths[path] = self._files.size(path)
        return lengths

    def close(self) -> None:
        """Sync and close everything. Everything is closed even if OSError is raised."""
        for kept in list(self._segments):
            self._close_segment(kept=kept)
        try:
            self._sync()
            self._finish_journal(seal=True)
        finally:
            self._metadata.close()

    def _commit(self, job: Commit) -> int:
        # In this order, so that no record ever names a queue that was not stored.
        if job.aside:
            write_aside(self._files, self._directory, job.aside)
        if job.statements:
            self._metadata.commit(job.statements, with_batch=bool(job.parts) and job.sync)
        if not job.parts:
            return 0
        if self._journal is not None and self._journal.full:
            self._finish_journal()
        return self._append((job.parts, job.sequence), sync=job.sync)

    def _append(self, batch: Unsynced, *, sync: bool) -> int:
        """Write a batch; return the number of the file.

        If writing to the last file failed, its content is unknown. The next file then begins with all batches
        that were not on disk, and is synced even if the job does not request it.
        """
        journal, self._journal = self._journal, None  # none is open if this fails
        if journal is not None:
            journal.append(*batch, sync=sync)
        else:
            again = self._unsynced
            journal = self._make_journal((again or [batch])[0][1])
            journal.append(*batch, sync=sync or bool(again), before=again)
        if journal.synced == batch[1]:
            self._unsynced = []
        else:
            self._unsynced.append(batch)
        self._synced = journal.synced
        self._journal = journal
        return journal.number

    def _sync(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.sync()
            self._synced = journal.synced
            self._unsynced = []
            self._journal = journal
        elif self._unsynced:
            batch = self._unsynced.pop()
            try:
                self._append(batch, sync=True)
            except OSError:
                self._unsynced.append(batch)
                raise

    def _make_journal(self, first: int) -> JournalFile:
        number = self._next_journal
        self._next_journal += 1  # a number is used once, even if creating the file failed
        return JournalFile(
            self._files,
            self._directory / "journal",
            number=number,
            first=first,
            synced=self._synced,
            size=self._journal_size,
        )

    def _finish_journal(self, *, seal: bool = False) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.finish(seal=seal)
            self._synced = journal.synced
            self._unsynced = []

    def _write_pages(self, job: WritePages) -> None:
        number, descriptor = self._segments.get(job.kept, (0, -1))
        if job.segment != number:
            self._close_segment(kept=job.kept)
            descriptor = self._open_segment(job.segment, kept=job.kept)
            self._segments[job.kept] = job.segment, descriptor
        for offset, page in job.pieces:
            place = offset
            for data in page.pieces() if isinstance(page, PageParts) else (page,):
                self._files.write(descriptor, data, place)
                place += len(data)
        if job.sync:
            self._files.sync(descriptor)

    def _open_segment(self, number: int, *, kept: bool) -> int:
        path = segment_path(self._directory, number, kept=kept)
        try:
            descriptor = self._files.open(path)
        except FileNotFoundError:
            return self._files.create(path, 0)
        try:
            self._files.sync_directory(path.parent)  # the name may not be on disk after a failed attempt
        except OSError:
            self._files.close(descriptor)
            raise
        return descriptor

    def _save_checkpoint(self, job: SaveCheckpoint) -> None:
        self._sync()  # the checkpoint contains the effects of batches that may not be on disk
        self._files.replace(self._directory / NAME, pack_checkpoint(job.checkpoint))
        directory = self._directory / "journal"
        for number in numbers(self._files, directory):
            if number < job.checkpoint.journal:
                self._files.remove(path_of(directory, number))
        self._remove_segments(job.segments, kept=True)

    def _remove_segments(self, segments: Sequence[int], *, kept: bool) -> None:
        for number in segments:
            if number == self._segments.get(kept, (0, -1))[0]:
                self._close_segment(kept=kept)
            self._files.remove(segment_path(self._directory, number, kept=kept))

    def _close_segment(self, *, kept: bool) -> None:
        open_one = self._segments.pop(kept, None)
        if open_one is not None:
            self._files.close(open_one[1])
