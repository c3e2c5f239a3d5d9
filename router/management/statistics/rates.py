"""Rates: samples of the counters of all objects some seconds apart.

Responsible for taking samples, and for how long they are kept: a minute for each object, ten for a virtual
host and the broker. Objects that appear and vanish between two samples are counted only in the totals of
their virtual host. Taking a sample is a walk over all objects in which other tasks run.

Names and their order are those of RabbitMQ's ``message_stats``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leveret.router.broker.broker import Broker
from leveret.router.exchange.base import Exchange
from leveret.router.management.clients import ListedConnection, connections
from leveret.router.management.node import Measurements
from leveret.router.queue.interface import AnyQueue
from leveret.router.session.session import Session
from leveret.router.values.counters import DeliveryCounters, PublishCounters
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps, gathered

INTERVAL = 5000  # ms between two samples
KEEP, KEEP_TOTALS = 13, 121  # points: a minute, ten minutes
SLICE = 100  # objects that are visited before other tasks may run

DELIVERED = (
    "ack",
    "deliver",
    "deliver_get",
    "deliver_no_ack",
    "get",
    "get_empty",
    "get_no_ack",
    "redeliver",
)
PUBLISHED = ("confirm", "drop_unroutable", "publish", "return_unroutable")
LENGTHS = ("messages", "messages_ready", "messages_unacknowledged")
CHURN = (
    "channel_closed",
    "channel_created",
    "connection_closed",
    "connection_created",
    "queue_created",
    "queue_declared",
    "queue_deleted",
)
QUEUE = (*DELIVERED, "publish", *LENGTHS)
SESSION = (*DELIVERED, *PUBLISHED)
EXCHANGE = ("publish_in", "publish_out")
OCTETS = ("recv_oct", "send_oct")
VHOST = (*SESSION, *LENGTHS, *OCTETS)
TOTAL = (*VHOST, *CHURN)
NODE_USE = ("mem_used", "fd_used", "sockets_used", "proc_used", "disk_free", "gc_num", "context_switches")

Numbers = tuple[int, ...]
T = TypeVar("T")


def delivered(counts: DeliveryCounters, acknowledged: int) -> Numbers:
    """Return the numbers of ``DELIVERED``."""
    both = counts.deliver + counts.deliver_no_ack + counts.get + counts.get_no_ack
    return (
        acknowledged,
        counts.deliver,
        both,
        counts.deliver_no_ack,
        counts.get,
        counts.get_empty,
        counts.get_no_ack,
        counts.redeliver,
    )


def published(counts: PublishCounters) -> Numbers:
    """Return the numbers of ``PUBLISHED``."""
    return (counts.confirm, counts.drop_unroutable, counts.publish, counts.return_unroutable)


def of_queue(queue: AnyQueue) -> Numbers:
    """Return the numbers of ``QUEUE``."""
    ready, unacked = len(queue.ready), queue.unacked
    return (*delivered(queue.counts, queue.acknowledged), queue.published, ready + unacked, ready, unacked)


def of_session(session: Session) -> Numbers:
    """Return the numbers of ``SESSION``."""
    acknowledged = session.delivery_counters.acknowledged(len(session.unacked))
    return (*delivered(session.delivery_counters, acknowledged), *published(session.published))


def of_exchange(exchange: Exchange) -> Numbers:
    """Return the numbers of ``EXCHANGE``, as of the last count of its virtual host's routes."""
    return (exchange.published, exchange.routed)


def of_connection(connection: ListedConnection) -> Numbers:
    """Return the numbers of ``OCTETS``."""
    traffic = connection.outbox.traffic
    return (traffic.received, traffic.sent)


def of_churn(broker: Broker) -> Numbers:
    """Return the numbers of ``CHURN``."""
    return tuple(getattr(broker.churn, name) for name in CHURN)


def of_node(measured: Measurements) -> Numbers:
    """Return the numbers of ``NODE_USE``."""
    return (
        measured.memory,
        measured.files,
        measured.sockets,
        measured.threads,
        measured.disk_free or 0,
        measured.collections,
        measured.context_switches,
    )


def added(*all_numbers: Numbers) -> Numbers:
    """Return the sums of numbers of one kind."""
    return tuple(map(sum, zip(*all_numbers, strict=True)))


def summed(names: Sequence[str], all_numbers: Iterable[Numbers]) -> ResponseSteps[Numbers]:
    """Return the sums of many numbers of the kind ``names``, in steps."""
    total: Numbers = (0,) * len(names)
    for count, numbers in enumerate(all_numbers, 1):
        total = added(total, numbers)
        if not count % SLICE:
            yield 0
    return total


@dataclass(frozen=True, slots=True)
class Window:
    """A requested period: a number of points, a number of ms apart.

    ``epoch`` is the ms to add to a time of the broker's clock to get the time since the epoch.
    """

    count: int
    step: int
    epoch: int


