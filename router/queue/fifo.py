"""The order in which ready messages of one priority leave a queue: first in, first out.

Owns order and counts; knows nothing of consumers, limits or time. Entries that were never delivered stand in
a deque; those that came back stand before them in a heap, by position: whatever was delivered came from the
head, so every returned entry precedes every fresh one of its priority.

A long order is in memory at its ends only. Between ``fresh`` and ``tail`` there are runs then, whose messages
are on disk; they have to be brought into memory before anything behind them can leave.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Run

POSITION = attrgetter("position")
HEAD = 256  # messages at the head that stay in memory,
HEAD_BYTES = 1 << 20  # if their bodies are not larger
PAGE_MESSAGES = 1024  # messages of a page at the most
PAGE_BYTES = 1 << 20  # a page ends with the message that brings it to so many bytes
FEW = 64  # messages that are not worth a page of their own


def _standing(entries: deque[Entry], first: int) -> Iterator[Entry]:
    """The entries from the position ``first`` on; those before it cost next to nothing."""
    start = bisect_left(entries, first, key=POSITION) if first else 0
    return (entry for entry in islice(entries, start, None) if not entry.gone)


class Fifo:
    """Entries of one ``priority``. ``away`` and ``away_size`` count messages, and bytes of their bodies, that
    are not in memory.
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
        self.runs: deque[Run] = deque()  # behind the fresh entries
        self.tail: deque[Entry] = deque()  # behind the runs; empty when there are none
        self.back = self.fresh  # where the next entry goes
        self.gone = 0  # entries still standing here that were taken out from the middle
        self.in_runs = 0
        self.away = 0
        self.away_size = 0

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned) + len(self.tail) - self.gone + self.in_runs

    def __iter__(self) -> Iterator[Entry]:
        """All entries that are in memory, in the order they would leave."""
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
        """The entry that would leave next; None when it is not in memory, or there is none."""
        self.blocked_line()  # which drops what has gone from the head
        return self.returned[0] if self.returned else self.fresh[0] if self.fresh else None

    def oldest(self) -> int | None:
        """The lowest position of all; None when there are none."""
        self.blocked_line()  # which drops what has gone from the head
        if self.returned:
            return self.returned[0].position
        if self.fresh:
            return self.fresh[0].position
        return self.runs[0].position if self.runs else None

    def parts(self, first: int = 0) -> Iterator[Entry | Run]:
        """All of it in the order it would leave, without the entries before the position ``first``; runs as
        wholes, be they in memory or not.
        """
        yield from (entry for entry in sorted(self.returned) if entry.position >= first and not entry.gone)
        yield from _standing(self.fresh, first)
        yield from self.runs
        yield from _standing(self.tail, first)

    @property
    def lines(self) -> "list[Fifo]":
        """The orders that it is made of: itself."""
        return [self]

    def level(self, entry: Entry) -> "Fifo":
        return self

    def level_of(self, priority: int) -> "Fifo":
        return self

    def unpaged(self, first: int) -> list[Entry]:
        """The entries in memory from the position ``first`` on that are stored and in no page."""
        loose = [self.returned, *(run.entries or () for run in self.runs if run.page is None)]
        found = [entry for entries in loose for entry in entries if entry.stored and entry.page is None]
        for entries in (self.tail, self.fresh):
            for entry in reversed(entries):
                if entry.position < first:
                    break
                if entry.stored and entry.page is None:
                    found.append(entry)
        return found

    def push(self, entry: Entry) -> None:
        self.back.append(entry)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Push entries of one priority, in their order."""
        self.back.extend(entries)

    def passes(self, message: Message) -> bool:
        """Whether a new message would leave before some that are here: never."""
        return False

    def put_back(self, entry: Entry) -> None:
        heappush(self.returned, entry)

    def in_deadline_order(self, expires: int) -> bool:
        """Whether an entry pushed now would expire after all before it, so that looking at the head is enough
        for it.

        The entries for which that holds are always a run that begins at the head.
        """
        if not self.back:
            return not self.runs
        last = self.back[-1]
        return not (last.gone or last.indexed) and 0 < last.expires <= expires

    def available(self) -> int:
        """How many can leave before a run is reached, or a few more."""
        return len(self.fresh) + len(self.returned) if self.runs else len(self)

    def take(self, count: int, size: int) -> list[Entry]:
        """Take up to ``count`` entries from the head, and no more once their bodies reach ``size`` bytes."""
        taken: list[Entry] = []
        while self.returned and count and size > 0:
            entry = heappop(self.returned)
            if entry.gone:
                self.gone -= 1
                continue
            taken.append(entry)
            count -= 1
            size -= entry.message.size
        fresh = self.fresh
        while fresh and count and size > 0:
            entry = fresh.popleft()
            if entry.gone:
                self.gone -= 1
                continue
            taken.append(entry)
            count -= 1
            size -= entry.message.size
        return taken

    def overdue(self, now: int, limit: int) -> list[Entry]:
        """Take from the head of the fresh entries up to ``limit`` whose deadline is before ``now``."""
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
        """The deadline of the first fresh entry if the head tells it (0: none)."""
        fresh = self.fresh
        while fresh and fresh[0].gone:
            fresh.popleft()
            self.gone -= 1
        return 0 if not fresh or fresh[0].indexed else fresh[0].expires

    def remove(self, entry: Entry) -> None:
        """Take an entry out wherever it stands."""
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
        """Itself when the next message is in a run, None when it is at hand or there is none."""
        while self.fresh and self.fresh[0].gone:
            self.fresh.popleft()
            self.gone -= 1
        while self.returned and self.returned[0].gone:
            heappop(self.returned)
            self.gone -= 1
        return self if self.runs and not (self.fresh or self.returned) else None

    def push_run(self, run: Run) -> None:
        """Let a run follow on everything that is here."""
        self.runs.append(run)
        self.back = self.tail
        self._count(run, 1)

    def advance(self) -> Run:
        """Let the entries of the first run, which are in memory, stand by themselves; return the run."""
        run = self.runs.popleft()
        self._count(run, -1)
        self.fresh.extend(run.entries or ())
        self._join()
        return run

    def set_entries(self, run: Run, entries: list[Entry], *, away: bool = False) -> None:
        """Let a run consist of these entries, which are in memory, if only until they are written."""
        self._count(run, -1)
        run.entries = entries
        run.count = len(entries)
        run.size = sum(entry.message.size for entry in entries)
        run.away = away
        self._count(run, 1)
        if not entries:
            self.drop(run)

    def unload(self, run: Run) -> None:
        """Let a run's messages be in its page only."""
        self._count(run, -1)
        run.entries = None
        run.away = True
        self._count(run, 1)

    def drop(self, run: Run) -> None:
        """Take a run out with all its messages."""
        self.runs.remove(run)
        self._count(run, -1)
        self._join()

    def drop_runs(self) -> None:
        """Take out all runs, which leave no cycle of references."""
        self.runs.clear()
        self.in_runs = self.away = self.away_size = 0
        self._join()

    def page_out(self, most: int) -> list[Run]:
        """Let up to ``most`` messages or a few more, from behind the head or the last run, stand in new runs.

        Their entries are needed no longer where they have a page, else until they are written to one.
        """
        if not self.runs:
            self._split()
        made: list[Run] = []
        while most > 0 and (run := self._next_run()) is not None:
            made.append(run)
            most -= run.count
            self.runs.append(run)
            self._count(run, 1)
        self._join()
        return made

    def _split(self) -> None:
        """Let all but the head stand in the tail; a page is not split."""
        self.back = self.tail = self.fresh
        self.fresh = head = deque[Entry]()
        size = 0
        page = None
        while self.tail and (
            (len(head) < HEAD and size < HEAD_BYTES) or (page is not None and self.tail[0].page is page)
        ):
            entry = self.tail.popleft()
            page = entry.page
            size += entry.message.size
            head.append(entry)

    def _join(self) -> None:
        """Without runs there is no tail."""
        if not self.runs and self.back is self.tail:
            if self.fresh:
                self.fresh.extend(self.tail)
            else:
                self.fresh = self.tail
            self.tail = deque()
            self.back = self.fresh

    def _next_run(self) -> Run | None:
        """A run of the first entries of the tail; None when what is there is better left in memory.

        It is that of a page when all of the page's live messages stand here together.
        """
        tail = self.tail
        entries: list[Entry] = []
        page = None
        alike = True  # whether all are in ``page``
        size = 0
        while tail and len(entries) < PAGE_MESSAGES and size < PAGE_BYTES:
            entry = tail[0]
            if entry.gone:
                self.gone -= 1
                tail.popleft()
                continue
            if entry.page is not page:
                if entry.page is not None and (not entry.page.written or (alike and len(entries) >= FEW)):
                    break
                alike = alike and not entries
                page = entry.page
            entries.append(tail.popleft())
            size += len(entry.message.frames)
            if alike and page is not None and len(entries) == page.live:
                break
        if alike and page is not None and len(entries) == page.live:
            run = Run.of(self, entries, page)
        elif len(entries) >= FEW or size >= PAGE_BYTES // 4:
            run = Run.of(self, entries)
        else:
            tail.extendleft(reversed(entries))
            return None
        run.away = True
        return run

    def _count(self, run: Run, sign: int) -> None:
        self.in_runs += sign * run.count
        if run.away:
            self.away += sign * run.count
            self.away_size += sign * run.size
