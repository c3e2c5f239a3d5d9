"""The consumers of a session that wait for credit in its shared prefetch count or its connection's outbox.

Responsible for their order: the consumer that was served longest ago is woken first, or in its place one of
the same queue with a higher priority.
"""

from bisect import bisect_left, insort
from heapq import heappop, heappush
from itertools import count

from leveret.router.queue.consumers import Consumer
from leveret.router.queue.interface import AnyQueue

SWEPT = 4  # items that a sweep looks at for each consumer that is removed


class QueueConsumers:
    """The waiting consumers of one queue, by priority. ``priorities`` is sorted.

    A client may give each of 20,000 consumers a priority of its own, so the highest one is not searched for.
    """

    __slots__ = ("by_priority", "priorities")

    def __init__(self) -> None:
        self.by_priority: dict[int, dict[Consumer, None]] = {}
        self.priorities: list[int] = []

    def add(self, consumer: Consumer) -> None:
        consumers = self.by_priority.get(consumer.priority)
        if consumers is None:
            consumers = self.by_priority[consumer.priority] = {}
            insort(self.priorities, consumer.priority)
        consumers[consumer] = None

    def remove(self, consumer: Consumer) -> None:
        consumers = self.by_priority[consumer.priority]
        del consumers[consumer]
        if not consumers:
            del self.by_priority[consumer.priority]
            del self.priorities[bisect_left(self.priorities, consumer.priority)]

    def preferred_to(self, consumer: Consumer) -> Consumer | None:
        """Return a consumer with the highest priority, or None if none is higher than this one's."""
        if not self.priorities or self.priorities[-1] <= consumer.priority:
            return None
        return next(iter(self.by_priority[self.priorities[-1]]))


class Starving:
    """Waiting consumers, ordered by their last delivery. Adding and waking a consumer walks no others.

    If half of the items are stale, a sweep moves the others from ``_old`` to ``_heap``, some in each call of
    ``discard``: 65,000 at once would take 5 ms.
    """

    __slots__ = ("_by_queue", "_gone", "_heap", "_numbers", "_old")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Consumer]] = []
        self._old: list[tuple[int, int, Consumer]] = []  # a heap too; empty if no sweep is under way
        self._numbers = count(1)
        self._gone = 0  # number of stale items in the heaps
        self._by_queue: dict[AnyQueue, QueueConsumers] = {}

    def __len__(self) -> int:
        return len(self._heap) + len(self._old) - self._gone

    def add(self, consumer: Consumer) -> None:
        """Add a consumer that does not wait yet."""
        consumer.starving = number = next(self._numbers)
        heappush(self._heap, (consumer.served, number, consumer))
        waiting = self._by_queue.get(consumer.queue)
        if waiting is None:
            waiting = self._by_queue[consumer.queue] = QueueConsumers()
        waiting.add(consumer)

    def pop(self, turn: int) -> Consumer:
        """Remove and return the next consumer to wake. Raises IndexError if there is none.

        ``turn`` must be higher in each call. A consumer that is skipped because another one has a higher
        priority is put back with ``turn`` as its place, so that it comes after all others.
        """
        while True:
            heap, old = self._heap, self._old
            if old and (not heap or old[0] < heap[0]):
                heap = old
            _, number, consumer = heappop(heap)
            if consumer.starving == number:
                break
            self._gone -= 1
        self._leave(consumer)
        waiting = self._by_queue.get(consumer.queue)
        preferred = None if waiting is None else waiting.preferred_to(consumer)
        if preferred is not None:
            self.discard(preferred)
            consumer.served = turn
            self.add(consumer)
            return preferred
        return consumer

    def discard(self, consumer: Consumer) -> None:
        """Remove a consumer, if it waits."""
        if consumer.starving:
            self._leave(consumer)
            self._gone += 1
            if self._old:
                self._sweep()
            elif 2 * self._gone > len(self._heap):
                self._old, self._heap = self._heap, []

    def _sweep(self) -> None:
        """Take a few items from the end of the old heap, which stays a heap."""
        old, heap = self._old, self._heap
        for _ in range(min(SWEPT, len(old))):
            item = old.pop()
            if item[2].starving == item[1]:
                heappush(heap, item)
            else:
                self._gone -= 1

    def _leave(self, consumer: Consumer) -> None:
        consumer.starving = 0
        waiting = self._by_queue[consumer.queue]
        waiting.remove(consumer)
        if not waiting.priorities:
            del self._by_queue[consumer.queue]
