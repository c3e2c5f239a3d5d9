"""The store as the core sees it: turns, batches, what is on disk; long, for their order is one thing.

Owns the order of things: one batch is being written while the next one gathers, and metadata goes before the
journal. It does no I/O: a ``Disk`` carries out its jobs, one after the other, and reports each to ``done``.
Which journal files may go is the business of ``retirement``.

What is asked of it per message is an append to a list. What was settled before its batch begins to be
written never is, and its confirm waits for nothing. Nobody waits to hear that a settlement is on disk: those
are written with the next batch that somebody does wait for, or a moment later by themselves.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.persistence.rows import Row
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.store.batch import Gathered, Log, Touched
from leveret.router.store.exchange_log import StoredExchangeLog
from leveret.router.store.failure import is_store_failure
from leveret.router.store.journal.truncation import Retirement
from leveret.router.store.metadata.statements import (
    BindingRow,
    ExchangeRow,
    QueueRow,
    Statement,
    WindowRow,
    add_binding,
    add_exchange,
    add_queue,
    add_window,
    forget,
    keep,
    remove_binding,
    remove_exchange,
    remove_queue,
)
from leveret.router.store.packing import PackingError, Publish, pack_changes, pack_publishes
from leveret.router.store.queue_log import StoredQueue, StoredQueueLog
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.compaction import Compaction
from leveret.router.store.segments.pager import StorePager
from leveret.router.store.streams.files import ReadStream
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.streams.writer import WriteStream
from leveret.router.store.unpackable import KINDS, find_unpackable
from leveret.router.store.unpackable_files import PLACE
from leveret.router.store.writer import Commit, Disk, Job, ReadPage, Result, SaveCheckpoint, Sync, WritePages
from leveret.router.stream.stream import Stream
from leveret.router.values.outcome import CommitBarrier

MOST_TAKEN = 1 << 25  # bytes that clients may send while a commit is being written
MOST_UNPACKED = 4096  # messages whose records are made when a batch begins to be written
MOST_FILES = 3  # journal files that may be waiting to go
TRIES = 20  # that a batch is packed again before the store gives up,
BLAMED = 2  # and how often it failed when single records are looked for that make it fail


class Store:
    """``batch`` is the number of the batch that gathers, ``committed`` that of the last one on disk.

    ``failure`` says what went wrong with a write, until everything that failed has been written after all;
    else it is None. ``broken`` is the exception that has left the store in an unknown state: nothing is
    committed after it, so nothing is confirmed, and the broker has to start again from what is on disk.
    ``changed`` is called whenever ``committed``, ``failure`` or ``broken`` has, ``put_off`` when something
    has gathered that nobody waits for: then ``flush`` is to be called in a while.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        sync: bool,
        sequence: int,
        segment: int,
        next_queue_id: int,
        wall_offset: Callable[[], int],
        changed: Callable[[], None],
        put_off: Callable[[], None],
        budget: int = 1 << 62,
    ) -> None:
        """``sync``: a commit is on disk when it is done, and not only when it is synced later.

        ``sequence`` is that of the journal's next batch, ``segment`` the number of the next segment.
        ``wall_offset`` returns the ms since the epoch less those of the broker's clock: deadlines on disk are
        wall clock, and that may be set while the broker runs. ``budget`` as in ``StorePager``.
        """
        self.batch = 1
        self.committed = 0
        self.failure: str | None = None
        self.broken: Exception | None = None
        self.early = False
        self.changes = 0
        self.changed = 0
        self.unsynced = False  # something was committed that is not on disk yet
        self.publishes: list[Publish] = []  # without a record
        self.unpackable: dict[str, int] = dict.fromkeys(KINDS, 0)  # what had no record, since the start
        self.refused = 0  # messages of these
        self.touched: list[Touched] = []
        self.logs: dict[int, Log] = {}
        self.segments = SegmentAllocation(kept=True, next_number=segment)
        self.set_aside: Counter[str] = Counter()  # content that could not be read, see ``unreadable``
        self.pager = StorePager(
            disk, self.segments, budget=budget, wall_offset=wall_offset, set_aside=self.set_aside
        )
        self.compaction = Compaction(disk, self.segments)
        self.retirement = Retirement(disk, self.pager, self.logs, self.segments)
        self._disk = disk
        self._sync = sync
        self._wall_offset = wall_offset
        self._changed = changed
        self._put_off = put_off
        self._to_flush = False  # ``flush`` will be called
        self._next_queue_id = next_queue_id
        self._sequence = sequence  # in the journal, which knows nothing of commits of the topology alone
        self._gathering = Gathered(self.batch)
        self._begun = sequence > 1  # a batch is in the journal: pages without any would be taken for damage
        self._sealed: deque[Gathered] = deque()  # gathered before that, and not to be mixed with it
        self._writing: Gathered | None = None
        self._syncing = False
        self._wholes = 0  # that take several turns and are under way
        self._whole_from = 0  # the first of ``publishes`` that may be part of them,
        self._in_wholes: list[range] = []  # and those that may be part of wholes that are over
        self._unread: list[ReadStream] = []  # that the disk did not give, to be tried again
        self._failed: list[Job] = []  # to be tried again
        self._retried: list[Job] = []  # tried again, and not done yet
        self._unpacked = 0  # how often in a row what has gathered could not be packed

    # -- what the core says ------------------------------------------------------------------------------

    def add_queue(self, queue: StoredQueue, number: int | None = None) -> StoredQueueLog:
        """Know a durable queue: a new one, or the one with this id."""
        log = StoredQueueLog(self, self._number(number), queue)
        self.logs[log.id] = log
        return log

    def add_stream(self, stream: Stream, number: int | None = None) -> StoredStreamLog:
        """Know a stream: a new one, or the one with this id."""
        log = StoredStreamLog(self, self._number(number), stream)
        self.logs[log.id] = log
        return log

    def add_exchange_log(self, number: int | None = None) -> StoredExchangeLog:
        """Add the log of an exchange that has notes: a new one, or the one with this id."""
        log = StoredExchangeLog(self, self._number(number))
        self.logs[log.id] = log
        return log

    def _number(self, number: int | None) -> int:
        """This id, or a new one."""
        if number is None:
            number = self._next_queue_id
            self._next_queue_id += 1
        return number

    def drop_queue(self, log: Log) -> Sequence[Job]:
        """A durable queue was deleted: nothing of it is needed any more; what is to be done then."""
        del self.logs[log.id]
        return log.drop()

    def submit(self, job: Job) -> None:
        """Have a job of a stream done."""
        self._disk.submit(job)

    def change(self, *statements: Statement) -> None:
        """Keep a change of the topology or the users."""
        self.changes += 1
        self.changed = self.batch
        self._gathering.statements += statements

    def hold(self) -> int:
        """Have what has gathered, and this turn, committed at once: the batch, 0 when it is nothing."""
        if not self._waits():
            return 0
        self._gathering.held = True
        return self.batch

    def barrier(self) -> CommitBarrier:
        """Return the barrier of the open batch, which is committed at once."""
        gathering = self._gathering
        gathering.held = True
        if gathering.barrier is None:
            gathering.barrier = CommitBarrier()
        return gathering.barrier

    def _waits(self) -> bool:
        """Whether anything waits to be committed as ``batch``."""
        return bool(self.publishes or self.touched or self._gathering)

    def keep_queue(self, queue: Queue) -> StoredQueueLog:
        statement = self._row_of(queue)
        log = self.add_queue(queue)
        self.change(statement)
        return log

    def keep_stream(self, stream: Stream) -> StoredStreamLog:
        statement = self._row_of(stream)
        log = self.add_stream(stream)
        self.change(statement)
        return log

    def _row_of(self, queue: Queue | Stream) -> Statement:
        """Encode the row of a new queue; if that raises, there is nothing else of the queue yet."""
        row = QueueRow(self._next_queue_id, queue.vhost, queue.name, queue.auto_delete, queue.arguments)
        return add_queue(row)

    def forget_queue(self, queue: AnyQueue) -> None:
        """A queue is gone. What left it before that, as dead letters do, is committed before that too."""
        log = queue.log
        assert isinstance(log, StoredQueueLog | StoredStreamLog)
        self._pack()
        if self._gathering.parts:
            self._sealed.append(self._gathering)
            self._seal()
        self._gathering.then += self.drop_queue(log)
        self.change(*remove_queue(queue.vhost, queue.name))

    def keep_exchange(self, vhost: str, exchange: Exchange) -> StoredExchangeLog | None:
        row = ExchangeRow(
            vhost,
            exchange.name,
            exchange.type,
            exchange.auto_delete,
            exchange.internal,
            dict(exchange.arguments),
        )
        self.change(add_exchange(row))
        return self.keep_exchange_log(vhost, exchange) if exchange.has_notes else None

    def keep_exchange_log(self, vhost: str, exchange: Exchange) -> StoredExchangeLog:
        """Store the notes of an exchange."""
        log = self.add_exchange_log()
        self.change(add_window(WindowRow(log.id, vhost, exchange.name)))
        return log

    def forget_exchange(self, vhost: str, exchange: Exchange) -> None:
        if exchange.log is not None:
            assert isinstance(exchange.log, StoredExchangeLog)
            self.drop_queue(exchange.log)
        self.change(*remove_exchange(vhost, exchange.name))

    def keep_binding(self, vhost: str, binding: Binding) -> None:
        self.change(add_binding(BindingRow.of(vhost, binding)))

    def forget_binding(self, vhost: str, binding: Binding) -> None:
        self.change(remove_binding(BindingRow.of(vhost, binding)))

    def keep(self, row: Row) -> None:
        self.change(keep(row))

    def forget(self, row: Row) -> None:
        self.change(*forget(row))

    def end_turn(self) -> bool:
        """What was gathered since the last turn becomes part of a batch, as a whole.

        As long as another batch is being written its records are not made: what is settled until then needs
        none. Their making must not take too long at once, so some are. Returns as ``Keeper.end_turn``.
        """
        early, self.early = self.early, False
        if self.broken is not None:
            return early
        try:
            if self._writing is None and not self._syncing and not self._wholes:
                self._commit_urgent()
            elif len(self.publishes) > MOST_UNPACKED and not self._unpacked:
                self._pack_publishes()
        except PackingError as error:
            self._withhold(error)
        if self._begun or not self.busy():
            self.pager.balance()
        return early

    def begin_whole(self) -> None:
        """Commit nothing before ``end_whole``: others that wait for the disk wait for that, too. Should a
        queue be deleted meanwhile, what was gathered until then is a batch of its own.
        """
        if not self._wholes:
            self._whole_from = len(self.publishes)
        self._wholes += 1

    def end_whole(self) -> None:
        self._wholes -= 1
        if not self._wholes and self._whole_from < len(self.publishes):
            self._in_wholes.append(range(self._whole_from, len(self.publishes)))

    def behind(self, taken: int) -> bool:
        """As ``Keeper.behind``: so that neither memory nor the time of a start grow with what the disk cannot
        take in time.
        """
        if self.failure is not None:
            return False
        return (self._writing is not None and taken > MOST_TAKEN) or self.retirement.files > MOST_FILES

    def flush(self) -> None:
        """Have everything written that has gathered in turns that have ended."""
        self._to_flush = False
        if self.broken is not None:
            return
        if self._waits():
            self._gathering.held = True
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
        """Take note of an exception that something in this turn raised; True if it is the store's failure.

        Then nothing more is committed: the exception may have come between two changes that belong together.
        """
        if self.broken is None and isinstance(error, Exception) and is_store_failure(error):
            self.break_off(error)
        return self.broken is not None

    def break_off(self, error: Exception) -> None:
        """Commit nothing any more, since an exception has left the store in an unknown state."""
        self.broken = error
        self.failure = f"{type(error).__name__}: {error}"
        self._changed()

    def _withhold(self, error: PackingError) -> None:
        """What has gathered cannot be packed: nobody is told that it is on disk, and it is tried again in a
        while. What made it fail may pass, as a shortage of memory does; if it does not, the store is broken.
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
        """Take out of the batch what has no record, unless all the rest may not go without it: a message of a
        transaction, which is one whole, or of a stream, whose offsets have no gaps.
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
            self._gathering.aside.append(aside)
            self.unpackable[each.kind] += 1
            each.log_line(PLACE / aside[0])

    def _refuse(self, log: Log, entry: Entry) -> None:
        """Keep no record of a message. Its publisher is told so, and so is who published one like it that was
        not taken because of it.
        """
        assert isinstance(log, StoredQueueLog)
        self.refused += 1
        log.queue.refuse(entry)
        if self._gathering.barrier is not None:
            self._gathering.barrier.refused = True

    def _live_touched(self) -> list[Touched]:
        """Return the logs and notes with changes to be written, without those of logs that were dropped."""
        return [each for each in self.touched if each.id in self.logs]

    def _pack(self) -> None:
        """Make the records of everything that has gathered. Raises PackingError, and then all of it is still
        gathered.
        """
        self._pack_publishes()
        touched = self._live_touched()
        self._gathering.parts += pack_changes(touched, self.logs)
        for each in touched:
            each.packed()
        self.touched = []

    def _pack_publishes(self) -> None:
        """Make the records of the messages that have gathered. Raises PackingError as ``_pack``."""
        if self.publishes:
            packed = pack_publishes(self.publishes, self._wall_offset())
            self.publishes = []
            self._in_wholes, self._whole_from = [], 0
            self._gathering.parts += packed.parts
            self._gathering.fresh.update(packed.fresh)

    # -- commits -----------------------------------------------------------------------------------------

    def _commit_urgent(self) -> None:
        """Have what has gathered first written, unless it is only for the record."""
        if self._writing is not None or self._syncing or self._unpacked or self._wholes:
            return
        self._pack_publishes()
        if self._sealed or self._gathering.urgent:
            self._commit()
        elif self._waits() and not self._to_flush:
            self._to_flush = True
            self._put_off()

    def _commit(self) -> None:
        """Have what has gathered first written."""
        if self._writing is not None or self._syncing or self._wholes:
            return  # a commit would only wait, and not gather any more
        if self._sealed:
            gathered = self._sealed.popleft()
        else:
            self._pack()
            gathered = self._gathering
            if not gathered:
                return
            self._seal()
        self._writing = gathered
        job = Commit(gathered.statements, gathered.parts, self._sequence, self._sync, gathered.aside)
        if gathered.parts:
            self._sequence += 1
        self._disk.submit(job)

    def _seal(self) -> None:
        """The next batch gathers."""
        self.batch += 1
        self._gathering = Gathered(self.batch)

    def done(self, job: Job, result: Result, error: Exception | None) -> bool:
        """A job was carried out, or failed; True when it is to be tried again.

        ``result`` is the number of the file that a commit went to, or what was read.
        """
        if self.broken is not None:
            return False
        if isinstance(job, ReadPage | ReadStream):  # it says nothing of what is written
            return self._has_read(job, result, error)
        if self._retried:
            self._retried = [each for each in self._retried if each is not job]
        if error is not None:
            # Nothing may be assumed of what was written. What should have been is kept until ``retry``.
            self.failure = str(error)
            self._failed.append(job)
            self._changed()
            return True
        recovered = self.failure is not None and not (self._failed or self._retried or self._unpacked)
        if recovered:
            self.failure = None
        self._went_well(job, result)
        if recovered or isinstance(job, Commit | Sync):
            self._changed()
        return False

    def _has_read(self, job: ReadPage | ReadStream, result: Result, error: Exception | None) -> bool:
        if isinstance(job, ReadPage):
            return not self.compaction.has_read(job, result, error) and self.pager.has_read(
                job, result, error
            )
        log = self.logs.get(job.stream)
        if isinstance(log, StoredStreamLog) and log.has_read(job, result, error):
            self._unread.append(job)
            return True
        return False

    def _went_well(self, job: Job, result: Result) -> None:
        """Something was written: go on."""
        if isinstance(job, Commit):
            written, self._writing = self._writing, None
            assert written is not None
            self.committed = written.number
            for log, below in written.fresh.items():
                log.commit(below)
            for after in written.then:
                self._disk.submit(after)
            if job.parts and isinstance(result, int):
                self._begun = True
                self.unsynced = self.unsynced or not job.sync
                self.retirement.wrote(job.sequence, result, written.fresh)
            self.retirement.committed(self.committed, self._last())
            self._go_on()
        elif isinstance(job, Sync):
            self._syncing = self.unsynced = False
            self._go_on()
        elif isinstance(job, WritePages):
            if not self.compaction.written(job):
                self.pager.written(job)
                self.retirement.written(job, self._last())
        elif isinstance(job, WriteStream):
            stream = self.logs.get(job.stream)
            if isinstance(stream, StoredStreamLog):
                stream.wrote(job)
                self.retirement.flushed(stream)
        elif isinstance(job, SaveCheckpoint):
            self.retirement.saved(self._last())
            self.compaction.begin()

    def _go_on(self) -> None:
        """Have written what has gathered while the disk was busy."""
        try:
            self._commit_urgent()
        except PackingError as error:
            self._withhold(error)

    def sync(self) -> None:
        """Have on disk what was committed without that, unless it is under way."""
        if self.broken is None and self.unsynced and not self._syncing:
            self._syncing = True
            self._disk.submit(Sync())

    def _last(self) -> int:
        """The batch with which everything will be committed that was done in turns that have ended."""
        return self.batch if self._waits() else self.batch - 1

    def busy(self) -> bool:
        """Whether anything is still to be written; a store that is broken writes nothing more."""
        if self.broken is not None:
            return False
        return self._writing is not None or self._syncing or bool(self._sealed) or self._waits()

    @property
    def finished(self) -> bool:
        """As a target of the timers: nothing is left to be tried again."""
        return self.broken is not None or not (self._failed or self._unread or self.pager.unreadable)

    def on_timer(self, now: int) -> None:
        """Try again what failed; a commit goes into a new journal file."""
        failed, self._failed = self._failed, []
        self._retried += failed
        for job in failed:
            self._disk.submit(job)
        self.pager.read_again()
        unread, self._unread = self._unread, []
        for read in unread:
            self._disk.submit(read)
