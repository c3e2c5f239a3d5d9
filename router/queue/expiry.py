"""The time index of a queue: which entries expire when, wherever they stand in the order.

Deadlines fall into buckets some ms wide, so that the index costs a dict slot a message and no timer or object of its own.
Entries leave it when they are delivered, so it never outgrows the ready messages.
"""

from heapq import heapify, heappop, heappush

from router.queue.entry import Entry

BUCKET = 16  # ms; an entry leaves at the end of its bucket, at most so much late


class ExpiryIndex:
    """Entries by deadline."""

    __slots__ = ("_buckets", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, Entry]] = {}
        self._order: list[int] = []  # a heap of bucket numbers, some of them empty by now

    def add(self, entry: Entry) -> None:
        entry.indexed = True
        number = entry.expires // BUCKET
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heappush(self._order, number)
            if len(self._order) > 2 * len(self._buckets) + 64:
                self._order = list(self._buckets)
                heapify(self._order)
        bucket[entry.position] = entry

    def discard(self, entry: Entry) -> None:
        """Forget an entry that left the queue by another way."""
        entry.indexed = False
        number = entry.expires // BUCKET
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.pop(entry.position, None)
            if not bucket:
                del self._buckets[number]

    def due(self, now: int) -> list[Entry]:
        """Remove and return all entries whose bucket has ended, in the order of their positions."""
        entries: list[Entry] = []
        while self._order and (self._order[0] + 1) * BUCKET <= now:
            entries += self._buckets.pop(heappop(self._order), {}).values()
        for entry in entries:
            entry.indexed = False
        return sorted(entries)

    def next_deadline(self) -> int:
        """When the first bucket ends, in ms (0: the index is empty)."""
        while self._order and self._order[0] not in self._buckets:
            heappop(self._order)
        return (self._order[0] + 1) * BUCKET if self._order else 0

    def clear(self) -> None:
        self._buckets.clear()
        self._order.clear()
