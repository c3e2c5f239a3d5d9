"""Truncation of the journal: live content of the oldest file moves into pages, then a checkpoint replaces it.

Responsible for the file that is being retired, and for the checkpoints. It works in steps, each started by
the end of the previous one; a step is long work in slices, so that it does not delay clients. Segments
without live messages are removed with the next checkpoint; if no journal file is about to be retired, a
checkpoint is saved to remove them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from leveret.router.queue.entry import Entry
from leveret.router.queue.page_out import PAGE_BYTES, PAGE_MESSAGES
from leveret.router.store.batch import Log
from leveret.router.store.journal.checkpoint import Checkpoint, PageState, QueueState
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.pager import StorePager
from leveret.router.store.segments.pages import StoredPage
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.writer import Disk, SaveCheckpoint, WritePages
from leveret.router.turns.backlog import Slices, Slicing, Start

STEP = 1 << 20  # bytes of pages written at a time
MESSAGE = 1 << 10  # bytes added for each message in that sum: moving one takes 3 microseconds
LOGS = 200  # logs that are passed in one slice
PAGES = 1000  # unchanged pages of one log that are passed in one slice


class RetiredFile(NamedTuple):
    """A journal file: its number, the sequence of its first batch, and the logs with publishes in it.

    ``logs`` has for each log a position above all its publishes in this file.
    """

    number: int
    first: int
    logs: dict[Log, int]


class Retirement:
    """The existing journal files, from the oldest to the current one."""

    def __init__(
        self,
        disk: Disk,
        pager: StorePager,
        logs: Mapping[int, Log],
        segments: SegmentAllocation,
        *,
        gathered: Callable[[], int],
        start: Start,
    ) -> None:
        """``gathered`` returns the number of the batch that will contain all changes until now; ``start``
        starts long work.
        """
        self._gathered = gathered
        self._start = start
        self._disk = disk
        self._pager = pager
        self._logs = logs
        self._segments = segments
        self._files: deque[RetiredFile] = deque()  # the last is the current one
        self._busy = False  # the first file is being retired, or a checkpoint is being saved
        self._committed = 0
        self._logs_to_move: deque[tuple[StoredQueueLog, int]] = deque()
        self._entries_to_move: deque[tuple[int, deque[Entry]]] = deque()  # of the first log, by priority
        self._moving: set[WritePages] = set()  # pages of moved entries that are being written
        self._pages: set[WritePages] = set()  # pages that must be on disk before the checkpoint is saved
        self._batch = 0  # batch that must be on disk before the checkpoint is saved
        # Streams that must be on disk before the checkpoint is saved, each up to an offset
        self._flushing: dict[StoredStreamLog, int] = {}
        self._checkpoint: SaveCheckpoint | None = None
        self._states: list[QueueState] = []  # of the last checkpoint

    @property
    def files(self) -> int:
        """The number of journal files that are still needed."""
        return len(self._files)

    def recovered(self, number: int, first: int) -> None:
        """Add the journal files from this number and its batch ``first`` on, after a recovery.

        They are retired as one, soon.
        """
        if number:
            logs = {log: log.next_position for log in self._logs.values()}
            self._files.append(RetiredFile(number, first, logs))

    def wrote(self, sequence: int, file: int, fresh: Iterable[Log]) -> None:
        """Record the file that a batch was written to, and the logs with publishes in it."""
        if not self._files or self._files[-1].number != file:
            self._files.append(RetiredFile(file, sequence, {}))
        self._files[-1].logs.update((log, log.next_position) for log in fresh)

    def batch_committed(self, batch: int) -> None:
        """Continue after a batch is on disk."""
        self._committed = batch
        self._save()
        self._begin()

    def written(self, job: WritePages) -> None:
        """Continue with the next step after pages are on disk."""
        self._pages.discard(job)
        self._save()
        if job in self._moving:
            self._moving.discard(job)
            if not self._moving:
                self._start("moving messages out of the journal", self._move_messages())

    def saved(self) -> None:
        """Continue with the next file after the checkpoint is on disk. Its queues are freed in slices."""
        self._start("freeing a checkpoint", _free(self._states))
        self._states = []
        self._busy = False
        self._begin()

    def flushed(self, log: StoredStreamLog) -> None:
        """Continue after more of a stream is in its files."""
        if log.written >= self._flushing.get(log, log.written + 1):
            del self._flushing[log]
            self._save()

    def _begin(self) -> None:
        """Retire the oldest file if it is full and no other is being retired."""
        if self._busy:
            return
        if len(self._files) > 1:
            self._busy = True
            self._start("retiring a journal file", self._retire(self._files[0].logs))
        elif self._files and self._segments.has_dead():
            self._busy = True
            self._start("making a checkpoint", self._make_checkpoint())

    def _retire(self, logs: Mapping[Log, int]) -> Slices:
        """Begin to move the messages of these logs, each up to a position, out of the oldest file."""
        for number, (log, below) in enumerate(logs.items(), 1):
            if isinstance(log, StoredQueueLog):
                self._logs_to_move.append((log, below))
            elif isinstance(log, StoredStreamLog) and log.id in self._logs and log.flush(below):
                self._flushing[log] = below
            if not number % LOGS:
                yield
        yield from self._move_messages()

    def _move_messages(self) -> Slices:
        """Write some pages, or make the checkpoint if nothing is left to move."""
        while (yield from self._make_pages()):
            self._pager.submit()
            # The pages of this step, and others that were made meanwhile.
            self._moving = self._pager.pending()
            if self._moving:
                return
        self._files.popleft()
        yield from self._make_checkpoint()

    def _make_pages(self) -> Slicing[int]:
        """Make pages of about ``STEP`` bytes; return their size, 0 if nothing is left to move."""
        work = 0
        while self._logs_to_move and work < STEP:
            log, below = self._logs_to_move[0]
            if not self._entries_to_move and log.id in self._logs:
                found = log.queue.unpaged(log.moved, below)
                log.moved = below
                self._entries_to_move.extend((priority, deque(entries)) for priority, entries in found)
                yield
            while self._entries_to_move and work < STEP:
                page = self._move(log, *self._entries_to_move[0])
                if page is None:
                    self._entries_to_move.popleft()
                else:
                    work += page.length + MESSAGE * page.count
                yield
            if not self._entries_to_move:
                self._logs_to_move.popleft()
        return work

    def _move(self, log: StoredQueueLog, priority: int, entries: deque[Entry]) -> StoredPage | None:
        """Make a page of entries that are not in a page yet; return None if there are no such entries."""
        run: list[Entry] = []
        size = 0
        while entries and len(run) < PAGE_MESSAGES and size < PAGE_BYTES:
            entry = entries.popleft()
            if entry.stored and entry.page is None and log.id in self._logs:
                run.append(entry)
                size += len(entry.message.frames)
        return self._pager.make_page(log, run, priority) if run else None

    def _make_checkpoint(self) -> Slices:
        """Make a checkpoint of the present state, to be saved once everything it names is on disk.

        The checkpoint may count messages as settled by a batch that is still being written, and may name
        pages that are not written yet. Its queues may change between two slices: the journal, which is read
        from ``_files[0]`` on after a restart, has all these changes, and replaying them twice is harmless.
        """
        first = self._files[0]
        # Before the states: a segment that dies after the state of its queue was made is named there.
        dead = self._segments.take_dead()
        queues: list[QueueState] = []
        for number, log in enumerate(list(self._logs.values()), 1):
            if log.id in self._logs:
                queues.append((yield from _state(log)))
            if not number % LOGS:
                yield
        self._checkpoint = SaveCheckpoint(Checkpoint(first.number, first.first, queues), dead)
        self._states = queues
        self._batch = self._gathered()
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


def _free(queues: list[QueueState]) -> Slices:
    while queues:
        del queues[-LOGS:]
        yield


def _state(log: Log) -> Slicing[QueueState]:
    """Return the state of a queue for the checkpoint, without messages that do not survive the broker."""
    pages: list[PageState] = []
    for page in list(log.pages):
        is_new = page.state is None  # making it takes half a millisecond if every second message is settled
        pages.append(_page_state(page))
        if is_new or not len(pages) % PAGES:
            yield
    return QueueState(log.id, log.next_position, log.delivered, pages, dict(log.notes.kept))


def _page_state(page: StoredPage) -> PageState:
    """Return the state of a page for the checkpoint; cached as long as the page does not change."""
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
