"""How long messages wait in a queue and at consumers, measured on one of many.

Owns which message is measured: one that has just come, not sooner than ``EVERY`` ms after the last. A queue
asks its probe at the end of a batch and for each slice that it delivers, never for a single message; a
measured message that is to be settled is held as the probe's (``Probed``), which tells when that is done and
passes it on. What becomes of the measures is the recorder's business. Queues with priorities are not
measured: there each slice would have to be searched.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from leveret.router.arguments.queue import QueueArguments
from leveret.router.queue.entry import Entry

if TYPE_CHECKING:
    from leveret.router.queue.consumers import Consumer
    from leveret.router.queue.queue import Queue

EVERY = 200  # ms


class Clock(Protocol):
    """Says what time it is, in ms."""

    now: int


class Recorder(Protocol):
    """Takes measures, in ms."""

    def waited(self, time: int) -> None:
        """A message has left the queue for a consumer so long after it came."""

    def settled(self, consumer: "Consumer", time: int) -> None:
        """A consumer has acknowledged a message so long after it was delivered."""


class Probe:
    """The measuring of one queue."""

    __slots__ = ("_came", "_clock", "_next", "_queue", "_recorder", "_seen", "position")

    def __init__(self, queue: "Queue", clock: Clock, recorder: Recorder) -> None:
        self.position = -1  # of the message that is measured; -1: none is
        self._queue = queue
        self._clock = clock
        self._recorder = recorder
        self._came = 0
        self._next = 0
        self._seen = queue.next_position

    def arrived(self, next_position: int, now: int) -> None:
        """A batch has ended: measure its last message, if it has brought any and it is time."""
        if self.position < 0 and next_position > self._seen and now >= self._next:
            self.position = next_position - 1
            self._came = now
        self._seen = next_position

    def delivered(self, entries: Sequence[Entry], consumer: "Consumer") -> None:
        """A slice is being delivered, of which the measured message may be a part."""
        if not entries[0].position <= self.position <= entries[-1].position:
            return
        for place, entry in enumerate(entries):
            if entry.position == self.position:
                now = self._clock.now
                self._recorder.waited(now - self._came)
                self.position = -1
                self._next = now + EVERY
                if not consumer.no_ack:
                    consumer.probed = place, Probed(self._queue, consumer, self._clock, self._recorder)
                return

    def look(self) -> None:
        """Forget a message that has left in another way: it expired, was purged, or taken by basic.get."""
        oldest = self._queue.ready.oldest()
        if self.position >= 0 and (oldest is None or oldest > self.position):
            self.position = -1


class Probed:
    """Whom one delivered message is settled with, in its queue's place."""

    __slots__ = ("_clock", "_consumer", "_queue", "_recorder", "_since")

    def __init__(self, queue: "Queue", consumer: "Consumer", clock: Clock, recorder: Recorder) -> None:
        self._queue = queue
        self._consumer = consumer
        self._clock = clock
        self._recorder = recorder
        self._since = clock.now

    @property
    def deleted(self) -> bool:
        return self._queue.deleted

    @property
    def settings(self) -> QueueArguments:
        return self._queue.settings

    def settle(self, entries: Collection[Entry]) -> None:
        self._recorder.settled(self._consumer, self._clock.now - self._since)
        self._queue.settle(entries)

    def requeue(self, consumed: Collection[Entry], now: int) -> None:
        self._queue.requeue(consumed, now)

    def reject(self, entries: Sequence[Entry]) -> None:
        self._queue.reject(entries)

    def give_back(self, consumed: Collection[Entry], now: int) -> None:
        self._queue.give_back(consumed, now)

    def reclaim(self, entries: Collection[Entry]) -> None:
        self._queue.reclaim(entries)

    def is_of(self, queue: object) -> bool:
        """Return True if the message is one of this queue's."""
        return self._queue is queue

    def pause_deliveries(self) -> None:
        self._queue.pause_deliveries()

    def resume_deliveries(self) -> None:
        self._queue.resume_deliveries()