class Series:
    """Samples of one object: times, in ms of the broker's clock, with its numbers."""

    __slots__ = ("changed", "names", "points")

    def __init__(self, names: Sequence[str], keep: int) -> None:
        self.names = names
        self.points: deque[tuple[int, Numbers]] = deque(maxlen=keep)
        self.changed = 0  # time of the last change that was seen

    def add(self, when: int, numbers: Numbers) -> None:
        """Add a sample. Unchanged numbers take up no memory."""
        if self.points and self.points[-1][1] == numbers:
            numbers = self.points[-1][1]
        else:
            self.changed = when
        self.points.append((when, numbers))

    def rate(self, name: str) -> float:
        """Return the increase a second between the last two samples; negative for numbers that can shrink."""
        if len(self.points) < 2 or name not in self.names:
            return 0.0
        place = self.names.index(name)
        (before, old), (after, new) = self.points[-2], self.points[-1]
        return (new[place] - old[place]) * 1000 / (after - before) if after > before else 0.0

    def details(self, name: str, window: Window | None = None) -> dict[str, Any]:
        """Return the ``_details`` of a number."""
        document: dict[str, Any] = {"rate": self.rate(name)}
        if window is not None and name in self.names and self.points:
            document |= self._history(self.names.index(name), window)
        return document

    def _history(self, place: int, window: Window) -> dict[str, Any]:
        """Return samples from the newest back; before the first sample the number is 0."""
        newest = self.points[-1][0]
        points = list(self.points)
        samples = []
        for index in range(window.count):
            when = newest - index * window.step
            while points and points[-1][0] > when:
                points.pop()
            sample = points[-1][1][place] if points else 0
            samples.append({"sample": sample, "timestamp": when + window.epoch})
        values = [sample["sample"] for sample in samples]
        span = (len(values) - 1) * window.step / 1000
        return {
            "samples": samples,
            "avg": sum(values) / len(values),
            "avg_rate": (values[0] - values[-1]) / span if span else 0.0,
        }


class Sampler:
    """Samples of a broker's objects. ``interval`` is in ms."""

    def __init__(self, broker: Broker, interval: int = INTERVAL) -> None:
        self.interval = interval
        self._broker = broker
        self._series: dict[object, Series] = {}
        self._none = Series((), 1)
        self.total = Series(TOTAL, KEEP_TOTALS)
        self.node = Series(NODE_USE, KEEP_TOTALS)

    def __len__(self) -> int:
        """Return the number of objects with samples."""
        return len(self._series)

    def of(self, what: object) -> Series:
        """Return the samples of an object."""
        return self._series.get(what, self._none)

    def forget(self) -> None:
        """Delete all samples."""
        self._series = {}
        self.total = Series(TOTAL, KEEP_TOTALS)
        self.node = Series(NODE_USE, KEEP_TOTALS)

    def sample_node(self, measured: Measurements) -> None:
        """Take a sample of the resources that the process uses."""
        self.node.add(self._broker.now, of_node(measured))

    def sample(self) -> Iterator[object]:
        """Take a sample of everything in steps, between which other tasks run and objects may appear and
        vanish.
        """
        broker, sample = self._broker, _Sampling(self._series, self._broker.now)
        for vhost in list(broker.vhosts.values()):
            vhost.routes.count()
            yield from sample.at(vhost.exchanges.values(), EXCHANGE, of_exchange)
            yield from sample.at(vhost.queues.values(), QUEUE, of_queue)
        clients = connections(broker)
        yield from sample.at(clients, OCTETS, of_connection)
        sessions = yield from gathered(
            session for client in clients for session in list(client.sessions().values())
        )
        yield from sample.at(sessions, SESSION, of_session)
        by_vhost = yield from totals(broker)
        for number, (vhost, numbers) in enumerate(by_vhost.items(), 1):
            sample.add(vhost, Series(VHOST, KEEP_TOTALS), numbers)
            if not number % SLICE:
                yield None
        overall = yield from summed(VHOST, by_vhost.values())
        self.total.add(sample.when, (*overall, *of_churn(broker)))
        self._series = sample.found
        yield from sample.release()


class _Sampling:
    """One sample in progress: earlier series, and the series that continue them."""

    def __init__(self, before: dict[object, Series], when: int) -> None:
        self.when = when
        self.found: dict[object, Series] = {}
        self._before = before

    def at(
        self, things: Iterable[T], names: Sequence[str], numbers: Callable[[T], Numbers]
    ) -> Iterator[None]:
        """Sample objects of one kind, some at a time."""
        all_things = list(things)
        for start in range(0, len(all_things), SLICE):
            for thing in all_things[start : start + SLICE]:
                self.add(thing, Series(names, KEEP), numbers(thing))
            yield

    def release(self) -> Iterator[None]:
        """Free the earlier series, some at a time: many objects may have vanished."""
        while self._before:
            for _ in range(min(SLICE, len(self._before))):
                self._before.popitem()
            yield

    def add(self, thing: object, new: Series, numbers: Numbers) -> None:
        """Add a sample to the series of an object, which is ``new`` if it has none."""
        series = self._before.get(thing) or new
        series.add(self.when, numbers)
        self.found[thing] = series


def totals(broker: Broker, vhosts: Iterable[VHost] | None = None) -> ResponseSteps[dict[VHost, Numbers]]:
    """Return the numbers of ``VHOST`` for each of these virtual hosts (None: for all), in steps."""
    found: dict[VHost, Numbers] = {}
    for number, vhost in enumerate(list(broker.vhosts.values() if vhosts is None else vhosts), 1):
        ready = unacked = 0
        queues = list(vhost.queues.values())
        for start in range(0, len(queues), SLICE):
            for queue in queues[start : start + SLICE]:
                ready += len(queue.ready)
                unacked += queue.unacked
            yield 0
        if not number % SLICE:
            yield 0
        past = (*delivered(vhost.past.delivery_counters, vhost.past.ack), *published(vhost.past.published))
        found[vhost] = (*past, ready + unacked, ready, unacked, 0, 0)
    visited = 0
    for client in connections(broker):
        entered = client.vhost
        if entered not in found:
            continue
        rest = (0, 0, 0, *of_connection(client))
        sessions = list(client.sessions().values())
        for start in range(0, len(sessions) or 1, SLICE):
            own = added((0,) * len(SESSION), *map(of_session, sessions[start : start + SLICE]))
            found[entered] = added(found[entered], (*own, *rest))
            rest = (0,) * len(rest)
            visited += min(SLICE, len(sessions) - start) + 1
            if visited >= SLICE:
                visited = 0
                yield 0
    return found
