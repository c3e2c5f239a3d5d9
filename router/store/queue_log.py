"""The stored log of one durable queue: its pages, its notes, and the changes that are still to be written.

Not for the time of writing (see ``leveret.router.store.commits``).
"""

from collections.abc import Container, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.store.journal.records import Range, pack_progress, pack_returned, ranges
from leveret.router.store.notes import StoredNotes
from leveret.router.store.segments.pages import StoredPage

if TYPE_CHECKING:
    from leveret.router.store.store import Store
    from leveret.router.store.unpackable import Unpackable
    from leveret.router.store.writer import Job


class StoredQueue(Protocol):
    """Interface of a durable queue, as the store sees it."""

    def unpaged(self, first: int, below: int) -> Sequence[tuple[int, Sequence[Entry]]]:
        """Return the stored entries without a page at positions in [``first``, ``below``).

        They may be ready or delivered. The result has each priority with its entries, sorted by position.
        """

    def refuse(self, entry: Entry) -> None:
        """Remove a message that has no record on disk, because it could not be packed."""


class StoredQueueLog:
    """The ``QueueLog`` of one durable queue.

    A queue that is deleted and declared again gets another ``id``.
    """

    __slots__ = (
        "_store",
        "_touched",
        "committed_below",
        "delivered",
        "discarded",
        "id",
        "moved",
        "next_position",
        "notes",
        "pages",
        "queue",
        "recovered",
        "returned",
        "settled",
    )

    def __init__(self, store: "Store", number: int, queue: StoredQueue) -> None:
        self.id = number
        self.queue = queue
        self.next_position = 0
        self.committed_below = 0  # every position below it is on disk or settled
        self.delivered = 0  # every position below it was delivered at least once
        self.recovered = 0  # every position below it was delivered at least once before the broker started
        self.moved = 0  # no unsettled message below this position is in the journal only
        self.pages: dict[StoredPage, None] = {}  # pages with live messages
        self.settled: list[int] = []  # in this turn, and as ranges:
        self.discarded: list[Range] = []
        self.returned: list[tuple[int, int]] = []
        self.notes = StoredNotes(store, number)
        self._store = store
        self._touched = False

    def store(self, entry: Entry, message: Message) -> None:
        """Store a message; it is written with the batch of this turn, unless it is settled before that."""
        entry.stored = True
        self.next_position = entry.position + 1
        self._store.publishes.append((self, entry, message))

    def store_all(self, entries: Sequence[Entry], messages: Sequence[Message]) -> None:
        """Store messages with consecutive positions."""
        for entry in entries:
            entry.stored = True
        self.next_position = entries[-1].position + 1
        self._store.publishes += zip(repeat(self), entries, messages, strict=False)

    def settle(self, entries: Sequence[Entry]) -> None:
        """Record that stored messages were settled."""
        if len(entries) == 1:
            highest = entries[0].position
            self.settled.append(highest)
        else:
            positions = [entry.position for entry in entries]
            self.settled += positions
            highest = max(positions)
        if highest >= self.committed_below:
            self._store.settled_early = True
        if not self._touched:
            self._touched = True
            self._store.touched.append(self)
        if self.pages:
            self._settle_in_pages(entries)

    def _settle_in_pages(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            page = entry.page
            if page is not None and page.live:
                assert isinstance(page, StoredPage)
                page.settle(entry.position)
                if not page.live:
                    self._page_died(page)

    def discard(self, page: StoredPage, held: Container[int]) -> None:
        """Settle all messages of a page except those that are ``held``."""
        gone = [position for position in page.unsettled() if position not in held]
        if gone:
            self.discarded += ranges(gone)  # a purge may be of millions
            if gone[-1] >= self.committed_below:
                self._store.settled_early = True
            if not self._touched:
                self._touch()
            for position in gone:
                page.settle(position)
        if not page.live:
            self._page_died(page)

    def take_page(self, page: StoredPage, entries: Sequence[Entry]) -> None:
        """Record that a page was made of these entries, which are removed from their previous pages."""
        self.pages[page] = None
        for entry in entries:
            if entry.stored:
                old, entry.page = entry.page, page
                if old is not None:
                    assert isinstance(old, StoredPage)
                    old.settle(entry.position)
                    if not old.live:
                        self._page_died(old)

    def _page_died(self, page: StoredPage) -> None:
        """Remove a page, all of whose messages are settled."""
        if page in self.pages:
            del self.pages[page]
            self._store.segments.remove(page)

    def mark_delivered(self, position: int) -> None:
        """Record that a message was delivered: after a restart it is marked as redelivered."""
        if position >= self.delivered:
            self.delivered = position + 1
            if not self._touched:
                self._touched = True
                self._store.touched.append(self)

    def mark_returned(self, entry: Entry) -> None:
        """Record the number of times that a message was returned by a consumer."""
        self.returned.append((entry.position, entry.returns))
        if entry.page is not None:
            entry.page.give_back(entry.position, entry.returns)
        if not self._touched:
            self._touch()

    def commit(self, below: int) -> None:
        """Record that every position below this one is on disk or settled."""
        self.committed_below = below

    def flush(self, below: int) -> bool:
        """Return False: ``Retirement`` moves messages of queues into pages."""
        return False

    def drop(self) -> "Sequence[Job]":
        """Release the pages of the deleted queue; return no jobs, because none follow."""
        for page in self.pages:
            page.die()
            self._store.segments.remove(page)
        self.pages = {}
        return ()

    def _touch(self) -> None:
        self._touched = True
        self._store.touched.append(self)

    def records(self) -> list[bytes]:
        """Return records of settlements, deliveries and returns. The caller calls ``packed`` once a batch has
        them.
        """
        settled = ranges(self.settled) if len(self.settled) != 1 else [(self.settled[0], 1)]
        if self.discarded:
            settled += self.discarded
        parts = [pack_progress(self.id, self.delivered, settled)]
        if self.returned:
            parts.append(pack_returned(self.id, self.returned))
        return parts

    def leave_out(self, unpackable: "Unpackable") -> None:
        """Remove a settlement or a count of returns whose record cannot be packed."""
        key = unpackable.key
        if unpackable.kind == "settlement":
            self.settled = [each for each in self.settled if each is not key]
        elif unpackable.kind == "returns":
            self.returned = [each for each in self.returned if each is not key]

    def packed(self) -> None:
        """Start the changes of the next batch."""
        self._touched = False
        if self.settled:
            self.settled = []
        if self.discarded:
            self.discarded = []
        if self.returned:
            self.returned = []
