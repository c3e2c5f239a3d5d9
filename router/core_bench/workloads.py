"""Workloads of the core benchmark: their loads, and the reads of one pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from leveret.protocol.amqp.encode import ack_frame
from leveret.router.bench.load import PROFILES, RAGGED, Load
from leveret.router.bench.traffic import Draft, drafts
from leveret.router.bench.wire import FRAME_MAX, publish_encoded

READ = 1 << 16  # bytes that a broker reads at a time
SMALL = 512  # bytes of a message below which half as much is read at a time, as in ``server.client_tasks``
MESSAGES = 4096  # in one pass, about
EVERY_BINDING = Load(exchange="topic", queues=10, bindings=1000)


@dataclass(frozen=True, slots=True)
class CoreWorkload:
    """A load with one publisher's channel and one consumer's channel for each queue. ``load.ack`` is 0 or 1.

    ``together`` is the number of messages of each queue in a read; 0: as many as fit. The queue of a
    ``stream`` workload is a stream. A consumer of a stream is one read behind the publisher, and only its
    part is timed.
    """

    title: str
    load: Load
    together: int = 0
    stream: bool = False

    @property
    def reads_only(self) -> bool:
        """Return True if publishing is not timed."""
        return self.stream and self.load.consumers > 0


@dataclass(frozen=True, slots=True)
class TrafficSlice:
    """The publishes of one read from the publisher, and the acks of the read from the consumer after it."""

    publishes: bytes
    acks: bytes
    count: int


DURABLE = Load(size=1024, persistent=True, window=1, ack=1)
QUEUES = replace(DURABLE, queues=100)
APPEND = Load(persistent=True, window=1, consumers=0)
READER = Load(persistent=True, ack=1)
WORKLOADS: dict[str, CoreWorkload] = {
    "auto-ack": CoreWorkload("one queue, 100 B, automatic ack", Load()),
    "ack-each": CoreWorkload("one queue, 100 B, each message acked", Load(ack=1)),
    "durable": CoreWorkload("one durable queue, 1 KiB, confirms, each message acked", DURABLE),
    "queues-1": CoreWorkload("100 durable queues in turn, 1 message for each in a read", QUEUES, together=1),
    "queues-4": CoreWorkload("100 durable queues in turn, 4 messages for each in a read", QUEUES, together=4),
    "topic": CoreWorkload("topic exchange, 1,000 bindings, 10 queues", EVERY_BINDING),
    "headers": CoreWorkload(
        "headers exchange, 100 bindings", Load(exchange="headers", queues=10, bindings=100)
    ),
    "selectors": CoreWorkload(
        "fanout exchange, 100 bindings with selectors", Load(exchange="selector", queues=10, bindings=100)
    ),
    "stream-append": CoreWorkload("append to a stream, 100 B, confirms", APPEND, stream=True),
    "stream-read": CoreWorkload("read a stream, 100 B, a read acked at a time", READER, stream=True),
}


class Script:
    """The reads of a workload's passes, with a kind of traffic or a profile.

    Delivery tags go on from pass to pass, so acks are made anew for each.
    """

    def __init__(self, workload: CoreWorkload, traffic: str) -> None:
        is_profile = traffic in PROFILES
        self.workload = workload
        self.load = load = replace(
            workload.load,
            kind=RAGGED if is_profile else traffic,
            profile=traffic if is_profile else "",
        )
        names, exchange = load.queue_names(), load.exchange_name
        pool = drafts(load, names[0] if exchange == "" else "")
        total = MESSAGES - MESSAGES % (load.queues * max(1, workload.together))
        self._channels = [1 + number % load.queues for number in range(total)]  # of the consumer
        publishes = []
        for number, channel in enumerate(self._channels):
            draft = pool[number % len(pool)]
            key = draft.key or ("" if exchange else names[channel - 1])
            publishes.append(_encoded(exchange, key, draft, number))
        if workload.together:
            step = load.queues * workload.together
        else:
            mean = sum(map(len, publishes)) // total
            step = READ // (2 if mean < SMALL else 1) // mean
        if workload.stream:
            total -= total % step  # so that the consumer always is one whole read behind
        self._batches = [range(start, min(start + step, total)) for start in range(0, total, step)]
        self._publishes = [b"".join([publishes[number] for number in each]) for each in self._batches]
        self._tags = [0] * (load.queues + 1)
        self.prefetch = step if workload.stream else 0
        self.count = total

    def reads(self) -> Iterator[TrafficSlice]:
        """Yield the reads of the next pass."""
        for numbers, publishes in zip(self._batches, self._publishes, strict=True):
            acks = []
            if self.workload.reads_only:
                if self._tags[1]:
                    acks.append(ack_frame(1, self._tags[1], True))
                self._tags[1] += len(numbers)
            elif self.load.ack:
                for number in numbers:
                    channel = self._channels[number]
                    self._tags[channel] += 1
                    acks.append(ack_frame(channel, self._tags[channel], False))
            yield TrafficSlice(publishes, b"".join(acks), len(numbers))


def _encoded(exchange: str, key: str, draft: Draft, number: int) -> bytes:
    return publish_encoded(1, (exchange, key), draft.properties, draft.body(number), FRAME_MAX)
