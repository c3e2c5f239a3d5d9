"""Delivery acknowledgement timeouts: find messages that a session has not acknowledged in time.

The times of deliveries are recorded at periodic checks, not for each message, so a timeout is detected up to
two periods late and never early. The session closes itself then.

Source: RabbitMQ, "Consumers" (Delivery Acknowledgement Timeout).
"""

from collections import deque
from collections.abc import Callable

from leveret.router.queue.interface import QueueLike
from leveret.router.session.unacked import Unacked

TICK_MIN = 100  # ms
MARKS = 256  # kept at most; beyond that every second one is dropped, and old messages seem a little younger
TAG_MAX = 2**64


class AckTimeouts:
    """The consumer timeouts of the queues that a session takes messages from.

    ``default`` is the timeout of queues without one of their own, ``longest_tick`` the longest time between
    two checks, both in ms.
    """

    __slots__ = ("_default", "_longest_tick", "_marks", "_queues", "next_look")

    def __init__(self, default: int, longest_tick: int) -> None:
        self._default = default
        self._longest_tick = longest_tick
        self._queues: dict[QueueLike, None] = {}
        self._marks: deque[tuple[int, int]] = deque()  # times, each with the next delivery tag at that time
        self.next_look = 0  # ms (0: none is planned)

    def watch(self, queue: QueueLike, now: int, schedule: Callable[[int], None]) -> None:
        """Watch the messages of a queue: ``schedule`` a check that is early enough for its timeout."""
        if queue in self._queues and self.next_look:
            return
        self._queues[queue] = None
        # The scheduled check is early enough for all other queues. Computing the shortest timeout of all
        # queues for each new queue would take minutes in a session with 10,000 queues.
        self._plan(now, schedule, self._timeout(queue) if self.next_look else self._shortest())

    def look(self, now: int, next_tag: int, unacked: Unacked, schedule: Callable[[int], None]) -> int:
        """Check the held messages and schedule the next check. Return the timeout in ms that a message has
        exceeded, or 0.
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
        """Return the timeout that a held message has exceeded, or 0. Walks the messages from the oldest on,
        up to the first that is too young for any timeout.
        """
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
        """Return the shortest timeout of all queues, 0 if none has one."""
        return min(filter(None, map(self._timeout, self._queues)), default=0)
