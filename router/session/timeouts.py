"""How long a session has held its messages: RabbitMQ's delivery acknowledgement timeout.

Owns the times. They are taken at looks some way apart, not for each message, so a timeout is noticed late by
up to two of them and never early. What follows from one is the session's business.

Source: RabbitMQ, "Consumers" (Delivery Acknowledgement Timeout).
"""

from collections import deque
from collections.abc import Callable

from leveret.router.queue.interface import QueueLike
from leveret.router.session.unacked import Unacked

TICK_MIN = 100  # ms
MARKS = 256  # kept at most; past that every second is forgotten, and old messages seem a little younger
TAG_MAX = 2**64


class AckTimeouts:
    """The consumer timeouts of the queues that a session takes messages from.

    ``default`` is in ms and holds for queues without one of their own, ``longest_tick`` is the most time
    between two looks.
    """

    __slots__ = ("_default", "_longest_tick", "_marks", "_queues", "next_look")

    def __init__(self, default: int, longest_tick: int) -> None:
        self._default = default
        self._longest_tick = longest_tick
        self._queues: dict[QueueLike, None] = {}
        self._marks: deque[tuple[int, int]] = deque()  # a time, and the tag that was the next one then
        self.next_look = 0  # ms (0: none is planned)

    def watch(self, queue: QueueLike, now: int, schedule: Callable[[int], None]) -> None:
        """Messages of this queue will be held: have ``schedule`` plan a look that is early enough."""
        if queue in self._queues and self.next_look:
            return
        self._queues[queue] = None
        # The look that is planned is early enough for all others: to look at those again for each queue would
        # take a session of 10,000 of them minutes.
        self._plan(now, schedule, self._timeout(queue) if self.next_look else self._shortest())

    def look(self, now: int, next_tag: int, unacked: Unacked, schedule: Callable[[int], None]) -> int:
        """The timeout, in ms, that a message was held for longer than; 0 when none was, and another look is
        planned.
        """
        self.next_look = 0
        for queue in [queue for queue in self._queues if queue.deleted]:
            del self._queues[queue]
        shortest = self._shortest()
        overdue = self._overdue(now, shortest, unacked) if shortest else 0
        self._marks.append((now, next_tag))
        if len(self._marks) > MARKS:
            self._marks = deque(list(self._marks)[1::2])
        self._plan(now, schedule, shortest)
        return overdue

    def _plan(self, now: int, schedule: Callable[[int], None], shortest: int) -> None:
        if not shortest:
            return
        when = now + max(TICK_MIN, min(self._longest_tick, shortest // 4))
        if not self.next_look or when < self.next_look:
            self.next_look = when
            schedule(when)

    def _overdue(self, now: int, shortest: int, unacked: Unacked) -> int:
        """Walk the held messages from the oldest on, as far as they are old enough for any timeout."""
        marks = self._marks
        oldest = next(iter(unacked), None)
        while marks and (oldest is None or marks[0][1] <= oldest[0]):
            marks.popleft()
        times = iter(marks)
        held_since, below = next(times, (now, TAG_MAX))
        for tag, (queue, _, _) in unacked:
            while below <= tag:
                held_since, below = next(times, (now, TAG_MAX))
            if now - held_since < shortest:
                break
            timeout = self._timeout(queue)
            if timeout and now - held_since >= timeout:
                return timeout
        return 0

    def _timeout(self, queue: QueueLike) -> int:
        own = queue.settings.consumer_timeout
        return self._default if own is None else own

    def _shortest(self) -> int:
        """The shortest timeout of all, 0 when there is none."""
        return min(filter(None, map(self._timeout, self._queues)), default=0)
