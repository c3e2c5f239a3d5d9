"""The ready messages of a queue with priorities: one ``Fifo`` for each priority, the highest first."""

from collections.abc import Iterator, Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.paged_run import Run


class Priorities:
    """Entries by message priority, 0 to ``highest``; the highest are delivered first."""

    __slots__ = ("highest", "levels", "order")

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.levels: dict[int, Fifo] = {}
        self.order: list[Fifo] = []  # highest priority first

    def level(self, entry: Entry) -> Fifo:
        return self.level_of(entry.message.traits.priority)

    def level_of(self, priority: int) -> Fifo:
        """Return the Fifo of a priority; priorities over ``highest`` count as ``highest``."""
        priority = min(priority, self.highest)
        found = self.levels.get(priority)
        if found is None:
            found = self.levels[priority] = Fifo(priority)
            self.order = [self.levels[number] for number in sorted(self.levels, reverse=True)]
        return found

    def __len__(self) -> int:
        return sum(map(len, self.order))

    def __iter__(self) -> Iterator[Entry]:
        for fifo in self.order:
            yield from fifo

    def oldest(self) -> int | None:
        """Return the lowest position of all priorities; None if there are no messages."""
        return min((first for fifo in self.order if (first := fifo.oldest()) is not None), default=None)

    def head(self) -> Entry | None:
        """Return the head of the highest priority that has messages, as ``Fifo.head``."""
        for fifo in self.order:
            if len(fifo):
                return fifo.head()
        return None

    @property
    def lines(self) -> list[Fifo]:
        """The Fifos of all priorities, the highest first."""
        return self.order

    @property
    def away(self) -> int:
        return sum(fifo.away for fifo in self.order)

    @property
    def away_size(self) -> int:
        return sum(fifo.away_size for fifo in self.order)

    @property
    def runs(self) -> list[Run]:
        """The runs of all priorities."""
        return [run for fifo in self.order for run in fifo.runs]

    def push(self, entry: Entry) -> None:
        self.level(entry).push(entry)

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries of one priority at its end, as ``Fifo.extend``."""
        self.level(entries[0]).extend(entries)

    def passes(self, message: Message) -> bool:
        """Return True if a new message would be delivered before messages of lower priorities."""
        priority = min(message.traits.priority, self.highest)
        return any(fifo.priority < priority and len(fifo) for fifo in self.order)

    def put_back(self, entry: Entry) -> None:
        self.level(entry).put_back(entry)

    def in_deadline_order(self, expires: int) -> bool:
        """Return False: with several priorities, the next deadline is not always at a head."""
        return False

    def available(self) -> int:
        """Return how many messages can be taken before a run has to be loaded, as ``Fifo.available``."""
        count = 0
        for fifo in self.order:
            count += fifo.available()
            if fifo.runs:
                break
        return count

    def take(self, count: int, size: int) -> list[Entry]:
        """Take entries by priority, as ``Fifo.take``; stop before a run that has to be loaded."""
        taken: list[Entry] = []
        try:
            for fifo in self.order:
                if len(taken) == count or size <= 0:
                    break
                more = fifo.take(count - len(taken), size)
                size -= sum([len(entry.message.frames) for entry in more])
                taken += more
                if fifo.runs:
                    break
        except Exception:
            for entry in taken:
                self.put_back(entry)
            raise
        return taken

    def overdue(self, now: int, limit: int) -> list[Entry]:
        return []

    def next_deadline(self) -> int:
        return 0

    def remove(self, entry: Entry) -> None:
        self.level(entry).remove(entry)

    def blocked_line(self) -> Fifo | None:
        """Return the Fifo of the next message if that message is in a run, else None."""
        for fifo in self.order:
            if fifo.blocked_line() is not None:
                return fifo
            if fifo.fresh or fifo.returned:
                return None
        return None

    def page_out(self, most: int) -> list[Run]:
        """Move messages into runs, as ``Fifo.page_out``, the lowest priorities first."""
        made: list[Run] = []
        for fifo in reversed(self.order):
            if most > 0:
                more = fifo.page_out(most)
                most -= sum(run.count for run in more)
                made += more
        return made
