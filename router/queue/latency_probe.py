"""Sampling of the time that messages wait in a queue and at consumers.

Responsible for the choice of the sample: the last message of a batch, ``EVERY`` ms or more after the previous
sample. A queue calls its probe at the end of a batch and for each slice that it delivers, never for a single
message. A sample that must be settled gets a ``Probed`` in the queue's place, which records the time and
forwards the call. The recorder collects the results. Queues with priorities are not sampled, because each
slice would have to be searched.
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
    """The broker's clock, in ms."""

    now: int


class Recorder(Protocol):
    """Collects samples, in ms."""

    def waited(self, time: int) -> None:
        """Record the time between a message's arrival and its delivery to a consumer."""

    def settled(self, consumer: "Consumer", time: int) -> None:
        """Record the time between a delivery and its acknowledgement."""


class Probe:
    """Samples the latency of one queue."""

    __slots__ = ("_came", "_clock", "_next", "_queue", "_recorder", "position", "seen")

    def __init__(self, queue: "Queue", clock: Clock, recorder: Recorder) -> None:
        self.position = -1  # of the sample in the queue; -1: none
        self._queue = queue
        self._clock = clock
        self._recorder = recorder
        self._came = 0
        self._next = 0
        self.seen = queue.next_position

    def skips(self, now: int) -> bool:
        """Return True if there is no sample in the queue, and it is too early for the next one."""
        return self.position < 0 and now < self._next

    def arrived(self, next_position: int, now: int) -> None:
        """At the end of a batch, choose its last message as a sample if the previous one is old enough."""
        if self.position < 0 and next_position > self.seen and now >= self._next:
            self.position = next_position - 1
            self._came = now
        self.seen = next_position

    def delivered(self, entries: Sequence[Entry], consumer: "Consumer") -> None:
        """Record the waiting time if the slice that is being delivered has the sample."""
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
        """Drop a sample that left the queue undelivered: it expired, was purged, or taken by basic.get."""
        oldest = self._queue.ready.oldest()
        if self.position >= 0 and (oldest is None or oldest > self.position):
            self.position = -1


class Probed:
    """Proxy of a queue that one delivered sample is settled with."""

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

    def ack(self, entries: Collection[Entry]) -> None:
        self._recorder.settled(self._consumer, self._clock.now - self._since)
        self._queue.ack(entries)

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
