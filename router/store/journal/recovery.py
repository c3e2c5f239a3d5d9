"""Recovery at a start: the checkpoint, then the journal in order.

Reads files and changes none: a torn end stays, and the next journal file records the sequence at which the
journal continues. Segments are not read, so that the time does not grow with the backlog.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, field

from leveret.router.store.files import Files
from leveret.router.store.journal.checkpoint import NAME, Checkpoint, PageState
from leveret.router.store.journal.checkpoint_rebuild import LoadedCheckpoint, load_checkpoint
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.journal.reading import Journal
from leveret.router.store.journal.records import (
    JUMP,
    BadRecord,
    NoteRecord,
    ProgressRecord,
    PublishRecord,
    Record,
    RecordError,
    RunRecord,
    publishes_of,
    unpack_readable,
)
from leveret.router.store.segments.pages import StoredMessage, StoredPage, unpack_positions
from leveret.router.stream.first_offset import first_offset
from leveret.router.values.notes import apply_note

FEW = 1024  # positions that are settled one by one


class RecoveredQueue(Struct):
    """One queue: the pages with live messages, and by position the messages that are only in the journal.

    ``first_offset`` is the offset of a stream below which retention has removed everything, else 0.
    """

    first_offset: int = 0
    next_position: int = 0
    delivered: int = 0
    pages: list[StoredPage] = field(default_factory=list)
    entries: dict[int, StoredMessage] = field(default_factory=dict)
    firsts: list[int] = field(default_factory=list)  # of the pages, ascending
    lasts: list[int] = field(default_factory=list)  # the highest position of each page and all before it
    notes: dict[bytes, bytes] = field(default_factory=dict)

    def take_pages(self, pages: Iterable[StoredPage]) -> None:
        """Set the pages of the queue."""
        self.pages = sorted(pages, key=lambda page: page.first)
        self.firsts = [page.first for page in self.pages]
        self.lasts = list(accumulate((page.last for page in self.pages), max))
        if self.lasts:  # messages that did not survive had positions, too
            self.next_position = max(self.next_position, self.lasts[-1] + 1)

    def remove_expired(self) -> None:
        """Remove the messages of a stream that retention has removed, though the journal still has them."""
        self.first_offset = first = first_offset(self.notes)
        if first:
            self.entries = {position: each for position, each in self.entries.items() if position >= first}

    def page_of(self, position: int) -> StoredPage | None:
        """Return the page that holds a position."""
        index = bisect_right(self.firsts, position) - 1
        while index >= 0 and self.lasts[index] >= position:
            if self.pages[index].holds(position):
                return self.pages[index]
            index -= 1
        return None


class Broken(NamedTuple):
    """A record that is unusable although the checksum of its batch is right.

    ``rest`` has the bytes of the record, and all further bytes if the start of the next record is uncertain.
    """

    path: Path
    offset: int  # of the batch
    start: int  # within the payload of the batch
    what: str
    rest: bytes


class Recovered(Struct):
    """The recovered state. ``sequence`` is that of the next batch.

    Nothing before the journal file ``first_journal`` and its batch ``first_sequence`` was needed; 0 if there
    was no file.
    """

    queues: dict[int, RecoveredQueue]
    first_journal: int
    first_sequence: int
    sequence: int
    next_journal: int  # the number of the next journal file
    newest_queue: int  # the highest queue id in any record; 0 for none
    cut: list[str]  # descriptions of ignored ends
    corrected: list[str] = field(default_factory=list)  # descriptions of impossible header values
    broken: list[Broken] = field(default_factory=list)
    loaded: LoadedCheckpoint = field(default_factory=lambda: LoadedCheckpoint(Checkpoint()))


ReportProgress = Callable[[Path, int], None]  # called with a file and the offset up to which it was read


def ignore_progress(path: Path, offset: int) -> None:
    """Ignore the progress; a ``ReportProgress``."""


def recover(
    files: Files,
    directory: Path,
    queue_ids: Iterable[int],
    *,
    stopped: int = 0,
    progress: ReportProgress = ignore_progress,
) -> Recovered:
    """Read everything, and report the progress to ``progress``. Raises DamageError and FormatError.

    ``queue_ids`` are the existing queues: records of other queues are ignored. ``stopped`` is the last batch
    that must exist.

    A record may be unusable although the checksum of its batch is right. It is left out and added to
    ``Recovered.broken``. If the start of the next record is not certain, the rest of the batch is left out
    too.
    """
    queues = {number: RecoveredQueue() for number in queue_ids}
    loaded = load_checkpoint(files, directory, queues)
    checkpoint = loaded.checkpoint
    newest = max((state.id for state in checkpoint.queues), default=0)
    for state in checkpoint.queues:
        queue = queues.get(state.id)
        if queue is not None:
            queue.next_position, queue.delivered = state.next_position, state.delivered
            queue.take_pages(_page(state.id, page) for page in state.pages)
            queue.notes = dict(state.notes)
    journal = Journal(files, directory / "journal", checkpoint.journal, checkpoint.sequence)
    broken: list[Broken] = []
    for batch in journal:
        for start, end, record in unpack_readable(batch.payload):
            try:
                newest = max(newest, _apply(record, queues))
            except RecordError as error:
                rest = batch.payload[start:end]
                broken.append(Broken(batch.path, batch.offset, start, str(error), rest))
        progress(batch.path, batch.end)
    journal.must_reach(stopped)
    paged = bool(files.list(directory / "segments"))
    if paged and not journal.begun and directory / NAME not in files.list(directory):
        # Pages are written once a batch is in a journal file, and only a checkpoint removes that file.
        raise DamageError(directory / NAME, 0, "the file is missing, and so are all journal files")
    for queue in queues.values():
        queue.take_pages([page for page in queue.pages if page.live])
        queue.remove_expired()
    next_journal = journal.numbers[-1] + 1 if journal.numbers else checkpoint.journal
    first = checkpoint.journal if journal.numbers else 0
    return Recovered(
        queues,
        first,
        checkpoint.sequence,
        journal.sequence,
        next_journal,
        newest,
        cut=journal.cut,
        corrected=journal.corrected,
        broken=broken,
        loaded=loaded,
    )


def _apply(record: Record | BadRecord, queues: dict[int, RecoveredQueue]) -> int:
    """Apply a record; return the highest queue id in it.

    Raises RecordError for an unusable record, before anything has changed.
    """
    if isinstance(record, BadRecord):
        raise RecordError(record.why)
    if isinstance(record, PublishRecord):
        _must_be_free(record, queues)
        _enqueue(record, queues)
        return max((queue_id for queue_id, _, _ in record.targets), default=0)
    queue = queues.get(record.queue_id)
    if queue is None:
        return record.queue_id
    if isinstance(record, RunRecord):
        publishes = publishes_of(record)
        for publish in publishes:
            _must_be_free(publish, queues)
        for publish in publishes:
            _enqueue(publish, queues)
    elif isinstance(record, ProgressRecord):
        below = max((first + count for first, count in record.settled), default=0)
        _must_be_near(queue, max(record.delivered, below))
        queue.delivered = max(queue.delivered, record.delivered)
        # A message settled within its turn was never written, and its position is not used again.
        queue.next_position = max(queue.next_position, record.delivered)
        for first, count in record.settled:
            below = min(first + count, queue.next_position)  # no message has a position from that on
            queue.next_position = max(queue.next_position, first + count)
            _settle(queue, first, below)
    elif isinstance(record, NoteRecord):
        first = first_offset({record.key: record.value})
        _must_be_near(queue, first)
        queue.next_position = max(queue.next_position, first)  # unknown if the checkpoint was rebuilt
        apply_note(queue.notes, record.key, record.value)
    else:
        for position, returns in record.returns:
            _return(queue, position, returns)
    return record.queue_id


def _enqueue(record: PublishRecord, queues: dict[int, RecoveredQueue]) -> None:
    for queue_id, position, deadline in record.targets:
        queue = queues.get(queue_id)
        if queue is not None:
            if position >= queue.next_position:
                queue.next_position = position + 1
            if queue.page_of(position) is None:
                queue.entries[position] = StoredMessage(position, deadline, 0, record.route, record.frames)


def _must_be_free(record: PublishRecord, queues: dict[int, RecoveredQueue]) -> None:
    """Raise RecordError if another message has one of the positions, or if a position is impossible."""
    for queue_id, position, _ in record.targets:
        queue = queues.get(queue_id)
        if queue is None:
            continue
        _must_be_near(queue, position)
        there = queue.entries.get(position)  # a batch that was written twice is read twice
        if there is not None and (there.route, there.frames) != (record.route, record.frames):
            raise RecordError(f"position {position} of queue {queue_id} belongs to another message")


def _must_be_near(queue: RecoveredQueue, position: int) -> None:
    """Raise RecordError for a position that the queue cannot have reached since its last record."""
    if position > queue.next_position + JUMP:
        raise RecordError(f"position {position} in a queue whose next position is {queue.next_position}")


def _settle(queue: RecoveredQueue, first: int, below: int) -> None:
    """Settle the positions from ``first`` to under ``below``, in time bounded by the number of messages."""
    if below - first <= FEW:
        for position in range(first, below):
            if queue.entries.pop(position, None) is None:
                page = queue.page_of(position)
                if page is not None:
                    page.settle(position)
        return
    for position in [each for each in queue.entries if first <= each < below]:
        del queue.entries[position]
    for page in queue.pages:
        page.settle_all(first, below)


def _return(queue: RecoveredQueue, position: int, returns: int) -> None:
    entry = queue.entries.get(position)
    if entry is not None:
        queue.entries[position] = entry._replace(returns=returns)
        return
    page = queue.page_of(position)
    if page is not None:
        page.give_back(position, returns)


def _page(queue_id: int, state: PageState) -> StoredPage:
    """Make a page as the checkpoint describes it."""
    page = StoredPage(
        queue_id,
        state.segment,
        state.offset,
        state.length,
        unpack_positions(state.first, state.last, state.positions),
        size=state.size,
        earliest=state.earliest,
        priority=state.priority,
    )
    page.written = True
    for first, count in state.settled:
        page.settle_all(first, first + count)
    page.times_returned.update(state.returns)
    page.state = state
    return page
