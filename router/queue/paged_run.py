"""Runs: messages that stand in a queue's order as one, because they are not in memory.

Owns what a queue knows of such messages: how many they are, how large, and when the first of them expires.
Where they are on disk is the business of whoever moved them there, see ``Pager``.
"""

from typing import TYPE_CHECKING, Protocol

from leveret.router.queue.entry import Entry, Page

if TYPE_CHECKING:
    from leveret.router.queue.fifo import Fifo
    from leveret.router.queue.queue import Queue


class Run:
    """Consecutive ready messages of one queue, of one priority, that share a page.

    ``entries`` are they themselves as long as, or as soon as, they are in memory, else None. ``away`` says
    that they do not count as being in memory: they are on disk, or are being written. ``reading`` says that
    they were asked for, ``damage`` why they cannot be read. ``line`` is the order that the run stands in.

    To the expiry index a run is one entry: ``position`` is that of its first message, ``expires`` the first
    deadline of any of them (0: none).
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
        """``count`` messages with ``size`` bytes of bodies."""
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
        """A run of these entries, which are in memory."""
        size = sum(entry.message.size for entry in entries)
        run = cls(line, page, entries[0].position, count=len(entries), size=size, entries=entries)
        run.expires = run.earliest()
        return run

    def earliest(self) -> int:
        """The first deadline of its entries; 0 for none."""
        return min((entry.expires for entry in self.entries or () if entry.expires), default=0)

    def __lt__(self, other: "Run | Entry") -> bool:
        return self.position < other.position


class Pager(Protocol):
    """Whoever moves a queue's messages between memory and disk."""

    def weigh(self, queue: "Queue", weight: int) -> None:
        """So many bytes of memory the queue's ready messages take up now."""

    def write(self, queue: "Queue", run: Run) -> None:
        """Have a run's messages written to a page of theirs; then it lets go of its entries."""

    def read(self, queue: "Queue", run: Run) -> None:
        """Have a run's page read; then ``queue.paging.loaded`` is called with what it holds."""

    def release(self, queue: "Queue", run: Run) -> None:
        """The queue needs no more what its run's page has of it."""
