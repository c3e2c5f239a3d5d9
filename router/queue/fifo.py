"""The ready messages of one priority of a queue: first in, first out.

Responsible for order and counts; consumers, limits and deadlines are elsewhere. Entries that were never
delivered are in a deque. Requeued entries are in a heap before it, by position: messages are delivered from
the head, so every requeued entry precedes every fresh one of its priority.

Of a long order, only the two ends are in memory. The runs between ``fresh`` and ``tail`` have their messages
on disk; a run has to be loaded before any message after it can leave.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.queue.page_out import move_head, take_run
from leveret.router.queue.paged_run import Run

POSITION = attrgetter("position")


def _standing(entries: deque[Entry], first: int) -> Iterator[Entry]:
    """Return the entries from the position ``first`` on, found by bisection."""
    start = bisect_left(entries, first, key=POSITION) if first else 0
    return (entry for entry in islice(entries, start, None) if not entry.gone)


class Fifo:
    """Entries of one ``priority``.

    ``away`` and ``away_size`` count the messages that are not in memory, and the bytes of their bodies.
    """

    __slots__ = (
        "away",
        "away_size",
        "back",
        "fresh",
        "gone",
        "in_runs",
        "priority",
        "returned",
        "runs",
        "tail",
    )

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self.fresh: deque[Entry] = deque()
        self.returned: list[Entry] = []
        self.runs: deque[Run] = deque()  # after the fresh entries
        self.tail: deque[Entry] = deque()  # after the runs; empty if there are no runs
        self.back = self.fresh  # the deque that new entries are added to
        self.gone = 0  # removed entries that are still in the containers, to be skipped
        self.in_runs = 0
        self.away = 0
        self.away_size = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned) + len(self.tail) - self.gone + self.in_runs

    def __iter__(self) -> Iterator[Entry]:
        """Yield all entries that are in memory, in the order of delivery."""
        for entry in sorted(self.returned):
            if not entry.gone:
                yield entry
        for entry in self.fresh:
            if not entry.gone:
                yield entry
        for run in self.runs:
            yield from run.entries or ()
        for entry in self.tail:
            if not entry.gone:
                yield entry

    def head(self) -> Entry | None:
        """Return the next entry to be delivered; None if the Fifo is empty or the entry is not in memory."""
        self.blocked_line()  # discards removed entries at the head
        return self.returned[0] if self.returned else self.fresh[0] if self.fresh else None

    def oldest(self) -> int | None:
        """Return the lowest position; None if there are no messages."""
        self.blocked_line()  # discards removed entries at the head
        if self.returned:
            return self.returned[0].position
        if self.fresh:
            return self.fresh[0].position
        return self.runs[0].position if self.runs else None

    def parts(self, first: int = 0) -> Iterator[Entry | Run]:
        """Yield entries from position ``first`` on, and all runs as wholes, in the order of delivery."""
        yield from (entry for entry in sorted(self.returned) if entry.position >= first and not entry.gone)
        yield from _standing(self.fresh, first)
        yield from self.runs
        yield from _standing(self.tail, first)

    @property
    def lines(self) -> "list[Fifo]":
        """The Fifos of all priorities: this one."""
        return [self]

    def level(self, entry: Entry) -> "Fifo":
        return self

    def level_of(self, priority: int) -> "Fifo":
        return self

    def push(self, entry: Entry) -> None:
        self.back.append(entry)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries of this priority at the end, in their order."""
        self.back.extend(entries)

    def passes(self, message: Message) -> bool:
        """Return True if a new message would be delivered before older ones: never, see ``Priorities``."""
        return False

    def put_back(self, entry: Entry) -> None:
        heappush(self.returned, entry)

    def in_deadline_order(self, expires: int) -> bool:
        """Return True if an entry pushed now needs no place in the expiry index.

        It expires after all entries before it, so it is found by its deadline when it reaches the head. Such
        entries always form an unbroken sequence that begins at the head.
        """
        if not self.back:
            return not self.runs
        last = self.back[-1]
        return not (last.gone or last.indexed) and 0 < last.expires <= expires

    def available(self) -> int:
        """Return how many messages can be taken before a run has to be loaded, removed ones included."""
        return len(self.fresh) + len(self.returned) if self.runs else len(self)

    def take(self, count: int, size: int) -> list[Entry]:
        """Take up to ``count`` entries from the head; stop when their frames total ``size`` bytes or more."""
        taken: list[Entry] = []
        while self.returned and count and size > 0:
            entry = heappop(self.returned)
            if entry.gone:
                self.gone -= 1
                continue
            taken.append(entry)
            count -= 1
            size -= len(entry.message.frames)
        fresh = self.fresh
        while fresh and count and size > 0:
            entry = fresh.popleft()
            if entry.gone:
                self.gone -= 1
                continue
            taken.append(entry)
            count -= 1
            size -= len(entry.message.frames)
        return taken

    def overdue(self, now: int, limit: int) -> list[Entry]:
        """Take up to ``limit`` entries with a deadline before ``now`` from the head of the fresh ones."""
        taken: list[Entry] = []
        while self.fresh and len(taken) < limit:
            entry = self.fresh[0]
            if entry.gone:
                self.gone -= 1
            elif entry.indexed or not 0 < entry.expires < now:
                break
            else:
                taken.append(entry)
            self.fresh.popleft()
        return taken

    def next_deadline(self) -> int:
        """Return the deadline of the first fresh entry; 0 if the entry has no deadline or the expiry index
        contains it.
        """
        fresh = self.fresh
        while fresh and fresh[0].gone:
            fresh.popleft()
            self.gone -= 1
        return 0 if not fresh or fresh[0].indexed else fresh[0].expires

    def remove(self, entry: Entry) -> None:
        """Remove an entry from any place in the order, without searching for it."""
        entry.gone = True
        self.gone += 1
        if self.gone > 64 and self.gone * 2 > len(self.fresh) + len(self.returned) + len(self.tail):
            self.returned = sorted(entry for entry in self.returned if not entry.gone)
            for entries in (self.fresh, self.tail):
                left = [entry for entry in entries if not entry.gone]
                entries.clear()
                entries.extend(left)
            self.gone = 0

    # -- runs ----------------------------------------------------------------------------------------------

    def blocked_line(self) -> "Fifo | None":
        """Return this Fifo if its next message is in a run; None if it is in memory or the Fifo is empty.

        Discards removed entries at the head.
        """
        while self.fresh and self.fresh[0].gone:
            self.fresh.popleft()
            self.gone -= 1
        while self.returned and self.returned[0].gone:
            heappop(self.returned)
            self.gone -= 1
        return self if self.runs and not (self.fresh or self.returned) else None

    def push_run(self, run: Run) -> None:
        """Add a run at the end."""
        self.runs.append(run)
        self.back = self.tail
        self._count(run, 1)

    def advance(self) -> Run:
        """Replace the first run, whose entries are in memory, by its entries; return the run."""
        run = self.runs.popleft()
        self._count(run, -1)
        self.fresh.extend(run.entries or ())
        self._join()
        return run

    def set_entries(self, run: Run, entries: list[Entry], *, away: bool = False) -> None:
        """Replace the messages of a run by these entries, which are in memory.

        ``away`` is True if they are being written, and do not count as being in memory. A run without
        entries is removed.
        """
        self._count(run, -1)
        run.entries = entries
        run.count = len(entries)
        run.size = sum(entry.message.size for entry in entries)
        run.away = away
        self._count(run, 1)
        if not entries:
            self.drop(run)

    def unload(self, run: Run) -> None:
        """Release the memory of a run's entries, which its page has."""
        self._count(run, -1)
        run.entries = None
        run.away = True
        self._count(run, 1)

    def drop(self, run: Run) -> None:
        """Remove a run with all its messages."""
        self.runs.remove(run)
        self._count(run, -1)
        self._join()

    def page_out(self, most: int) -> list[Run]:
        """Move about ``most`` messages that follow the head, or the last run, into new runs; return the runs.

        The entries of a run with a page can be released at once, others when they are written to a page.
        """
        if not self.runs:
            self.back = self.tail = self.fresh
            self.fresh = deque()
            move_head(self.tail, self.fresh)
        made: list[Run] = []
        while most > 0 and (run := take_run(self)) is not None:
            made.append(run)
            most -= run.count
            self.runs.append(run)
            self._count(run, 1)
        self._join()
        return made

    def _join(self) -> None:
        """Join the tail to the fresh entries if there are no runs left between them."""
        if not self.runs and self.back is self.tail:
            if self.fresh:
                self.fresh.extend(self.tail)
            else:
                self.fresh = self.tail
            self.tail = deque()
            self.back = self.fresh

    def _count(self, run: Run, sign: int) -> None:
        self.in_runs += sign * run.count
        if run.away:
            self.away += sign * run.count
            self.away_size += sign * run.size
