"""The messages of a queue: their order, number and size, and which of them are stored.

Responsible for the ready messages in memory and on disk, and for stored messages until the log releases them.
Messages that leave because of a limit are in ``limits``; consumers are in ``queue``.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Unpack

from leveret.router.deduplication.cache import DeduplicationCache
from leveret.router.queue.consumers import Consumer
from leveret.router.queue.entry import Entry
from leveret.router.queue.expiry import ExpiryIndex
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.host import QueueHost
from leveret.router.queue.lifecycle import Declaration, DeclaredQueue
from leveret.router.queue.log import QueueLog
from leveret.router.queue.paged_run import Run
from leveret.router.queue.paging import Paging
from leveret.router.queue.priorities import Priorities
from leveret.router.values.counters import DeliveryCounters
from leveret.router.values.notes import Key

POSITION = attrgetter("position")


def _unpaged(line: Fifo, first: int) -> list[Entry]:
    """Return the entries in memory, from position ``first`` on, that are stored and in no page."""
    loose = [line.returned, *(run.entries or () for run in line.runs if run.page is None)]
    found = [entry for entries in loose for entry in entries if entry.stored and entry.page is None]
    for entries in (line.tail, line.fresh):
        for entry in reversed(entries):
            if entry.position < first:
                break
            if entry.stored and entry.page is None:
                found.append(entry)
    return found


class QueueContents(DeclaredQueue):
    """The messages of one queue.

    ``bytes`` is the size of the bodies of ready messages. ``held`` has the stored entries that are not ready,
    by position: delivered ones, and those whose dead letter is not published yet. ``log`` stores a durable
    queue's messages, ``paging`` moves messages out of memory; both may be None.
    """

    __slots__ = (
        "_expiring",
        "_first",
        "_keeps_all",
        "_position",
        "_reclaimed",
        "_returned",
        "bytes",
        "deduplication",
        "expiry",
        "held",
        "log",
        "paging",
        "ready",
        "unacked",
    )

    ready: Fifo | Priorities
    unacked: int
    deduplication: DeduplicationCache | None

    def __init__(self, name: str, vhost: str, host: QueueHost, **declaration: Unpack[Declaration]) -> None:
        super().__init__(name, vhost, host, **declaration)
        highest = self.settings.max_priority
        self.ready = Fifo() if highest is None else Priorities(highest)
        self.unacked = 0
        self.bytes = 0
        self.counts = DeliveryCounters()
        self._position = self._first = 0
        self._returned = False  # True if a ready message may have been delivered before
        self._reclaimed: list[Entry] = []  # to requeue at the end of the batch, unless a session holds them
        self.expiry = ExpiryIndex()
        self._expiring = False  # True if a message may expire
        self.log: QueueLog | None = None
        self.held: dict[int, Entry] = {}
        self.paging: Paging | None = None
        self._keeps_all = False  # True if transient messages are stored too

    @property
    def quorum(self) -> bool:
        return self.settings.queue_type == "quorum"

    @property
    def counted(self) -> bool:
        """True if deliveries carry the number of earlier deliveries (``x-delivery-count``)."""
        return self.quorum

    def recall(self, notes: Mapping[Key, Key]) -> None:
        """Restore the deduplication cache from its notes. Raises ValueError and struct.error."""
        if self.deduplication is not None:
            self.deduplication.recall(notes)

    @property
    def published(self) -> int:
        """Number of messages enqueued since the broker's start."""
        return self._position - self._first

    @property
    def next_position(self) -> int:
        """Position of the next message to be enqueued."""
        return self._position

    # -- restoring -------------------------------------------------------------------------------------------

    def restore(self, line: Fifo, parts: Sequence[Run | list[Entry]]) -> None:
        """Add stored messages of one priority, in their order, when the broker starts."""
        for index, part in enumerate(parts):
            if isinstance(part, Run) or (line.runs and index < len(parts) - 1):
                run = part if isinstance(part, Run) else Run.of(line, part)
                line.push_run(run)
                self.bytes += run.size
                self.index(run)
            else:
                for entry in part:
                    line.push(entry)
                    self.bytes += entry.message.size
                    self.index(entry)

    def index(self, item: Entry | Run) -> None:
        """Add a ready entry or run that expires to the expiry index."""
        if item.expires:
            self._expiring = True
            self.expiry.add(item)

    # -- repair --------------------------------------------------------------------------------------------

    def reclaim(self, entries: Iterable[Entry]) -> None:
        """Requeue the messages that neither a session nor a dead letter holds, at the end of the batch.

        Called after an exception while the messages were on their way from the queue to a session.
        """
        self._reclaimed += entries
        self.host.schedule_repair(self)  # type: ignore[arg-type]  # as in ``touch``

    def _recount(self, delivered: Sequence[Entry], dying: Container[int]) -> None:
        """Requeue reclaimed messages, and rebuild the queue's counts and indexes.

        ``delivered`` are the messages that sessions hold, ``dying`` the ids of the entries that are being
        dead-lettered.
        """
        reclaimed, self._reclaimed = self._reclaimed, []
        if reclaimed:
            known = {id(entry) for entry in chain(delivered, self.ready)}
            for entry in {id(entry): entry for entry in reclaimed}.values():
                if id(entry) not in known and id(entry) not in dying:
                    self._requeue_lost(entry)
            self._returned = True
        self.unacked = len(delivered)
        self.held |= {entry.position: entry for entry in delivered if entry.stored}
        self.bytes = sum(entry.message.size for entry in self.ready)
        self.bytes += sum(run.size for run in self.ready.runs if run.entries is None)
        self.expiry = ExpiryIndex()
        for line in self.ready.lines:
            for each in line.parts():
                each.indexed = False
                self.index(each)
        self._expiring = True  # the next delivery clears it if no message expires

    def _requeue_lost(self, entry: Entry) -> None:
        """Requeue a message that neither a session nor a dead letter holds, unless it was settled."""
        self.held.pop(entry.position, None)
        if entry.settled:
            self.settle([entry])
            return
        if entry.gone:  # its entry is still in the order, to be skipped
            entry = entry.copy()
        entry.indexed = False
        self.index(entry)
        self.ready.put_back(entry)

    # -- messages that leave ---------------------------------------------------------------------------------

    def record_delivery(self, entries: list[Entry], *, no_ack: bool) -> None:
        """Record the delivery of messages in the log; with ``no_ack`` the delivery settles them."""
        if no_ack:
            self.settle(entries)
            return
        stored = {entry.position: entry for entry in entries if entry.stored}
        if stored and self.log is not None:
            self.held |= stored
            self.log.mark_delivered(max(stored))  # not the last: with priorities, it may have a low position

    def _count_returned(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Count redeliveries. This is called only while a ready message may have been delivered before."""
        count = sum(entry.returns > 0 for entry in entries)
        self.counts.redeliver += count
        consumer.redelivered += count
        self._returned = len(self.ready) > 0

    def settle(self, entries: Iterable[Entry], *, moved: bool = False) -> None:
        """Settle messages: they leave the queue and its log for good, because they were acknowledged or
        dropped, or ``moved`` to other queues as dead letters.

        The publisher's confirm of a moved message still waits until the message is on disk.
        """
        stored: list[Entry] = []
        for entry in entries:
            if not moved:
                entry.settled = True
            if entry.stored:
                entry.stored = False
                self.held.pop(entry.position, None)
                stored.append(entry)
        if stored and self.log is not None:
            self.log.settle(stored)

    def remove_ready(self, entries: Collection[Entry], run: Run | None = None) -> None:
        """Remove ready messages that are in memory, at any place in the order, and drop them.

        ``run`` is the run that all of them are in, or None if they are in no run. A caller that moves
        messages has enqueued them elsewhere before.
        """
        for entry in entries:
            self.bytes -= entry.message.size
            if run is None:
                self.ready.remove(entry)
                if entry.indexed:
                    self.expiry.discard(entry)
        if run is not None and self.paging is not None:
            self.paging.remove(run, entries)
        self.settle(entries)
        self.touch()

    def refuse(self, entry: Entry) -> None:
        """Remove a message that the log failed to record; its publisher's confirm is negative.

        A message that was delivered, or is being dead-lettered, only ceases to be stored.
        """
        line = self.ready.level(entry)
        ready = any(each is entry for each in _unpaged(line, entry.position))
        entry.stored = False
        if self.held.pop(entry.position, None) is None and ready:
            run = next((run for run in line.runs if entry in (run.entries or ())), None)
            self.remove_ready([entry], run)
        entry.settled, entry.refused = False, True
        self.host.forget_published(entry.message)

    def unpaged(self, first: int, below: int) -> list[tuple[int, list[Entry]]]:
        """Return stored entries, ready or held, that are in no page; positions in [``first``, ``below``).

        The result has each priority with its entries, sorted by position.
        """
        found = {line.priority: _unpaged(line, first) for line in self.ready.lines}
        for entry in self.held.values():
            if entry.page is None:
                found.setdefault(self.ready.level(entry).priority, []).append(entry)
        for priority, entries in found.items():
            found[priority] = [
                entry for entry in entries if first <= entry.position < below and not entry.gone
            ]
            found[priority].sort(key=POSITION)
        return list(found.items())

    def _load_next(self) -> bool:
        """Load the next messages into memory.

        Returns False if there are none, or if they have to be read first.
        """
        return self.paging is not None and self.paging.load_next()
