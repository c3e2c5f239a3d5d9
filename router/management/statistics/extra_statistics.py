"""Statistics that RabbitMQ does not have: ages of messages, latencies, and the time until a queue is empty.

Responsible for the choice of measured queues: at most ``MOST`` queues have a probe, the first ones with
messages. The statistics are in the member ``leveret`` of queues and consumers.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from leveret.router.broker.broker import Broker
from leveret.router.management.clients import connections
from leveret.router.management.json_values import Object
from leveret.router.management.statistics.ages import Ages
from leveret.router.management.statistics.rates import Series
from leveret.router.queue.consumers import Consumer
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.latency_probe import Probe, Recorder
from leveret.router.queue.queue import Queue
from leveret.router.session.deliveries import Deliveries

MOST = 1000  # queues with a probe; each costs some 20 kB
VHOSTS = 1000  # virtual hosts without queues, and
SLICE = 10  # queues that are visited before other tasks may run,
SESSIONS = 100  # and sessions
FREED = 100  # queues, deliveries and recorders that are forgotten at a time
SEARCHED = 2000  # held messages that are searched for a consumer's oldest


class Showable(Protocol):
    """A statistic that the API can show."""

    def show(self) -> Object | None: ...


class StatisticsRecorder(Recorder, Protocol):
    """Measurements of a queue."""

    @property
    def waiting(self) -> Showable: ...
    @property
    def acknowledging(self) -> Showable: ...
    @property
    def by_consumer(self) -> Mapping[Consumer, Showable]: ...
    def sample(self, now: int) -> None: ...


class BrokerStatistics:
    """Statistics of one broker. ``make`` makes a recorder; without it there are ages, but no probes."""

    def __init__(self, broker: Broker, make: Callable[[int], StatisticsRecorder] | None = None) -> None:
        self.make = make
        self._broker = broker
        self._ages: dict[Queue | Deliveries, Ages] = {}
        self._latencies: dict[Queue, StatisticsRecorder] = {}

    def sample(self) -> Iterator[None]:
        """Sample everything in steps, between which other tasks run."""
        ages: dict[Queue | Deliveries, Ages] = {}
        latencies: dict[Queue, StatisticsRecorder] = {}
        for number, vhost in enumerate(list(self._broker.vhosts.values()), 1):
            if not number % VHOSTS:
                yield
            queues = [queue for queue in vhost.queues.values() if isinstance(queue, Queue)]
            for start in range(0, len(queues), SLICE):
                for queue in queues[start : start + SLICE]:
                    now = self._broker.now
                    ages[queue] = mine = self._ages.get(queue) or Ages()
                    mine.sample(queue.next_position, queue.ready.oldest(), now)
                    if (latency := self._latency(queue, len(latencies))) is not None:
                        latencies[queue] = latency
                        latency.sample(now)
                yield
        visited = 0
        for client in connections(self._broker):
            for session in list(client.sessions().values()):
                deliveries = session.deliveries
                ages[deliveries] = mine = self._ages.get(deliveries) or Ages()
                oldest = next(iter(deliveries.unacked), None)
                mine.sample(deliveries.next_tag, oldest[0] if oldest is not None else None, self._broker.now)
                visited += 1
                if not visited % SESSIONS:
                    yield
        (self._ages, ages), (self._latencies, latencies) = (ages, self._ages), (latencies, self._latencies)
        # Many objects that have gone may be referred to by nothing else: freeing 10,000 queues takes 12 ms.
        while ages or latencies:
            for earlier in (ages, latencies):
                for _ in range(min(FREED, len(earlier))):
                    earlier.popitem()
            yield

    def _latency(self, queue: Queue, count: int) -> StatisticsRecorder | None:
        """Return the recorder of a queue, which gets a probe as soon as it has had messages."""
        if queue.probe is not None:
            queue.probe.look()
            return self._latencies.get(queue)
        if self.make is None or queue.deleted or count >= MOST:
            return None
        if not queue.published or not isinstance(queue.ready, Fifo):
            return None
        made = self.make(self._broker.now)
        queue.probe = Probe(queue, self._broker, made)
        return made

    def oldest_age(self, queue: Queue) -> int | None:
        """Return the ms that the oldest ready message has waited, exact to the sampling interval; None
        without one.
        """
        oldest, ages = queue.ready.oldest(), self._ages.get(queue)
        return ages.age(oldest, self._broker.now) if ages is not None and oldest is not None else None

    def of_queue(self, queue: Queue, series: Series) -> Object:
        """Return the statistics of a queue."""
        latency = self._latencies.get(queue)
        return {
            "oldest_message_age_ms": self.oldest_age(queue),
            "time_in_queue_ms": latency.waiting.show() if latency is not None else None,
            "time_to_ack_ms": latency.acknowledging.show() if latency is not None else None,
            "time_to_drain_ms": time_to_drain(len(queue.ready), series),
        }

    def of_consumer(self, consumer: Consumer, deliveries: Deliveries | None) -> Object:
        """Return the statistics of a consumer."""
        queue = consumer.queue
        latency = self._latencies.get(queue) if isinstance(queue, Queue) else None
        recent = latency.by_consumer.get(consumer) if latency is not None else None
        return {
            "unacknowledged": consumer.unacked,
            "oldest_unacknowledged_age_ms": self._held_age(consumer, deliveries),
            "time_to_ack_ms": recent.show() if recent is not None else None,
        }

    def _held_age(self, consumer: Consumer, deliveries: Deliveries | None) -> int | None:
        """Return the ms that a consumer has held its oldest message, exact to the sampling interval."""
        ages = self._ages.get(deliveries) if deliveries is not None else None
        if deliveries is None or ages is None or not consumer.unacked:
            return None
        for searched, (tag, (_, holder, _)) in enumerate(deliveries.unacked):
            if holder is consumer:
                return ages.age(tag, self._broker.now)
            if searched == SEARCHED:
                break
        return None


def time_to_drain(ready: int, series: Series) -> int | None:
    """Return the ms until a queue is empty at its current rate; None if it does not shrink."""
    if not ready:
        return 0
    shrinking = -series.rate("messages_ready")
    return int(ready * 1000 / shrinking) if shrinking > 0 else None
