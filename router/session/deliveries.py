"""Deliveries to a session: delivery tags, unacknowledged messages, and the prefetch count.

Responsible for delivery tags, the session's prefetch count, the consumers that wait for credit, and how long
messages are held. How consumers begin and end is in ``subscriptions``, how messages are acknowledged in
``settling``.

Sources: RabbitMQ, "Consumer Prefetch", "Consumers" (Delivery Acknowledgement Timeout).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from operator import attrgetter

from leveret.protocol.errors import PreconditionFailed
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import SLICE, Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue, QueueLike
from leveret.router.session.paused_sources import PausedSources
from leveret.router.session.sink import SessionSink
from leveret.router.session.starving import Starving
from leveret.router.session.timeouts import AckTimeouts
from leveret.router.session.trace import SessionTrace
from leveret.router.session.unacked import PIECE, Held, Taken, Unacked, by_source, reclaim
from leveret.router.turns.backlog import Slices
from leveret.router.values.counters import DeliveryCounters

SERVED = attrgetter("served")
WOKEN = 64  # consumers that are woken at a time, before their queues deliver


class Deliveries:
    """The deliveries of one session; it is the ``DeliverySink`` of the session's consumers.

    ``owner`` is the session's connection and ``number`` its channel there. ``prefetch`` limits how many
    messages all consumers hold together (0: no limit). ``served`` is the number, in the whole broker, of the
    session's last delivery: the session with the lowest number was served longest ago. ``trace`` copies
    deliveries to the firehose.
    """

    __slots__ = (
        "_broker",
        "_starving",
        "_timeouts",
        "consumers",
        "delivery_counters",
        "finished",
        "next_tag",
        "number",
        "outstanding",
        "owner",
        "paused",
        "prefetch",
        "served",
        "sink",
        "trace",
        "unacked",
    )

    def __init__(self, broker: Broker, owner: object, number: int, sink: SessionSink) -> None:
        self.owner = owner
        self.number = number
        self.prefetch = 0
        self.served = 0
        self.finished = False
        self.consumers: dict[str, Receiver] = {}
        self.delivery_counters = DeliveryCounters()
        self.unacked = Unacked()
        self.outstanding = 0  # held messages that count against ``prefetch``: not those of basic.get
        self.next_tag = 1  # the tag of the next delivery
        self.paused = PausedSources()
        self.trace: SessionTrace | None = None
        self._broker = broker
        self.sink = sink
        self._starving = Starving()
        settings = broker.settings.queue
        self._timeouts = AckTimeouts(settings.consumer_timeout, settings.channel_tick)

    # -- credit ----------------------------------------------------------------------------------------------

    def credit(self) -> int:
        """Return the number of messages that the session may receive now, over all its consumers."""
        if self.finished or not self.sink.writable():
            return 0
        return self.prefetch - self.outstanding if self.prefetch else SLICE

    def await_credit(self, consumer: Consumer) -> None:
        if not consumer.starving and not self.finished:
            self._starving.add(consumer)
            if self.credit() > 0:  # the consumer has used its share
                self._broker.scheduler.schedule_wake(self)

    def wake(self) -> None:
        """Wake waiting consumers if the session has credit, first those that were served longest ago.

        At most as many are woken as the session may receive messages, each with an equal share of the credit.
        If they leave credit unused, further consumers are woken after the deliveries.
        """
        credit, starving = self.credit(), self._starving
        if credit <= 0 or not starving:
            return
        share = max(1, credit // len(starving)) if self.prefetch else SLICE
        for _ in range(min(credit, WOKEN, len(starving))):
            consumer = starving.pop(self.next_tag)
            consumer.share = share
            consumer.wake()
        if starving:
            self._broker.scheduler.schedule_wake(self)

    def return_credit(self, consumers: Mapping[Consumer, int]) -> None:
        """Subtract the counts from the consumers' unacknowledged messages, and wake those with credit."""
        for consumer, count in consumers.items():
            consumer.unacked -= count
            self.outstanding -= count
        if self.prefetch:
            self._wake_in_turn(consumers)
        else:
            for consumer in consumers:
                if not consumer.ready:
                    consumer.wake()

    def _wake_in_turn(self, consumers: Iterable[Consumer]) -> None:
        """Wake waiting consumers in their order, as far as the shared prefetch count allows.

        ``consumers`` are added to them before: their own prefetch counts may allow deliveries again.
        """
        for consumer in consumers:
            if consumer.active and not (consumer.ready or consumer.starving):
                self._starving.add(consumer)
        self.wake()

    # -- deliveries ------------------------------------------------------------------------------------------

    def deliver(self, receiver: Receiver, entries: Sequence[Entry]) -> None:
        """Number the messages, hold those that must be settled, and write them.

        An exception ends this client's connection only, and the session's messages return to their queues.
        """
        try:
            first, count = self.next_tag, len(entries)
            self.next_tag += count
            receiver.served = first + count
            self.served = next(self._broker.scheduler.deliveries)
            if receiver.no_ack or not isinstance(receiver, Consumer):
                self.delivery_counters.deliver_no_ack += count
            else:
                self.delivery_counters.deliver += count
                receiver.unacked += count
                receiver.share -= count
                self.outstanding += count
                if count == 1:
                    self.unacked.held[first] = receiver.source, receiver, entries[0]
                else:
                    held = zip(repeat(receiver.source), repeat(receiver), entries, strict=False)
                    self.unacked.hold(zip(range(first, first + count), held, strict=True))
                if receiver.probed is not None:
                    place, probe = receiver.probed
                    receiver.probed = None
                    self.unacked.hold(((first + place, (probe, receiver, entries[place])),))
            if self.finished:  # its connection crashed on an earlier delivery of the same round
                for _ in self.give_back():
                    pass  # at once: a session holds no more than a slice of messages of one round
                return
            if self.trace is not None:
                self.trace.delivered(receiver, entries)
            self.sink.write_deliveries(receiver, first, entries)
        except Exception as error:
            if isinstance(receiver, Consumer) and not receiver.no_ack:
                receiver.source.reclaim(entries)
            self.sink.crash(error)

    def hold_one(self, queue: AnyQueue, entry: Entry, *, no_ack: bool) -> int:
        """Number a message of basic.get, hold it unless it needs no ack, and return its delivery tag."""
        self.delivery_counters.got(no_ack=no_ack, redelivered=entry.returns > 0)
        tag = self.next_tag
        self.next_tag += 1
        if not no_ack:
            self.unacked.hold([(tag, (queue, None, entry))])
            self.watch_timeout(queue)
        if self.trace is not None:
            self.trace.acquired(queue.name, entry)
        return tag

    def crash(self, error: Exception) -> None:
        self.sink.crash(error)

    def cancelled(self, consumer: Consumer) -> None:
        self.forget(consumer)
        self.consumers.pop(consumer.tag, None)
        self.sink.cancelled(consumer)

    def forget(self, consumer: Consumer) -> None:
        """Count the redeliveries of an ended consumer, and remove it from the waiting consumers."""
        self._starving.discard(consumer)
        self.delivery_counters.redeliver += consumer.redelivered

    # -- unacknowledged messages -----------------------------------------------------------------------------

    def give_back(self) -> Slices:
        """Requeue all unacknowledged messages of the ended session, in slices.

        The queues deliver nothing until all of their messages are requeued.
        """
        unacked = self.unacked
        failure: Exception | None = None
        try:
            while unacked.holds_through(0):
                taken = unacked.take_through(0, PIECE)
                try:
                    sources = self._give_back_some(taken)
                except Exception as error:
                    failure = error
                    sources = {}
                    reclaim(taken)
                if unacked.holds_through(0):
                    self.paused.pause(sources)
                    yield
        finally:
            self.paused.resume()
        if failure is not None:
            raise failure

    def _give_back_some(self, taken: Taken) -> Iterable[QueueLike]:
        """Requeue messages, and return their queues."""
        sources, consumers = by_source(taken)
        self.return_credit(consumers)
        for source, entries in sources.items():
            if source.deleted:
                source.ack(entries)
            else:
                self.delivery_counters.back += len(entries)
                source.give_back(entries, self._broker.now)
        return sources

    def recount(self, held: Iterable[Held]) -> None:
        """Count the unacknowledged messages of the session and its consumers again, after an exception."""
        self.outstanding = 0
        for receiver in self.consumers.values():
            if isinstance(receiver, Consumer):
                receiver.unacked = 0
        for _, consumer, _ in held:
            if consumer is not None:
                consumer.unacked += 1
                self.outstanding += 1

    # -- time ------------------------------------------------------------------------------------------------

    def watch_timeout(self, queue: AnyQueue) -> None:
        """Watch the acknowledgement timeout of this queue's messages."""
        self._timeouts.watch(queue, self._broker.now, self._schedule)

    def _schedule(self, when: int) -> None:
        self._broker.schedule(when, self)

    def on_timer(self, now: int) -> None:
        """End the session if a message is held for longer than the consumer timeout of its queue."""
        if self.finished or now < self._timeouts.next_look:
            return
        timeout = self._timeouts.look(now, self.next_tag, self.unacked, self._schedule)
        if timeout:
            self.sink.fail(
                PreconditionFailed(
                    f"delivery acknowledgement on channel timed out. Timeout value used: {timeout} ms. "
                    "This timeout value can be configured, see consumers doc guide to learn more"
                )
            )
