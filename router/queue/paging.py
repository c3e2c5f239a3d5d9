"""What of one queue is not in memory: bringing it back in time, and giving up memory when it is asked for.

Owns the traffic between a queue's order and whoever writes and reads its pages. A queue whose next message is
on disk is simply not ready until it has been read; what is read, and when memory is short, is the ``Pager``'s
business.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from leveret.protocol.errors import InternalError
from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Pager, Run

if TYPE_CHECKING:
    from leveret.router.queue.queue import Queue

COST = 500  # bytes of memory that a message takes up beside its body, about
READ_AHEAD = 2  # runs that are read before their turn comes


class NextMessagePending(Exception):
    """The next message of ``queue`` is not in memory: it has to be read first."""

    def __init__(self, queue: "Queue") -> None:
        super().__init__("the next message has to be read first")
        self.queue = queue


class Paging:
    """The runs of one queue. ``weight`` is what its ready messages were last said to take up, in bytes."""

    __slots__ = ("_pager", "_queue", "weight")

    def __init__(self, queue: "Queue", pager: Pager) -> None:
        self._queue = queue
        self._pager = pager
        self.weight = 0

    def weigh(self) -> None:
        """Tell how much memory the queue takes up, if that has changed."""
        queue = self._queue
        ready = queue.ready
        weight = queue.bytes - ready.away_size + COST * (len(ready) - ready.away)
        if weight != self.weight:
            self._pager.weigh(queue, weight)
            self.weight = weight

    def page_out(self, most: int) -> int:
        """Give up the memory of about ``most`` messages; return of how many."""
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
        """Have the next messages, which are in a run, at hand. False when they have to be read first, or
        cannot be read: the queue stands still then, and skips nothing.
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
        """A run's messages stand by themselves."""
        queue = self._queue
        if run.indexed:
            queue.expiry.discard(run)
        for entry in run.entries or ():
            queue.index(entry)
        self._settle_unstored(run, run.entries or ())

    def _settle_unstored(self, run: Run, entries: Sequence[Entry]) -> None:
        """What of a run's messages is not kept on disk is not in its page any more."""
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
        """Whether the next message is still being read."""
        line = self._queue.ready.blocked_line()
        return line is not None and line.runs[0].entries is None and not line.runs[0].damage

    def read_again(self, run: Run) -> None:
        """What could not be read may be readable now, if it is still needed."""
        if run.damage:
            run.damage = ""
            self._read(run)

    def loaded(self, run: Run, entries: list[Entry]) -> None:
        """A run was read: ``entries`` are what its page holds of live messages."""
        queue = self._queue
        if not run.reading:
            return  # it is not wanted any more
        run.reading = False
        held = queue.held
        entries = [entry for entry in entries if entry.position not in held]
        queue.bytes += sum(entry.message.size for entry in entries) - run.size
        run.line.set_entries(run, entries)
        if not entries:
            queue.expiry.discard(run)  # it is gone
        elif not run.indexed:
            queue.index(run)  # it was read because something in it is due
        queue.shorten()
        queue.touch()

    def unreadable(self, run: Run, damage: str) -> None:
        """A run could not be read, for a reason that people can do something about."""
        if run.reading:
            run.reading = False
            run.damage = damage

    def expire(self, run: Run, now: int) -> list[Entry]:
        """Take out those of a run's messages whose deadline is before ``now``, once they are in memory."""
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
        """Have a run's messages read, wherever it stands, for somebody who wants to look at them."""
        if run.entries is None and not (run.reading or run.damage):
            self._read(run)

    def unload(self, run: Run) -> None:
        """Nobody looks at a run's messages any longer: they need not be in memory before their turn comes."""
        page = run.page
        if run.entries is not None and page is not None and page.written:
            line = run.line
            if run in line.runs and run not in islice(line.runs, 1 + READ_AHEAD):
                line.unload(run)

    def remove(self, run: Run, chosen: Collection[Entry]) -> None:
        """Take some of a run's messages, which are in memory, out of the queue."""
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
        """The queue's ready messages are gone, and with them what was damaged and what was waited for."""
        ready = self._queue.ready
        for run in ready.runs:
            run.reading = False
            run.damage = ""
            self._pager.release(self._queue, run)
        ready.drop_runs()

    def close(self) -> None:
        """The queue is gone, and takes up no memory."""
        self.drop()
        self._pager.weigh(self._queue, 0)
        self.weight = 0
