"""The one hand that writes: carries out the store's jobs, one after the other, wherever it is run.

Owns the open journal file and the open segment. It knows nothing of the core and keeps no plan: a job says everything, and
its result is what happened. It runs in a thread of its own, or inline in a test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from router.store.checkpoint import NAME, Checkpoint, pack_checkpoint
from router.store.files import Files
from router.store.journal import JournalFile, path_of
from router.store.metadata import Metadata, Statement
from router.store.pages import segment_path


@dataclass(frozen=True, slots=True)
class Commit:
    """Carry out the statements, then write a batch. ``fresh``: into a new file, since the last write failed."""

    statements: Sequence[Statement]
    parts: Sequence[bytes]
    sequence: int
    synced: int
    sync: bool
    fresh: bool


@dataclass(frozen=True, slots=True)
class WritePages:
    """Write pages into a segment file, which is made if it is not there, and have them on disk if ``sync``."""

    segment: int
    pieces: Sequence[tuple[int, bytes]]  # offset, bytes
    sync: bool


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """Put a checkpoint in the place of the last, then remove the files that only that one needed."""

    checkpoint: Checkpoint
    segments: Sequence[int]  # to remove


@dataclass(frozen=True, slots=True)
class RemoveSegments:
    """Remove segment files nobody needs."""

    segments: Sequence[int]


Job = Commit | WritePages | SaveCheckpoint | RemoveSegments


class Writer:
    """Carries out jobs on one data directory. Any of them may raise OSError or sqlite3.Error."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        metadata: Metadata,
        *,
        oldest_journal: int,
        next_journal: int,
        journal_size: int,
    ) -> None:
        """The numbers of the first journal file there is and of the next to be made; ``journal_size`` in bytes."""
        self._files = files
        self._directory = directory
        self._metadata = metadata
        self._journal: JournalFile | None = None
        self._next_journal = next_journal
        self._journal_size = journal_size
        self._oldest = oldest_journal
        self._segment = 0
        self._segment_descriptor = -1

    def run(self, job: Job) -> int:
        """Do a job; for a commit, return the number of the journal file it went to."""
        match job:
            case Commit():
                return self._commit(job)
            case WritePages():
                self._write_pages(job)
            case SaveCheckpoint():
                self._save_checkpoint(job)
            case RemoveSegments():
                self._remove_segments(job.segments)
        return 0

    def _commit(self, job: Commit) -> int:
        if job.statements:
            self._metadata.commit(job.statements)
        if not job.parts:
            return 0 if self._journal is None else self._journal.number
        if self._journal is not None and (job.fresh or self._journal.full):
            self._journal.close()
            self._journal = None
        if self._journal is None:
            number = self._next_journal
            self._next_journal += 1  # a number is used once, also when the file could not be made
            self._journal = JournalFile(
                self._files, self._directory / "journal", number, job.sequence, self._journal_size
            )
        self._journal.append(b"".join(job.parts), job.sequence, job.synced, sync=job.sync)
        return self._journal.number

    def _write_pages(self, job: WritePages) -> None:
        if job.segment != self._segment:
            self._close_segment()
            path = segment_path(self._directory, job.segment)
            fresh = path not in self._files.list(path.parent)
            self._segment_descriptor = self._files.create(path, 0) if fresh else self._files.open(path)
            self._segment = job.segment
        for offset, data in job.pieces:
            self._files.write(self._segment_descriptor, data, offset)
        if job.sync:
            self._files.sync(self._segment_descriptor)

    def _save_checkpoint(self, job: SaveCheckpoint) -> None:
        self._files.replace(self._directory / NAME, pack_checkpoint(job.checkpoint))
        for number in range(self._oldest, job.checkpoint.journal):
            self._files.remove(path_of(self._directory / "journal", number))
        self._oldest = job.checkpoint.journal
        self._remove_segments(job.segments)

    def _remove_segments(self, segments: Sequence[int]) -> None:
        for number in segments:
            if number == self._segment:
                self._close_segment()
            self._files.remove(segment_path(self._directory, number))

    def _close_segment(self) -> None:
        if self._segment_descriptor >= 0:
            self._files.close(self._segment_descriptor)
            self._segment_descriptor = -1
            self._segment = 0

    def close(self) -> None:
        """Close what is open."""
        self._close_segment()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._metadata.close()
