"""The consumers of a session that wait for credit in its shared prefetch count or its connection's outbox.

Responsible for their order: the consumer that was served longest ago is woken first, or in its place one of
the same queue with a higher priority.
"""

from heapq import heapify, heappop, heappush
from itertools import count

from leveret.router.queue.consumers import Consumer
from leveret.router.queue.interface import AnyQueue


class Starving:
    """Waiting consumers, ordered by their last delivery. No operation walks all of them."""

    __slots__ = ("_by_queue", "_gone", "_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Consumer]] = []
        self._numbers = count(1)
        self._gone = 0  # number of stale items in the heap
        self._by_queue: dict[AnyQueue, dict[int, dict[Consumer, None]]] = {}  # and priority

    def __len__(self) -> int:
        return len(self._heap) - self._gone

    def add(self, consumer: Consumer) -> None:
        """Add a consumer that does not wait yet."""
        consumer.starving = number = next(self._numbers)
        heappush(self._heap, (consumer.served, number, consumer))
        self._by_queue.setdefault(consumer.queue, {}).setdefault(consumer.priority, {})[consumer] = None

    def pop(self, turn: int) -> Consumer:
        """Remove and return the next consumer to wake. Raises IndexError if there is none.

        ``turn`` must be higher in each call. A consumer that is skipped because another one has a higher
        priority is put back with ``turn`` as its place, so that it comes after all others.
        """
        while True:
            _, number, consumer = heappop(self._heap)
            if consumer.starving == number:
                break
            self._gone -= 1
        self._leave(consumer)
        priorities = self._by_queue.get(consumer.queue)
        if priorities and (highest := max(priorities)) > consumer.priority:
            preferred = next(iter(priorities[highest]))
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
            if 2 * self._gone > len(self._heap):
                self._heap = [each for each in self._heap if each[2].starving == each[1]]
                heapify(self._heap)
                self._gone = 0

    def _leave(self, consumer: Consumer) -> None:
        consumer.starving = 0
        priorities = self._by_queue[consumer.queue]
        consumers = priorities[consumer.priority]
        del consumers[consumer]
        if not consumers:
            del priorities[consumer.priority]
            if not priorities:
                del self._by_queue[consumer.queue]
