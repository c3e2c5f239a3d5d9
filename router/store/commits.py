"""Commits of the store: gathers the work of turns into batches, and submits one batch after the other.

Responsible for the order: one batch is being written while the next one is gathered, and metadata is written
before the journal. It does no I/O: a ``Disk`` runs the jobs. Not for the content of batches (see
``packing``), nor for the results of jobs (see ``store``).

A message costs one append to a list. A message that is settled before its batch begins to be written
is never written, and its confirm need not wait. No reply waits for settlements: they are written with the
next batch that a reply waits for, or after a tenth of a second.
"""

from collections import deque
from collections.abc import Callable, Sequence

from leveret.protocol.amqp.message import Frames
from leveret.router.queue.entry import Entry
from leveret.router.store.batch import CommitBatch, Log, Touched
from leveret.router.store.failure import is_store_failure
from leveret.router.store.metadata.statements import Statement
from leveret.router.store.packing import PackingError, Publish, pack_changes, pack_publishes
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.unpackable import KINDS, find_unpackable
from leveret.router.store.unpackable_files import PLACE
from leveret.router.store.writer import Commit, Disk, Sync
from leveret.router.values.outcome import CommitBarrier

MOST_UNPACKED = 4096  # most messages whose records are made only when a batch begins to be written
TRIES = 20  # attempts to pack a batch before the store gives up
BLAMED = 2  # failed attempts after which each record is packed by itself to find the cause


