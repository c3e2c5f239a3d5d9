"""How journal files go: what lives on in the oldest one moves into pages, then a checkpoint takes its place.

Owns the one file that is being retired, and the checkpoints. It works in small steps, each begun by the end
of the one before, so that it never holds up the broker. Segments that hold nothing any more go with the next
checkpoint; if no file is about to be retired, one is saved for their sake.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from leveret.router.queue.entry import Entry
from leveret.router.queue.fifo import PAGE_BYTES, PAGE_MESSAGES
from leveret.router.store.batch import Log
from leveret.router.store.journal.checkpoint import Checkpoint, PageState, QueueState
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.segments.allocation import Segments
from leveret.router.store.segments.pager import Pager
from leveret.router.store.segments.pages import Page
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.writer import Disk, SaveCheckpoint, WritePages

STEP = 1 << 20  # bytes of pages that are written at a time


class JournalFile(NamedTuple):
    """A journal file, the sequence of its first batch, and the logs with publishes in it: for each a position
    that all of them are below.
    """

    number: int
    first: int
    logs: dict[Log, int]


class Retirement:
    """The journal files there are, from the oldest to the one that is being written."""

    def __init__(self, disk: Disk, pager: Pager, logs: Mapping[int, Log], segments: Segments) -> None:
        self._disk = disk
        self._pager = pager
        self._logs = logs
        self._segments = segments
        self._files: deque[JournalFile] = deque()  # the last is being written
        self._busy = False  # the first is being retired, or a checkpoint is on its way
        self._committed = 0
        self._logs_to_move: deque[tuple[StoredQueueLog, int]] = deque()
        self._entries_to_move: deque[tuple[int, deque[Entry]]] = deque()  # of the first of them, by priority
        self._moving: set[WritePages] = set()  # what is being written of it
        self._pages: set[WritePages] = set()  # that must be on disk before the checkpoint is saved
        self._batch = 0  # and so must this one be
        self._flushing: dict[StoredStreamLog, int] = {}  # and these streams, up to an offset
        self._checkpoint: SaveCheckpoint | None = None

    @property
    def files(self) -> int:
        """How many journal files are still needed."""
        return len(self._files)

    def recovered(self, number: int, first: int) -> None:
        """The broker came back from the journal files beginning with this one and its batch ``first``: they
        are retired as one, soon.
        """
        if number:
            logs = {log: log.next_position for log in self._logs.values()}
            self._files.append(JournalFile(number, first, logs))

    def wrote(self, sequence: int, file: int, fresh: Iterable[Log]) -> None:
        """A batch is in the journal: in which file, and whose publishes it holds."""
        if not self._files or self._files[-1].number != file:
            self._files.append(JournalFile(file, sequence, {}))
        self._files[-1].logs.update((log, log.next_position) for log in fresh)

    def committed(self, batch: int, gathered: int) -> None:
        """A batch is on disk. ``gathered`` is the one by which everything will be that was done until now."""
        self._committed = batch
        self._save()
        self._begin(gathered)

    def written(self, job: WritePages, gathered: int) -> None:
        """Pages are on disk: take the next step."""
        self._pages.discard(job)
        self._save()
        if job in self._moving:
            self._moving.discard(job)
            if not self._moving:
                self._step(gathered)

    def saved(self, gathered: int) -> None:
        """The checkpoint is on disk."""
        self._busy = False
        self._begin(gathered)

    def flushed(self, log: StoredStreamLog) -> None:
        """More of a stream is in its files."""
        if log.written >= self._flushing.get(log, log.written + 1):
            del self._flushing[log]
            self._save()

    def _begin(self, gathered: int) -> None:
        """Retire the oldest file if it is full and no other is on its way."""
        if self._busy:
            return
        if len(self._files) > 1:
            self._busy = True
            for log, below in self._files[0].logs.items():
                if isinstance(log, StoredQueueLog):
                    self._logs_to_move.append((log, below))
                elif isinstance(log, StoredStreamLog) and log.id in self._logs and log.flush(below):
                    self._flushing[log] = below
            self._step(gathered)
        elif self._files and self._segments.any_dead():
            self._busy = True
            self._note(gathered)

    def _step(self, gathered: int) -> None:
        """Write some pages, or note how things stand when nothing is left to be moved."""
        size = 0
        while self._logs_to_move and size < STEP:
            log, below = self._logs_to_move[0]
            if not self._entries_to_move and log.id in self._logs:
                found = log.queue.unpaged(log.moved, below)
                log.moved = below
                self._entries_to_move.extend((priority, deque(entries)) for priority, entries in found)
            while self._entries_to_move and size < STEP:
                moved = self._move(log, *self._entries_to_move[0])
                size += moved
                if not moved:
                    self._entries_to_move.popleft()
            if not self._entries_to_move:
                self._logs_to_move.popleft()
        if size:
            self._moving.update(job for job in self._pager.submit() if job.kept)
        else:
            self._files.popleft()
            self._note(gathered)

    def _move(self, log: StoredQueueLog, priority: int, entries: deque[Entry]) -> int:
        """Make a page of what a queue still keeps without one; return its size, 0 when that is nothing."""
        run: list[Entry] = []
        size = 0
        while entries and len(run) < PAGE_MESSAGES and size < PAGE_BYTES:
            entry = entries.popleft()
            if entry.stored and entry.page is None and log.id in self._logs:
                run.append(entry)
                size += len(entry.message.frames)
        return self._pager.make_page(log, run, priority).length if run else 0

    def _note(self, gathered: int) -> None:
        """Have a checkpoint of how things stand saved, once all that it tells of is on disk.

        What it takes for settled may be settled by a batch that is still being written, and its pages may be
        on their way.
        """
        first = self._files[0]
        queues = [_state(log) for log in self._logs.values()]
        checkpoint = Checkpoint(first.number, first.first, queues)
        self._checkpoint = SaveCheckpoint(checkpoint, self._segments.take_dead())
        self._batch = gathered
        self._pages = self._pager.pending()
        self._save()

    def _save(self) -> None:
        job = self._checkpoint
        if job is None or self._batch > self._committed or self._pages:
            return
        self._flushing = {log: below for log, below in self._flushing.items() if log.id in self._logs}
        if not self._flushing:
            self._checkpoint = None
            self._disk.submit(job)


def _state(log: Log) -> QueueState:
    """A queue as the checkpoint tells it, which mentions no messages that do not outlive the broker."""
    pages = [_page_state(page) for page in log.pages]
    return QueueState(log.id, log.next_position, log.delivered, pages, dict(log.notes.kept))


def _page_state(page: Page) -> PageState:
    """A page as the checkpoint tells it; as long as nothing of it changes it is told the same way."""
    state = page.state
    if isinstance(state, PageState):
        return state
    state = PageState(
        page.segment,
        page.offset,
        page.length,
        page.first,
        page.last,
        page.packed_positions(),
        page.size,
        page.earliest,
        page.priority,
        page.lost(),
        dict(page.times_returned),
    )
    page.state = state
    return state
