"""The expiry index of a queue: ready entries by deadline, at any place in the order.

A run, whose entries are not in memory, is one item, with the first deadline of its entries. Deadlines are
grouped into buckets of some ms, so that an entry costs one dict slot, and no timer or object of its own.
Delivered entries are removed, so the index never outgrows the ready messages. A bucket that has ended is
emptied in slices, however many deadlines are in it.
"""

from heapq import heapify, heappop, heappush

from leveret.router.queue.entry import Entry
from leveret.router.queue.paged_run import Run

Item = Entry | Run
BUCKET = 16  # ms; an entry expires at the end of its bucket, at most this late


class ExpiryIndex:
    """Entries and runs by deadline."""

    __slots__ = ("_buckets", "_ended", "_order")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, Item]] = {}
        self._order: list[int] = []  # a heap of bucket numbers; some buckets may be empty by now
        self._ended: list[Item] = []  # the rest of the last bucket that ended; the next item is last

    def add(self, entry: Item) -> None:
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

    def discard(self, entry: Item) -> None:
        """Remove an entry that left the queue before its deadline."""
        entry.indexed = False
        number = entry.expires // BUCKET
        bucket = self._buckets.get(number)
        if bucket is not None:
            bucket.pop(entry.position, None)
            if not bucket:
                del self._buckets[number]

    def due(self, now: int, limit: int) -> list[Item]:
        """Remove and return up to ``limit`` entries whose bucket has ended, by position."""
        entries: list[Item] = []
        while len(entries) < limit:
            if self._ended:
                entry = self._ended.pop()
                if entry.indexed:
                    entry.indexed = False
                    entries.append(entry)
            elif self._order and (self._order[0] + 1) * BUCKET <= now:
                bucket = self._buckets.pop(heappop(self._order), None)
                if bucket is not None:
                    self._ended = list(reversed(bucket.values()))
            else:
                break
        return sorted(entries)

    def next_deadline(self) -> int:
        """Return the time in ms from which ``due`` returns entries; 1 if some are due now, 0 if there are
        none.
        """
        while self._ended and not self._ended[-1].indexed:
            self._ended.pop()
        if self._ended:
            return 1
        while self._order and self._order[0] not in self._buckets:
            heappop(self._order)
        return (self._order[0] + 1) * BUCKET if self._order else 0

    def clear(self) -> None:
        self._buckets.clear()
        self._order.clear()
        self._ended.clear()
