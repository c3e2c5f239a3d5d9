"""Runs: consecutive messages of a queue that are one item of its order, because they are not in memory.

Responsible for the number and the size of such messages, and for their first deadline. The ``Pager`` writes
and reads their pages on disk.
"""

from typing import TYPE_CHECKING, Protocol

from leveret.router.queue.entry import Entry, Page

if TYPE_CHECKING:
    from leveret.router.queue.fifo import Fifo
    from leveret.router.queue.queue import Queue


class Run:
    """Consecutive ready messages of one queue, of one priority, that share a page.

    ``entries`` are the messages while they are in memory, else None. ``away`` is True if they do not count as
    being in memory: they are on disk, or are being written. ``reading`` is True while a read is pending;
    ``damage`` is the reason why the page cannot be read, or empty. ``line`` is the Fifo of the run.

    The expiry index holds a run as one item: ``position`` is that of its first message, ``expires`` the first
    deadline of its messages (0: none).
    """

    __slots__ = (
        "away",
        "count",
        "damage",
        "entries",
        "expires",
        "indexed",
        "line",
        "page",
        "position",
        "reading",
        "size",
    )

    def __init__(
        self,
        line: "Fifo",
        page: Page | None,
        position: int,
        *,
        count: int,
        size: int,
        expires: int = 0,
        entries: list[Entry] | None = None,
    ) -> None:
        """Make a run of ``count`` messages with ``size`` bytes of bodies."""
        self.line = line
        self.page = page
        self.position = position
        self.count = count
        self.size = size
        self.expires = expires
        self.entries = entries
        self.indexed = False
        self.reading = False
        self.damage = ""
        self.away = entries is None

    @classmethod
    def of(cls, line: "Fifo", entries: list[Entry], page: Page | None = None) -> "Run":
        """Return a run of entries that are in memory."""
        size = sum(entry.message.size for entry in entries)
        run = cls(line, page, entries[0].position, count=len(entries), size=size, entries=entries)
        run.expires = run.earliest()
        return run

    def earliest(self) -> int:
        """Return the first deadline of the entries; 0 if none expires."""
        return min((entry.expires for entry in self.entries or () if entry.expires), default=0)

    def __lt__(self, other: "Run | Entry") -> bool:
        return self.position < other.position


class Pager(Protocol):
    """Interface of the service that moves messages of queues between memory and disk."""

    def weigh(self, queue: "Queue", weight: int) -> None:
        """Set the number of bytes of memory that the queue's ready messages use."""

    def write(self, queue: "Queue", run: Run) -> None:
        """Write a run's messages to a new page, then release its entries."""

    def read(self, queue: "Queue", run: Run) -> None:
        """Read a run's page, then call ``queue.paging.loaded`` with its unsettled messages."""

    def release(self, queue: "Queue", run: Run) -> None:
        """Release a run's page: the queue no longer needs the messages in it."""
