"""Histograms of the waiting times of messages and the processing times of consumers, from the probes of
queues.

The histograms are HdrHistogram's, with two digits, from 1 ms to a day. They cover the last five to ten
minutes.
"""

from hdrh.histogram import HdrHistogram

from leveret.router.management.json_values import Object
from leveret.router.queue.consumers import Consumer

LEAST, MOST, DIGITS = 1, 86_400_000, 2  # ms
PERIOD = 300_000  # ms
BYTES = 4  # bytes of each count
CONSUMERS = 500  # consumers of a queue that are measured


def _histogram() -> HdrHistogram:
    return HdrHistogram(LEAST, MOST, DIGITS, word_size=BYTES)


class Recent:
    """Histograms of the current period and of the one before."""

    def __init__(self) -> None:  # a histogram is made when a time is recorded: it takes 17 us
        self._now: HdrHistogram | None = None
        self._before: HdrHistogram | None = None

    def record(self, time: int) -> None:
        """Record a time in ms."""
        if self._now is None:
            self._now = _histogram()
        self._now.record_value(min(max(time, LEAST), MOST))

    def turn(self) -> None:
        """Start a new period."""
        self._now, self._before = None, self._now

    def show(self) -> Object | None:
        """Return percentiles in ms; None if nothing was recorded."""
        total = _histogram()
        for each in (self._now, self._before):
            if each is not None:
                total.add(each)
        if not total.get_total_count():
            return None
        return {
            "samples": int(total.get_total_count()),
            "p50": int(total.get_value_at_percentile(50)),
            "p99": int(total.get_value_at_percentile(99)),
            "max": int(total.get_max_value()),
        }


class LatencyRecorder:
    """Recorder of one queue's probe."""

    def __init__(self, now: int) -> None:
        self.waiting = Recent()
        self.acknowledging = Recent()
        self.by_consumer: dict[Consumer, Recent] = {}
        self._turn = now + PERIOD

    def waited(self, time: int) -> None:
        self.waiting.record(time)

    def settled(self, consumer: Consumer, time: int) -> None:
        self.acknowledging.record(time)
        recent = self.by_consumer.get(consumer)
        if recent is None:
            if len(self.by_consumer) >= CONSUMERS:
                return
            recent = self.by_consumer[consumer] = Recent()
        recent.record(time)

    def sample(self, now: int) -> None:
        """Drop old values, and consumers that have gone."""
        self.by_consumer = {
            each: recent for each, recent in self.by_consumer.items() if each in each.queue.consumers
        }
        if now >= self._turn:
            self._turn = now + PERIOD
            for recent in (self.waiting, self.acknowledging, *self.by_consumer.values()):
                recent.turn()
