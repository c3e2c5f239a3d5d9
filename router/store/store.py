"""The store as the core sees it: gathers what a turn did, commits it in batches, and says what is on disk.

Owns the order of things: one batch is being written while the next one gathers, and metadata goes before the
journal. It does no I/O: a ``Disk`` carries out its jobs, one after the other, and reports each to ``done``.
Which journal files may go is the business of ``retirement``.

What is asked of it per message is an append to a list. What was settled within the turn that brought it is
never written, and its confirm waits for nothing. Nobody waits to hear that a settlement is on disk: those are
written with the next batch that somebody does wait for, or a moment later by themselves.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from protocol.amqp.message import Message
from router.exchange.base import Binding, Exchange, kind
from router.queue.entry import Entry
from router.queue.queue import Queue
from router.store.metadata import (
    BindingRow,
    ExchangeRow,
    QueueRow,
    Statement,
    add_binding,
    add_exchange,
    add_queue,
    remove_binding,
    remove_exchange,
    remove_queue,
)
from router.store.pages import Page
from router.store.records import pack_progress, pack_publish, pack_returned, ranges
from router.store.retirement import Retirement
from router.store.writer import Commit, Job


class Disk(Protocol):
    """Whoever runs a ``Writer``."""

    def submit(self, job: Job) -> None:
        """Have a job done after all before it; then ``Store.done`` is called with it."""


class StoredQueue(Protocol):
    """What the store asks of a durable queue."""

    def unpaged(self) -> Iterable[Entry]:
        """Its live stored entries without a page, held ones too, in the order of their positions."""


class QueueLog:
    """What the store knows of one durable queue, and gathers of it in a turn."""

    __slots__ = (
        "_store",
        "_touched",
        "delivered",
        "id",
        "last_batch",
        "next_position",
        "pages",
        "queue",
        "returned",
        "settled",
    )

    def __init__(self, store: "Store", number: int, queue: StoredQueue) -> None:
        self.id = number
        self.queue = queue
        self.next_position = 0
        self.last_batch = 0  # the batch of the last message
        self.delivered = 0  # every position below it was delivered at least once
        self.pages: list[Page] = []  # those with live messages
        self.settled: list[int] = []  # in this turn
        self.returned: list[tuple[int, int]] = []
        self._store = store
        self._touched = False

    def enqueue(self, entry: Entry, message: Message) -> None:
        """Keep a message; it is written at the end of the turn unless it was settled by then."""
        entry.stored = True
        self.next_position = entry.position + 1
        self.last_batch = self._store.batch
        self._store.publishes.append((self, entry, message))

    def settle(self, entry: Entry) -> None:
        """A stored message has left the queue for good."""
        self.settled.append(entry.position)
        page = entry.page
        if page is not None and page.live:
            assert isinstance(page, Page)
            page.settle(entry.position)
            if not page.live:
                self.pages.remove(page)
                self._store.retirement.page_died(page)
        if self._store.committed < self.last_batch:
            self._store.early = True
        if not self._touched:
            self._touch()

    def deliver(self, position: int) -> None:
        """A message was delivered: should it come back after a restart, it comes as redelivered."""
        if position >= self.delivered:
            self.delivered = position + 1
            if not self._touched:
                self._touch()

    def give_back(self, entry: Entry) -> None:
        """A message came back from a consumer, and how often that was is counted."""
        self.returned.append((entry.position, entry.returns))
        if entry.page is not None:
            entry.page.returns[entry.position] = entry.returns
        if not self._touched:
            self._touch()

    def _touch(self) -> None:
        self._touched = True
        self._store.touched.append(self)

    def records(self) -> list[bytes]:
        """What this turn did beside enqueueing, as records; it counts as told."""
        self._touched = False
        parts = [pack_progress(self.id, self.delivered, ranges(self.settled))]
        if self.returned:
            parts.append(pack_returned(self.id, self.returned))
        self.settled, self.returned = [], []
        return parts


class Gathered:
    """What is committed together."""

    __slots__ = ("fresh", "held", "number", "parts", "statements")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = False  # a reply waits for it
        self.statements: list[Statement] = []
        self.parts: list[bytes] = []
        self.fresh: dict[QueueLog, None] = {}

    def __bool__(self) -> bool:
        return bool(self.parts or self.statements)

    @property
    def urgent(self) -> bool:
        """Whether somebody may be waiting for it: it says more than what was settled or delivered."""
        return bool(self.fresh or self.statements or self.held)


class Store:
    """``batch`` is the number of the batch that gathers, ``committed`` that of the last one on disk.

    ``failure`` says what went wrong with the last write, else None. ``changed`` is called whenever
    ``committed`` or ``failure`` has, ``put_off`` when something has gathered that nobody waits for: then
    ``flush`` is to be called in a while.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        sync: bool,
        sequence: int,
        segment: int,
        next_queue_id: int,
        wall_offset: int,
        changed: Callable[[], None],
        put_off: Callable[[], None],
    ) -> None:
        """``sequence`` is that of the journal's next batch, ``segment`` the number of the next segment.

        ``wall_offset``: ms since the epoch less ms of the broker's clock.
        """
        self.batch = 1
        self.committed = 0
        self.failure: str | None = None
        self.early = False
        self.changes = 0
        self.publishes: list[tuple[QueueLog, Entry, Message]] = []  # of this turn
        self.touched: list[QueueLog] = []
        self.logs: dict[int, QueueLog] = {}
        self.retirement = Retirement(disk, self.logs, segment=segment, wall_offset=wall_offset)
        self._disk = disk
        self._sync = sync
        self._wall_offset = wall_offset
        self._changed = changed
        self._put_off = put_off
        self._to_flush = False  # ``flush`` will be called
        self._next_queue_id = next_queue_id
        self._sequence = sequence  # in the journal, which knows nothing of commits of the topology alone
        self._gathering = Gathered(self.batch)
        self._sealed: deque[Gathered] = deque()  # gathered before that, and not to be mixed with it
        self._writing: Gathered | None = None
        self._failed: list[Job] = []

    # -- what the core says ------------------------------------------------------------------------------

    def add_queue(self, queue: StoredQueue, number: int | None = None) -> QueueLog:
        """Know a durable queue: a new one, or the one with this id."""
        if number is None:
            number = self._next_queue_id
            self._next_queue_id += 1
        log = self.logs[number] = QueueLog(self, number, queue)
        return log

    def drop_queue(self, log: QueueLog) -> None:
        """A durable queue was deleted: nothing of it is needed any more."""
        del self.logs[log.id]
        for page in log.pages:
            self.retirement.page_died(page)
        log.pages = []

    def change(self, *statements: Statement) -> None:
        """Keep a change of the topology or the users."""
        self.changes += 1
        self._gathering.statements += statements

    def hold(self) -> int:
        """Have what has gathered, and this turn, committed at once: the batch, 0 when it is nothing."""
        if not self._waits():
            return 0
        self._gathering.held = True
        return self.batch

    def _waits(self) -> bool:
        """Whether anything waits to be committed as ``batch``."""
        return bool(self.publishes or self.touched or self._gathering)

    def keep_queue(self, queue: Queue) -> QueueLog:
        log = self.add_queue(queue)
        row = QueueRow(log.id, queue.vhost, queue.name, queue.auto_delete, queue.arguments)
        self.change(add_queue(row))
        return log

    def forget_queue(self, queue: Queue) -> None:
        """A queue is gone. What left it before that, as dead letters do, is committed before that too."""
        assert isinstance(queue.log, QueueLog)
        self._pack()
        if self._gathering:
            self._sealed.append(self._gathering)
            self.batch += 1
            self._gathering = Gathered(self.batch)
        self.drop_queue(queue.log)
        self.change(*remove_queue(queue.vhost, queue.name))

    def keep_exchange(self, vhost: str, exchange: Exchange) -> None:
        row = ExchangeRow(
            vhost,
            exchange.name,
            exchange.type,
            exchange.auto_delete,
            exchange.internal,
            dict(exchange.arguments),
        )
        self.change(add_exchange(row))

    def forget_exchange(self, vhost: str, exchange: Exchange) -> None:
        self.change(*remove_exchange(vhost, exchange.name))

    def keep_binding(self, vhost: str, binding: Binding) -> None:
        self.change(add_binding(_row(vhost, binding)))

    def forget_binding(self, vhost: str, binding: Binding) -> None:
        self.change(remove_binding(_row(vhost, binding)))

    def end_turn(self) -> None:
        """What was gathered since the last turn becomes part of a batch, as a whole."""
        self._pack()
        if self._writing is None:
            self._commit_urgent()

    def flush(self) -> None:
        """Have everything written that has gathered in turns that have ended."""
        self._to_flush = False
        if self._gathering:
            self._gathering.held = True
        if self._writing is None:
            self._commit()

    def _pack(self) -> None:
        if self.publishes:
            self._pack_publishes()
        for log in self.touched:
            if log.id in self.logs:
                self._gathering.parts += log.records()
        self.touched = []

    def _pack_publishes(self) -> None:
        """A record for each message, with all the queues it went to and has not left again."""
        publishes, self.publishes = self.publishes, []
        parts, fresh, offset = self._gathering.parts, self._gathering.fresh, self._wall_offset
        current: Message | None = None
        targets: list[tuple[int, int, int]] = []
        for log, entry, message in publishes:
            if message is not current:
                if targets and current is not None:
                    parts += pack_publish(targets, current.route, current.frames)
                current, targets = message, []
            if entry.stored:
                targets.append((log.id, entry.position, entry.expires + offset if entry.expires else 0))
                fresh[log] = None
        if targets and current is not None:
            parts += pack_publish(targets, current.route, current.frames)

    # -- commits -----------------------------------------------------------------------------------------

    def _commit_urgent(self) -> None:
        """Have what has gathered first written, unless it is only for the record."""
        if self._sealed or self._gathering.urgent:
            self._commit()
        elif self._gathering and not self._to_flush:
            self._to_flush = True
            self._put_off()

    def _commit(self) -> None:
        """Have what has gathered first written."""
        if self._sealed:
            gathered = self._sealed.popleft()
        elif self._gathering:
            gathered = self._gathering
            self.batch += 1
            self._gathering = Gathered(self.batch)
        else:
            return
        self._writing = gathered
        job = Commit(gathered.statements, gathered.parts, self._sequence, self._sync)
        if gathered.parts:
            self._sequence += 1
        self._disk.submit(job)

    def done(self, job: Job, result: int, error: Exception | None) -> None:
        """A job was carried out, or failed; for a commit ``result`` is the number of the file it went to."""
        if error is not None:
            # Nothing may be assumed of what was written. What should have been is kept until ``retry``.
            self.failure = str(error)
            self._failed.append(job)
            self._changed()
        elif isinstance(job, Commit):
            written, self._writing = self._writing, None
            assert written is not None
            self.committed = written.number
            if not self._failed:
                self.failure = None
            if job.parts:
                self.retirement.wrote(job.sequence, result, written.fresh)
            self.retirement.committed(self.committed, self._last())
            self._commit_urgent()
            self._changed()
        else:
            self.retirement.done(job, self._last())

    def _last(self) -> int:
        """The batch with which everything will be committed that was done in turns that have ended."""
        return self.batch if self._gathering else self.batch - 1

    def busy(self) -> bool:
        """Whether anything is still to be written."""
        return self._writing is not None or bool(self._sealed) or self._waits()

    @property
    def finished(self) -> bool:
        """As a target of the timers: nothing is left to be tried again."""
        return not self._failed

    def on_timer(self, now: int) -> None:
        """Try again what failed; a commit goes into a new journal file."""
        failed, self._failed = self._failed, []
        for job in failed:
            self._disk.submit(job)


def _row(vhost: str, binding: Binding) -> BindingRow:
    return BindingRow(
        vhost,
        binding.source.name,
        kind(binding.destination),
        binding.destination.name,
        binding.routing_key,
        dict(binding.arguments),
    )
