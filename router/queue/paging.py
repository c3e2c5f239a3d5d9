"""Paging of one queue: moving runs of ready messages out of memory, and loading them before delivery.

Responsible for the exchange between a queue's order and the ``Pager``, which writes and reads pages and
decides when memory is short. A queue whose next message is on disk delivers nothing until it has been read.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from leveret.protocol.errors import InternalError
from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Pager, Run

if TYPE_CHECKING:
    from leveret.router.queue.queue import Queue

COST = 500  # bytes of memory that a message uses in addition to its body, about
READ_AHEAD = 2  # runs after the next one that are read in advance


class NextMessagePending(Exception):
    """The next message of ``queue`` cannot be taken yet: it is being read, or messages are being requeued."""

    def __init__(self, queue: "Queue") -> None:
        super().__init__("the next message has to be read or requeued first")
        self.queue = queue


class Paging:
    """The runs of one queue. ``weight`` is its last reported use of memory, in bytes."""

    __slots__ = ("_pager", "_queue", "weight")

    def __init__(self, queue: "Queue", pager: Pager) -> None:
        self._queue = queue
        self._pager = pager
        self.weight = 0

    def weigh(self) -> None:
        """Report the queue's use of memory to the pager, if it has changed."""
        queue = self._queue
        ready = queue.ready
        weight = queue.bytes - ready.away_size + COST * (len(ready) - ready.away)
        if weight != self.weight:
            self._pager.weigh(queue, weight)
            self.weight = weight

    def page_out(self, most: int) -> int:
        """Move about ``most`` messages out of memory; return their number."""
        queue = self._queue
        runs = queue.ready.page_out(most)
        for run in runs:
            for entry in run.entries or ():
                if entry.indexed:
                    queue.expiry.discard(entry)
            queue.index(run)
            if run.page is None:
                self._pager.write(queue, run)
            else:
                run.entries = None
        self.weigh()
        return sum(run.count for run in runs)

    def load_next(self) -> bool:
        """Make the messages of the next run available, and read ahead.

        Returns False if the run has to be read first or cannot be read. The queue waits then, and skips
        no message.
        """
        queue = self._queue
        line = queue.ready.blocked_line()
        if line is None:
            return False
        for run in islice(line.runs, 1 + READ_AHEAD):
            if run.entries is None and not (run.reading or run.damage):
                self._read(run)
        if line.runs[0].entries is None:
            return False
        self._unwrap(line.advance())
        return True

    def _unwrap(self, run: Run) -> None:
        """Index the entries that have replaced their run in the order."""
        queue = self._queue
        if run.indexed:
            queue.expiry.discard(run)
        for entry in run.entries or ():
            if entry.expires:
                queue.index(entry)
        self._settle_unstored(run, run.entries or ())

    def _settle_unstored(self, run: Run, entries: Sequence[Entry]) -> None:
        """Settle the entries of a run's page that are not stored; release the page if it has no others."""
        page = run.page
        if page is not None and page.live:
            for entry in entries:
                if not entry.stored:
                    page.settle(entry.position)
            if not page.live:
                self._pager.release(self._queue, run)

    def _read(self, run: Run) -> None:
        run.reading = True
        self._pager.read(self._queue, run)

    def raise_if_pending(self) -> None:
        """Raise NextMessagePending if the next message is being read, InternalError if it cannot be read."""
        line = self._queue.ready.blocked_line()
        if line is not None:
            if line.runs[0].damage:
                raise InternalError(line.runs[0].damage)
            raise NextMessagePending(self._queue)

    def awaits_disk(self) -> bool:
        """Return True if the next message is still being read."""
        line = self._queue.ready.blocked_line()
        return line is not None and line.runs[0].entries is None and not line.runs[0].damage

    def read_again(self, run: Run) -> None:
        """Retry the read of a run that failed, if the run is still in the queue."""
        if run.damage:
            run.damage = ""
            self._read(run)

    def loaded(self, run: Run, entries: list[Entry]) -> None:
        """Add the unsettled messages of a run's page, ``entries``, after it was read."""
        queue = self._queue
        if not run.reading:
            return  # the queue was purged or deleted since
        run.reading = False
        held = queue.held
        entries = [entry for entry in entries if entry.position not in held]
        queue.bytes += sum(entry.message.size for entry in entries) - run.size
        run.line.set_entries(run, entries)
        if not entries:
            queue.expiry.discard(run)  # ``set_entries`` has removed it
        elif not run.indexed:
            queue.index(run)  # it was read because an entry has expired
        queue.shorten()
        queue.touch()

    def unreadable(self, run: Run, damage: str) -> None:
        """Record that a run could not be read; ``damage`` is the error text for clients."""
        if run.reading:
            run.reading = False
            run.damage = damage

    def expire(self, run: Run, now: int) -> list[Entry]:
        """Remove and return a run's messages with a deadline before ``now``; read the run first if needed."""
        if run.entries is None:
            if not (run.reading or run.damage):
                self._read(run)
            return []
        line, page = run.line, run.page
        due = [entry for entry in run.entries if 0 < entry.expires < now]
        left = [entry for entry in run.entries if not 0 < entry.expires < now]
        line.set_entries(run, left, away=run.away)
        run.expires = run.earliest()
        self._queue.index(run)
        self._settle_unstored(run, due)
        if left and page is not None and page.written and run not in islice(line.runs, 1 + READ_AHEAD):
            line.unload(run)
        return due

    def fetch(self, run: Run) -> None:
        """Read a run's messages, at any place in the order, so that they can be browsed."""
        if run.entries is None and not (run.reading or run.damage):
            self._read(run)

    def unload(self, run: Run) -> None:
        """Release the memory of a browsed run, unless its messages are among the next to be delivered."""
        page = run.page
        if run.entries is not None and page is not None and page.written:
            line = run.line
            if run in line.runs and run not in islice(line.runs, 1 + READ_AHEAD):
                line.unload(run)

    def remove(self, run: Run, chosen: Collection[Entry]) -> None:
        """Remove some messages, which are in memory, from a run."""
        queue, line = self._queue, run.line
        left = [entry for entry in run.entries or () if entry not in chosen]
        if run.indexed:
            queue.expiry.discard(run)
        line.set_entries(run, left, away=run.away)
        run.expires = run.earliest()
        if left:
            queue.index(run)
        self._settle_unstored(run, list(chosen))

    def drop(self) -> None:
        """Remove all runs, which refer to their line; cancel pending reads and release their pages."""
        for line in self._queue.ready.lines:
            for run in list(line.runs):
                run.reading = False
                run.damage = ""
                self._pager.release(self._queue, run)
                line.drop(run)

    def close(self) -> None:
        """Remove all runs of a deleted queue, and report that it uses no memory."""
        self.drop()
        self._pager.weigh(self._queue, 0)
        self.weight = 0
