"""The store: the ``Storage`` that persists with a journal, segments, stream files and metadata.

Responsible for the logs of durable queues, streams and exchanges, for the statements that store the topology,
and for the results of jobs. Not for batches (see ``commits``), nor for the removal of journal files (see
``journal/truncation``).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.persistence.rows import Row
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.queue import Queue
from leveret.router.store.batch import Log
from leveret.router.store.commits import Commits
from leveret.router.store.exchange_log import StoredExchangeLog
from leveret.router.store.journal.records import BROKER_LOG
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
from leveret.router.store.notes import StoredNotes
from leveret.router.store.queue_log import StoredQueue, StoredQueueLog
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.compaction import Compaction
from leveret.router.store.segments.pager import StorePager
from leveret.router.store.streams.files import ReadStream
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.streams.writer import WriteStream
from leveret.router.store.writer import Commit, Disk, Job, ReadPage, Result, SaveCheckpoint, Sync, WritePages
from leveret.router.stream.stream import Stream
from leveret.router.turns.backlog import Slices, Start, start_at_once

MOST_TAKEN = 1 << 25  # bytes that clients may send while a commit is being written
MOST_FILES = 3  # journal files that may wait for their removal


def _add_broker_log(store: "Store") -> StoredNotes:
    """Add the log of the broker itself, when it is first needed."""
    return store.add_exchange_log(BROKER_LOG).notes


class Store(Commits):
    """The store of one broker."""

    broker_notes = cached_property(_add_broker_log)

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
        start: Start = start_at_once,
    ) -> None:
        """With ``sync`` each commit is synced before it is reported as done, otherwise later.

        ``sequence`` is the sequence of the journal's next batch, ``segment`` the number of the next segment.
        ``wall_offset`` returns the difference of the clocks: ms since the epoch minus ms of the broker's
        clock. Deadlines on disk use the wall clock, which may be changed while the broker runs. ``changed``
        and ``put_off`` are as in ``Commits``, ``budget`` as in ``StorePager``. ``start`` starts long work.
        """
        super().__init__(
            disk, sync=sync, sequence=sequence, wall_offset=wall_offset, changed=changed, put_off=put_off
        )
        self.segments = SegmentAllocation(kept=True, next_number=segment)
        self.set_aside: Counter[str] = Counter()  # content that could not be read, see ``set_aside``
        self.pager = StorePager(
            disk, self.segments, budget=budget, wall_offset=wall_offset, set_aside=self.set_aside
        )
        self._start = start
        self.compaction = Compaction(disk, self.segments, start=self._start_work)
        self.retirement = Retirement(
            disk, self.pager, self.logs, self.segments, gathered=self._last, start=self._start_work
        )
        self._next_queue_id = next_queue_id
        self._begun = sequence > 1  # the journal holds a batch: pages without one would count as damage
        self._unread: list[ReadStream] = []  # failed reads, to be repeated
        self._failed: list[Job] = []  # failed jobs, to be repeated
        self._retried: list[Job] = []  # repeated jobs in progress

    def end_turn(self) -> bool:
        settled_early = super().end_turn()
        if self.broken is None and (self._begun or not self.busy()):
            self.pager.balance()
        return settled_early

    def behind(self, taken: int, *, small: bool = False) -> bool:
        """Return True if clients must wait for the disk, to bound memory and the time of the next start.

        Clients with ``small`` reads fill files slowly, and wait for their removal only at twice as many.
        """
        if self.failure is not None:
            return False
        most_files = 2 * MOST_FILES if small else MOST_FILES
        return (self._writing is not None and taken > MOST_TAKEN) or self.retirement.files > most_files

    # -- logs ---------------------------------------------------------------------------------------------

    def add_queue(self, queue: StoredQueue, number: int | None = None) -> StoredQueueLog:
        """Add the log of a durable queue: a new one, or the one with this id."""
        log = StoredQueueLog(self, self._number(number), queue)
        self.logs[log.id] = log
        return log

    def add_stream(self, stream: Stream, number: int | None = None) -> StoredStreamLog:
        """Add the log of a stream: a new one, or the one with this id."""
        log = StoredStreamLog(self, self._number(number), stream)
        self.logs[log.id] = log
        return log

    def add_exchange_log(self, number: int | None = None) -> StoredExchangeLog:
        """Add the log of an exchange with notes: a new one, or the one with this id."""
        log = StoredExchangeLog(self, self._number(number))
        self.logs[log.id] = log
        return log

    def _number(self, number: int | None) -> int:
        """Return this id, or a new one for None."""
        if number is None:
            number = self._next_queue_id
            self._next_queue_id += 1
        return number

    def drop_queue(self, log: Log) -> Sequence[Job]:
        """Remove the log of a deleted queue; return the jobs that follow."""
        del self.logs[log.id]
        return log.drop()

    def submit(self, job: Job) -> None:
        """Submit a job of a stream."""
        self._disk.submit(job)

    def submit_after_commit(self, job: Job) -> None:
        """Submit a job of a stream once the notes and publishes so far are on disk."""
        self._open_batch.then.append(job)

    # -- topology -----------------------------------------------------------------------------------------

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
        """Encode the row of a new queue; if that raises, nothing else of the queue exists yet."""
        row = QueueRow(self._next_queue_id, queue.vhost, queue.name, queue.auto_delete, queue.arguments)
        return add_queue(row)

    def forget_queue(self, queue: AnyQueue) -> None:
        """Remove a queue. Messages that left it before, such as dead letters, are committed before."""
        log = queue.log
        assert isinstance(log, StoredQueueLog | StoredStreamLog)
        self._pack()
        if self._open_batch.parts:
            self._sealed.append(self._open_batch)
            self._seal()
        self._open_batch.then += self.drop_queue(log)
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

    # -- results of jobs ----------------------------------------------------------------------------------

    def done(self, job: Job, result: Result, error: Exception | None) -> bool:
        """Handle the result of a job, or its failure; return True if it must be repeated.

        ``result`` is the number of the file that a commit was written to, or the data of a read.
        """
        if self.broken is not None:
            return False
        if isinstance(job, ReadPage | ReadStream):  # independent of writes
            return self._has_read(job, result, error)
        if self._retried:
            self._retried = [each for each in self._retried if each is not job]
        if error is not None:
            # The state of the file is unknown. The job is kept until ``on_timer``.
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
        """Continue after a successful write."""
        if isinstance(job, Commit):
            written, self._writing = self._writing, None
            assert written is not None
            self.committed_batch = written.number
            for log, below in written.fresh.items():
                log.commit(below)
            for after in written.then:
                self._disk.submit(after)
            if job.parts and isinstance(result, int):
                self._begun = True
                self.unsynced = self.unsynced or not job.sync
                self.retirement.wrote(job.sequence, result, written.fresh)
            self.retirement.batch_committed(self.committed_batch)
            self._go_on()
        elif isinstance(job, Sync):
            self._syncing = self.unsynced = False
            self._go_on()
        elif isinstance(job, WritePages):
            if not self.compaction.written(job):
                self.pager.written(job)
                self.retirement.written(job)
        elif isinstance(job, WriteStream):
            stream = self.logs.get(job.stream)
            if isinstance(stream, StoredStreamLog):
                stream.wrote(job)
                self.retirement.flushed(stream)
        elif isinstance(job, SaveCheckpoint):
            self.retirement.saved()
            self.compaction.begin()

    def _start_work(self, what: str, slices: Slices) -> None:
        """Start long work of the store, which ends if the store breaks."""
        self._start(what, self._while_intact(slices))

    def _while_intact(self, slices: Slices) -> Slices:
        while self.broken is None:
            try:
                next(slices)
            except StopIteration:
                return
            yield

    @property
    def finished(self) -> bool:
        """True if nothing must be repeated, for the timers."""
        return self.broken is not None or not (self._failed or self._unread or self.pager.unreadable)

    def on_timer(self, now: int) -> None:
        """Repeat failed jobs; a commit goes into a new journal file."""
        failed, self._failed = self._failed, []
        self._retried += failed
        for job in failed:
            self._disk.submit(job)
        self.pager.read_again()
        unread, self._unread = self._unread, []
        for read in unread:
            self._disk.submit(read)
