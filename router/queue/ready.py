"""The order in which a queue's ready messages leave it: first in, first out, or by priority.

Owns order and counts; knows nothing of consumers, limits or time. Entries that were never delivered stand in
a deque; those that came back stand before them in a heap, by position: whatever was delivered came from the
head, so every returned entry precedes every fresh one of its priority.
"""

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush

from router.queue.entry import Entry


class Fifo:
    """Entries of one priority."""

    __slots__ = ("fresh", "gone", "returned")

    def __init__(self) -> None:
        self.fresh: deque[Entry] = deque()
        self.returned: list[Entry] = []
        self.gone = 0  # entries still standing here that were taken out from the middle

    def __len__(self) -> int:
        return len(self.fresh) + len(self.returned) - self.gone

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in the order they would leave."""
        for entry in sorted(self.returned):
            if not entry.gone:
                yield entry
        for entry in self.fresh:
            if not entry.gone:
                yield entry

    def push(self, entry: Entry) -> None:
        self.fresh.append(entry)

    def put_back(self, entry: Entry) -> None:
        heappush(self.returned, entry)

    def in_deadline_order(self, expires: int) -> bool:
        """Whether an entry pushed now would expire after all before it, so that looking at the head is enough
        for it.

        The entries for which that holds are always a run that begins at the head.
        """
        if not self.fresh:
            return True
        last = self.fresh[-1]
        return not (last.gone or last.indexed) and 0 < last.expires <= expires

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
        if self.gone > 64 and self.gone * 2 > len(self.fresh) + len(self.returned):
            self.fresh = deque(entry for entry in self.fresh if not entry.gone)
            self.returned = sorted(entry for entry in self.returned if not entry.gone)
            self.gone = 0


class Priorities:
    """Entries by the priority of their message, 0 to ``highest``; the highest leave first."""

    __slots__ = ("highest", "levels", "order")

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.levels: dict[int, Fifo] = {}
        self.order: list[Fifo] = []  # highest priority first

    def level(self, entry: Entry) -> Fifo:
        priority = min(entry.message.properties.priority or 0, self.highest)
        found = self.levels.get(priority)
        if found is None:
            found = self.levels[priority] = Fifo()
            self.order = [self.levels[number] for number in sorted(self.levels, reverse=True)]
        return found

    def __len__(self) -> int:
        return sum(map(len, self.order))

    def __iter__(self) -> Iterator[Entry]:
        for fifo in self.order:
            yield from fifo

    def push(self, entry: Entry) -> None:
        self.level(entry).push(entry)

    def put_back(self, entry: Entry) -> None:
        self.level(entry).put_back(entry)

    def in_deadline_order(self, expires: int) -> bool:
        """With several orders of leaving, no deadline is told by one head."""
        return False

    def take(self, count: int, size: int) -> list[Entry]:
        """As ``Fifo.take``, over all levels."""
        taken: list[Entry] = []
        for fifo in self.order:
            if len(taken) == count or size <= 0:
                break
            more = fifo.take(count - len(taken), size)
            size -= sum(entry.message.size for entry in more)
            taken += more
        return taken

    def overdue(self, now: int, limit: int) -> list[Entry]:
        return []

    def next_deadline(self) -> int:
        return 0

    def remove(self, entry: Entry) -> None:
        self.level(entry).remove(entry)