class Commits:
    """The batches of a store.

    ``batch`` is the number of the batch that is being gathered, ``committed_batch`` that of the last one on
    disk.

    ``failure`` describes a failed write until everything that failed has been written, else it is None.
    ``broken`` is the exception that has left the store in an unknown state: nothing is committed after it, so
    nothing is confirmed, and the broker must start again from the disk. ``changed`` is called whenever
    ``committed_batch``, ``failure`` or ``broken`` has changed. ``put_off`` is called when no reply waits for
    the gathered work, and must schedule a call of ``flush``.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        sync: bool,
        sequence: int,
        wall_offset: Callable[[], int],
        changed: Callable[[], None],
        put_off: Callable[[], None],
    ) -> None:
        """The parameters are as in ``Store``."""
        self.batch = 1
        self.committed_batch = 0
        self.failure: str | None = None
        self.broken: Exception | None = None
        self.settled_early = False
        self.changes = 0
        self.changed = 0
        self.unsynced = False  # a commit is not on disk yet
        self.publishes: list[Publish] = []  # without records
        self.unpackable: dict[str, int] = dict.fromkeys(KINDS, 0)  # records set aside since the start
        self.unstorable = 0  # messages among them
        self.touched: list[Touched] = []
        self.logs: dict[int, Log] = {}
        self._disk = disk
        self._sync = sync
        self._wall_offset = wall_offset
        self._changed = changed
        self._put_off = put_off
        self._to_flush = False  # ``flush`` will be called
        self._sequence = sequence  # of the next batch in the journal; commits of only the topology have none
        self._open_batch = CommitBatch(self.batch)
        self._sealed: deque[CommitBatch] = deque()  # complete, older batches
        self._writing: CommitBatch | None = None
        self._syncing = False
        self._wholes = 0  # number of ``begin_whole`` without ``end_whole``
        self._whole_from = 0  # the first of ``publishes`` that may be part of an open whole
        self._in_wholes: list[range] = []  # indexes of ``publishes`` that may be part of ended wholes
        self._unpacked = 0  # consecutive failed attempts to pack

    def change(self, *statements: Statement) -> None:
        """Add statements for a change of the topology or the users to the batch."""
        self.changes += 1
        self.changed = self.batch
        self._open_batch.statements += statements

    def append(self, log: Log, parts: Sequence[Frames], below: int) -> None:
        """Add a record of new messages, in pieces; ``below`` is a position above all of them."""
        self._open_batch.parts += parts
        self._open_batch.note_fresh({log: below})

    def hold(self) -> int:
        """Commit everything gathered until the end of this turn at once.

        Returns the number of its batch; 0 if nothing was gathered.
        """
        if not self._has_changes():
            return 0
        self._open_batch.held = True
        return self.batch

    def barrier(self) -> CommitBarrier:
        """Return the barrier of the open batch, which is committed at once."""
        batch = self._open_batch
        batch.held = True
        if batch.barrier is None:
            batch.barrier = CommitBarrier()
        return batch.barrier

    def _has_changes(self) -> bool:
        """Return True if anything is gathered for ``batch``."""
        return bool(self.publishes or self.touched or self._open_batch)

    def end_turn(self) -> bool:
        """Make everything gathered since the last turn part of one batch.

        Records are made when the batch begins to be written: a message that is settled before that needs
        none. Making too many records at once would take too long, so beyond ``MOST_UNPACKED`` messages some
        are made earlier. Returns the result of ``Storage.end_turn``.
        """
        settled_early, self.settled_early = self.settled_early, False
        if self.broken is not None:
            return settled_early
        try:
            if self._writing is None and not self._syncing and not self._wholes:
                self._commit_urgent()
            elif len(self.publishes) > MOST_UNPACKED and not self._unpacked:
                self._pack_publishes()
        except PackingError as error:
            self._withhold(error)
        return settled_early

    def begin_whole(self) -> None:
        """Delay commits until ``end_whole``, so that several turns are committed together.

        If a queue is deleted meanwhile, the changes before the deletion are a batch of their own.
        """
        if not self._wholes:
            self._whole_from = len(self.publishes)
        self._wholes += 1

    def end_whole(self) -> None:
        """Allow commits again, after ``begin_whole``."""
        self._wholes -= 1
        if not self._wholes and self._whole_from < len(self.publishes):
            self._in_wholes.append(range(self._whole_from, len(self.publishes)))

    def flush(self) -> None:
        """Commit everything gathered in turns that have ended."""
        self._to_flush = False
        if self.broken is not None:
            return
        if self._has_changes():
            self._open_batch.held = True
        try:
            if self._unpacked:
                if self._unpacked >= BLAMED and not self._wholes:
                    self._set_aside_unpackable()
                self._pack()
                self._unpacked = 0
            self._commit()
        except PackingError as error:
            self._withhold(error)

    def failed(self, error: BaseException) -> bool:
        """Handle an exception raised in this turn; return True if it is a failure of the store.

        In this case nothing more is committed: the exception may have been raised between two changes that
        belong together.
        """
        if self.broken is None and isinstance(error, Exception) and is_store_failure(error):
            self.break_off(error)
        return self.broken is not None

    def break_off(self, error: Exception) -> None:
        """Commit nothing more, because an exception has left the store in an unknown state."""
        self.broken = error
        self.failure = f"{type(error).__name__}: {error}"
        self._changed()

    def sync(self) -> None:
        """Sync commits that are not on disk, unless a sync is in progress."""
        if self.broken is None and self.unsynced and not self._syncing:
            self._syncing = True
            self._disk.submit(Sync())

    def busy(self) -> bool:
        """Return True if anything is still to be written; a broken store writes nothing more."""
        if self.broken is not None:
            return False
        return self._writing is not None or self._syncing or bool(self._sealed) or self._has_changes()

    # -- packing ------------------------------------------------------------------------------------------

    def _pack(self) -> None:
        """Make the records of all gathered changes. After a PackingError the changes are still gathered."""
        self._pack_publishes()
        touched = self._live_touched()
        self._open_batch.parts += pack_changes(touched, self.logs)
        for each in touched:
            each.packed()
        self.touched = []

    def _pack_publishes(self) -> None:
        """Make the records of the gathered messages. Raises PackingError as ``_pack``."""
        if self.publishes:
            packed = pack_publishes(self.publishes, self._wall_offset())
            self.publishes = []
            self._in_wholes, self._whole_from = [], 0
            self._open_batch.parts += packed.parts
            self._open_batch.note_fresh(packed.fresh)

    def _live_touched(self) -> list[Touched]:
        """Return the logs and notes with changes to write, without those of dropped logs."""
        return [each for each in self.touched if each.id in self.logs]

    def _withhold(self, error: PackingError) -> None:
        """Schedule another attempt to pack the batch; nothing in it is confirmed.

        The cause may be temporary, such as a shortage of memory. After ``TRIES`` attempts the store is
        broken.
        """
        self._unpacked += 1
        if self._unpacked > TRIES:
            self.break_off(error)
            return
        self.failure = str(error)
        self._changed()
        self._to_flush = True
        self._put_off()

    def _set_aside_unpackable(self) -> None:
        """Remove unpackable records from the batch, if the rest may be committed without them.

        A message of a transaction, which is atomic, or of a stream, whose offsets have no gaps, must not be
        removed.
        """
        found = find_unpackable(self.publishes, self._live_touched(), self.logs, self._wall_offset())
        for each in found:
            whole = any(each.index in some for some in self._in_wholes)
            if each.kind == "message" and (whole or not isinstance(each.log, StoredQueueLog)):
                return
        for each in found:
            if each.entry is None:
                each.leave_out()
            else:
                self._refuse(each.log, each.entry)
            aside = each.file()
            self._open_batch.aside.append(aside)
            self.unpackable[each.kind] += 1
            each.log_line(PLACE / aside[0])

    def _refuse(self, log: Log, entry: Entry) -> None:
        """Store no record of a message, so that its publisher gets a negative confirm.

        The publishers of its duplicates, which were not enqueued, get negative confirms too.
        """
        assert isinstance(log, StoredQueueLog)
        self.unstorable += 1
        log.queue.refuse(entry)
        if self._open_batch.barrier is not None:
            self._open_batch.barrier.refused = True

    # -- commits ------------------------------------------------------------------------------------------

    def _commit_urgent(self) -> None:
        """Commit the oldest gathered batch, unless only settlements and deliveries are in it."""
        if self._writing is not None or self._syncing or self._unpacked or self._wholes:
            return
        self._pack_publishes()
        if self._sealed or self._open_batch.urgent:
            self._commit()
        elif self._has_changes() and not self._to_flush:
            self._to_flush = True
            self._put_off()

    def _commit(self) -> None:
        """Commit the oldest gathered batch, unless another commit is in progress."""
        if self._writing is not None or self._syncing or self._wholes:
            return  # submitted now, the batch would wait in the thread and collect nothing more
        if self._sealed:
            batch = self._sealed.popleft()
        else:
            self._pack()
            batch = self._open_batch
            if not batch:
                return
            self._seal()
        self._writing = batch
        sync = self._sync or bool(batch.then)  # the files to remove must not be needed after a power cut
        job = Commit(batch.statements, batch.parts, self._sequence, sync, batch.aside)
        if batch.parts:
            self._sequence += 1
        self._disk.submit(job)

    def _seal(self) -> None:
        """Begin to gather the next batch."""
        self.batch += 1
        self._open_batch = CommitBatch(self.batch)

    def _go_on(self) -> None:
        """Commit the batch that was gathered while the disk was busy."""
        try:
            self._commit_urgent()
        except PackingError as error:
            self._withhold(error)

    def _last(self) -> int:
        """Return the batch that will contain all changes of turns that have ended."""
        return self.batch if self._has_changes() else self.batch - 1
