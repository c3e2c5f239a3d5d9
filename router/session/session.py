"""A session: one conversation of a client with the broker; long, for all of it shares what the session holds.

It is an AMQP channel or a STOMP connection. Owns publishing, consuming, settling, confirms and transactions,
and that the user may do each of it. It speaks no protocol: what it has for the client goes to its
``SessionSink``. Where a message goes is in ``publishing``, declaring and binding in ``topology``.

Sources: RabbitMQ, "Access Control", "Consumer Prefetch", "Consumer Acknowledgements and Publisher Confirms".
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice, repeat
from operator import attrgetter
from typing import Any

from leveret.protocol.amqp.message import MANDATORY, Message
from leveret.protocol.amqp.properties import PERSISTENT
from leveret.protocol.errors import NotAllowed, PreconditionFailed
from leveret.router.auth import Kind, Operation, User
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import owner_of
from leveret.router.exchange.routing import Target
from leveret.router.queue.consumers import SLICE, Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue, Source
from leveret.router.queue.latency_probe import Probed
from leveret.router.session.confirms import Confirms, Verdict
from leveret.router.session.publishing import Publishing
from leveret.router.session.reply_to import REPLY_TO, ReplyTarget
from leveret.router.session.sink import SessionSink
from leveret.router.session.starving import Starving
from leveret.router.session.timeouts import AckTimeouts
from leveret.router.session.trace import Tap
from leveret.router.session.transaction import Transaction
from leveret.router.session.unacked import Held, Taken, Unacked, Verb, unknown_tag
from leveret.router.session.validation import check_consumer_arguments
from leveret.router.turns.backlog import LongWork, Slices, Slicing, TakesLong, at_once
from leveret.router.values.counters import Given, Published
from leveret.router.vhost.deduplicating_target import Once
from leveret.router.vhost.vhost import VHost

SERVED = attrgetter("served")
WIDE = 64  # copies of messages that are handed to queues at a time, if they are more,
PUBLISH_COST = 700  # bytes that a publish in a transaction takes up besides its message's body
PIECE = 512  # and messages that are settled
CANCELLED = 16  # and consumers of a closed session that end
WOKEN = 64  # consumers that are woken before those deliver


class Session:
    """One session of ``user`` in ``vhost``; ``owner`` is the connection, to which exclusive queues belong,
    and ``number`` that of the channel there.
    """

    def __init__(
        self,
        broker: Broker,
        vhost: VHost,
        user: User,
        owner: object,
        sink: SessionSink,
        *,
        number: int = 1,
    ) -> None:
        self.broker = broker
        self.vhost = vhost
        self.user = user
        self.owner = owner
        self.sink = sink
        self.number = number
        self.prefetch = 0  # unacknowledged messages of all consumers together (0: no limit)
        self.consumer_prefetch = 0  # what the next consumer gets as its own limit
        self.consumers: dict[str, Receiver] = {}
        self.served = 0  # grows with each delivery of the broker: the lowest was served longest ago
        self.given = Given()
        self.published = Published()
        self.confirms: Confirms | None = None
        self.transaction: Transaction | None = None
        self._starving = Starving()
        self._unacked = Unacked()
        self._pausing: dict[Source, None] = {}  # queues that it gives messages back to, in several turns
        self._committing: Transaction | None = None
        self._outstanding = 0  # held messages that count against ``prefetch``: not those of basic.get
        self._next_tag = 1
        self._publishing = Publishing(vhost, user)
        self._resolve: Callable[[Message], tuple[Message, Sequence[Target]]] = self._publishing.resolve
        self._tap: Tap | None = None  # while the virtual host's firehose is on
        self._keeper = broker.keeper
        self._reply_target: ReplyTarget | None = None
        settings = broker.settings.queue
        self._timeouts = AckTimeouts(settings.consumer_timeout, settings.channel_tick)
        self.finished = False
        # What its last command has still to do: those behind it wait until that is ``over``.
        self.unfinished: LongWork | None = None
        self._parts: deque[Slices] | None = None  # of the current step of ``do_atomically``
        broker.churn.channel_created += 1
        vhost.sessions[self] = None
        vhost.firehose.join(self)

    # -- publish -------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Route a message and hand it to its queues; if they are many this may be ``unfinished``.

        Raises what ``Publishing.resolve`` does.
        """
        try:
            message, queues = self._resolve(message)
        except TakesLong as long:
            self._begin("routing", self._publish_later(message, long.slices))
            return
        self.published.publish += 1
        if self.transaction is not None:
            self._gather(self.transaction, message, queues)
        elif len(queues) > WIDE or queues.__class__ is Once:
            self._begin("publishing", self._publish_widely(message, queues))
        elif self.confirms is None:
            self._enqueue(message, queues)
        else:
            self._enqueue_to_confirm(message, queues, self.confirms)

    def publish_all(self, messages: Sequence[Message]) -> None:
        """Publish messages that differ in their bodies alone. Raises as ``publish``, and may be
        ``unfinished`` as that.
        """
        one_by_one = self.transaction is not None or self._tap is not None
        queues = None if one_by_one else self._publishing.resolve_all(messages)
        if queues is None:
            self._begin("publishing", self._publish_each(messages))
            return
        self.published.publish += len(messages)
        confirms = self.confirms
        stored = self._keeper.publishes
        before = len(stored)
        if len(queues) == 1 and queues[0].enqueue_all(messages, self.broker.now):
            if confirms is not None:
                batch = self._keeper.batch if len(stored) > before else 0
                entries = [entry for _, entry, _ in stored[before:]]
                if confirms.publish_all(len(messages), batch, entries):
                    self.sink.owes_confirms(batch)
        elif len(messages) * len(queues) > WIDE:
            self._begin("publishing", self._publish_all_widely(messages, queues))
        elif confirms is not None:
            for message in messages:
                self._enqueue_to_confirm(message, queues, confirms)
        elif len(queues) > 1 and messages[0].properties.delivery_mode != PERSISTENT:
            self._enqueue_by_queue(messages, queues)
        else:  # message by message, so that the body of one is stored once for all queues
            for message in messages:
                self._enqueue(message, queues)

    def _publish_each(self, messages: Sequence[Message]) -> Slices:
        """Publish messages one by one."""
        left = WIDE
        budget = self.broker.budget
        for message in messages:
            try:
                message, queues = self._resolve(message)  # noqa: PLW2901
            except TakesLong as long:
                yield from self._publish_later(message, long.slices)
                continue
            self.published.publish += 1
            if self.transaction is not None:
                self._gather(self.transaction, message, queues)
            else:
                yield from self._publish_widely(message, queues)
            left -= 1 + len(queues)
            if left <= 0 or budget.over:
                left = WIDE
                yield

    def _publish_later(self, given: Message, routing: Slicing[tuple[Message, Sequence[Target]]]) -> Slices:
        """Publish a message once it is routed; targets that are deleted meanwhile are left out."""
        message, queues = yield from routing
        if self._tap is not None:
            self._tap.published(given, message, queues)
        self.published.publish += 1
        if self.transaction is not None:
            self._gather(self.transaction, message, queues)
        else:
            yield from self._publish_widely(message, queues)

    def _publish_all_widely(self, messages: Sequence[Message], queues: Sequence[Target]) -> Slices:
        """Hand messages that differ in their bodies alone to queues which together take long for that."""
        if self.confirms is None and messages[0].properties.delivery_mode != PERSISTENT:
            for queue in queues:
                if queue.deleted or queue.enqueue_all(messages, self.broker.now):
                    yield
                    continue
                for start in range(0, len(messages), WIDE):
                    for message in messages[start : start + WIDE]:
                        if not queue.deleted:
                            queue.enqueue(message, self.broker.now)
                    yield
            if not queues:
                for message in messages:
                    self._unroutable(message)
            return
        left = WIDE
        for message in messages:  # message by message, so that the body of one is stored once for all queues
            yield from self._publish_widely(message, queues)
            left -= len(queues)
            if left <= 0:
                left = WIDE
                yield

    def _publish_widely(self, message: Message, queues: Sequence[Target]) -> Slices:
        """Hand a message to its queues, some at a time. It is confirmed when all have it; those that are
        deleted meanwhile are left out.
        """
        confirms = self.confirms
        if confirms is None:
            yield from self._enqueue_widely(message, queues)
            return
        entries: list[Entry] = []
        batch = 0
        accepted: bool | None = None
        slices = self._enqueue_widely(message, queues)
        while True:
            stored = self._keeper.publishes
            before = len(stored)
            try:
                next(slices)
            except StopIteration as end:
                accepted = end.value
            if len(stored) > before:
                batch = self._keeper.batch
                entries += [entry for _, entry, _ in stored[before:]]
            if accepted is not None:
                break
            yield
        if confirms.publish(accepted, batch, entries) and not self.finished:
            self.sink.owes_confirms(batch)

    def _enqueue_widely(self, message: Message, queues: Sequence[Target]) -> Slicing[bool]:
        """Hand a routed message to its queues, some at a time; return False if one of them has refused it.
        Queues that were deleted since it was routed are left out.
        """
        if isinstance(queues, Once):
            return (yield from queues.enqueue(message, WIDE))
        if not queues:
            self._unroutable(message)
        accepted = True
        for start in range(0, len(queues), WIDE):
            if start:
                yield
            now = self.broker.now
            for queue in queues[start : start + WIDE]:
                if not queue.deleted and not queue.enqueue(message, now):
                    accepted = False
        return accepted

    def _enqueue_by_queue(self, messages: Sequence[Message], queues: Sequence[Target]) -> None:
        """Hand messages to several queues, each queue's together."""
        now = self.broker.now
        for queue in queues:
            if not queue.enqueue_all(messages, now):
                for message in messages:
                    queue.enqueue(message, now)

    def _enqueue_to_confirm(self, message: Message, queues: Sequence[Target], confirms: Confirms) -> None:
        """Hand a routed message to its queues, and have it confirmed."""
        stored = self._keeper.publishes
        before = len(stored)
        accepted = self._enqueue(message, queues)
        count = len(stored) - before
        batch = self._keeper.batch if count else 0
        if count == 1:  # as most are
            first = confirms.publish(accepted, batch, (stored[before][1],))
        else:
            first = confirms.publish(accepted, batch, [entry for _, entry, _ in stored[before:]])
        if first:
            self.sink.owes_confirms(batch)

    def _enqueue(self, message: Message, queues: Sequence[Target]) -> bool:
        """Hand a routed message to its queues; False when one of them was full and refused it."""
        accepted = True
        now = self.broker.now
        for queue in queues:
            if not queue.enqueue(message, now):
                accepted = False
        if not queues:
            self._unroutable(message)
        return accepted

    def carry_out(self, what: str, slices: Slices) -> None:
        """Do work that a command asks for; it may be ``unfinished``."""
        self._begin(what, slices)

    def _begin(self, what: str, slices: Slices) -> None:
        """Do work, which is ``unfinished`` if that takes too long; in ``do_atomically`` as a part of that."""
        if self._parts is not None:
            self._parts.append(slices)
            return
        self.unfinished = self.broker.backlog.start(
            f"{what} on channel {self.number} of user '{self.user.name}'", self._until_over(slices)
        )

    def _until_over(self, slices: Slices) -> Slices:
        try:
            yield from slices
        finally:
            self.unfinished = None

    def _unroutable(self, message: Message) -> None:
        """A message reached no queue. It is returned unless its publisher has gone."""
        if message.bits & MANDATORY and not self.finished:
            self.published.return_unroutable += 1
            self.sink.returned(message, 312, "NO_ROUTE")
        else:
            self.published.drop_unroutable += 1

    def check(self, operation: Operation, kind: Kind, name: str) -> None:
        """AccessRefused unless the user may do this to that exchange or queue."""
        self.user.check(self.vhost.name, operation, kind, name)

    def verdicts(self) -> list[Verdict]:
        """Confirms to be told to the publisher now."""
        if self.confirms is None:
            return []
        verdicts = self.confirms.verdicts(self._keeper.committed, refusals=self._keeper.refused > 0)
        self.published.confirm = self.confirms.told
        return verdicts

    # -- consume -------------------------------------------------------------------------------------------

    def consume(
        self,
        queue_name: str,
        tag: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a consumer; its deliveries begin with the next flush, so the caller has time to tell the
        client first.
        """
        arguments = arguments or {}
        if tag in self.consumers:
            raise NotAllowed(f"attempt to reuse consumer tag '{tag}'")
        if queue_name == REPLY_TO:
            self._consume_replies(tag, no_ack=no_ack)
            return
        self.check("read", "queue", queue_name)
        queue = self.vhost.queue_for(queue_name, self.owner)
        check_consumer_arguments(arguments, queue)
        consumer = queue.consumer(
            self,
            tag,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=self.consumer_prefetch,
            arguments=arguments,
        )
        self.consumers[tag] = consumer
        consumer.served = self._next_tag  # as in RabbitMQ, who has waited longer comes first
        queue.add_consumer(consumer, self.broker.now)
        if not no_ack:
            self._timeouts.watch(queue, self.broker.now, self._schedule)

    def _consume_replies(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise PreconditionFailed("reply consumer cannot acknowledge")
        if self._reply_target is not None:
            raise PreconditionFailed("reply consumer already set")
        receiver = Receiver(self, tag, no_ack=True)
        self._reply_target = ReplyTarget(receiver, accepts=self.takes_replies, dropped=self._dropped_replies)
        self.vhost.add_reply_target(self._reply_target)
        self._publishing.reply_to = self._reply_target.name
        self.consumers[tag] = receiver

    def cancel(self, tag: str) -> None:
        """End a consumer; what it holds stays to be settled. An unknown tag is no error."""
        consumer = self.consumers.pop(tag, None)
        if isinstance(consumer, Consumer):
            self._starving.discard(consumer)
            self.given.redeliver += consumer.redelivered
            consumer.queue.remove_consumer(consumer, self.broker.now)
        elif consumer is not None and self._reply_target is not None:
            self.vhost.remove_reply_target(self._reply_target)
            self._reply_target.close()
            self._reply_target = self._publishing.reply_to = None

    def get(self, queue_name: str, *, no_ack: bool) -> tuple[int, Entry, AnyQueue] | None:
        """Take one message: its delivery tag, the entry and the queue; None when the queue is empty."""
        self.check("read", "queue", queue_name)
        queue = self.vhost.queue_for(queue_name, self.owner)
        entry = queue.get(self.broker.now, no_ack=no_ack)
        if entry is None:
            self.given.get_empty += 1
            return None
        try:
            self.given.got(no_ack=no_ack, redelivered=entry.returns > 0)
            tag = self._next_tag
            self._next_tag += 1
            if not no_ack:
                self._unacked.hold([(tag, (queue, None, entry))])
                self._timeouts.watch(queue, self.broker.now, self._schedule)
            if self._tap is not None:
                self._tap.taken(queue.name, entry)
        except Exception:
            queue.reclaim([entry])
            raise
        return tag, entry, queue

    def set_prefetch(self, count: int, *, shared: bool) -> None:
        """Limit what all consumers together hold, or what each consumer started from now on does."""
        if shared:
            self.prefetch = count
            for consumer in self.consumers.values():
                if isinstance(consumer, Consumer):
                    consumer.queue.consumers.sharing = True
            self.wake()
        else:
            self.consumer_prefetch = count

    @property
    def next_tag(self) -> int:
        """The delivery tag that comes next."""
        return self._next_tag

    @property
    def unacked(self) -> Unacked:
        """What it was given and has not settled yet."""
        return self._unacked

    def wake(self) -> None:
        """There may be room again: have consumers stand in line that wait for it. Who was served longest ago
        is first, so that all get some of what they share: what the session may hold, its connection's outbox.

        As many are woken as there is room, others if these take less; each gets an equal share first.
        """
        room, starving = self.room(), self._starving
        if room <= 0 or not starving:
            return
        share = max(1, room // len(starving)) if self.prefetch else SLICE
        for _ in range(min(room, WOKEN, len(starving))):
            consumer = starving.pop(self._next_tag)
            consumer.share = share
            consumer.wake()
        if starving:
            self.broker.scheduler.feed(self)

    # -- DeliverySink --------------------------------------------------------------------------------------

    def starve(self, consumer: Consumer) -> None:
        if not consumer.starving and not self.finished:
            self._starving.add(consumer)
            if self.room() > 0:  # it has had its share of it
                self.broker.scheduler.feed(self)

    def room(self) -> int:
        """How many more messages the session takes now."""
        if self.finished or not self.sink.writable():
            return 0
        return self.prefetch - self._outstanding if self.prefetch else SLICE

    def takes_replies(self) -> bool:
        """Whether direct replies are delivered. They cannot wait for room as other deliveries do, so a client
        that does not read loses them: beyond a bound, and at once while an alarm is raised.
        """
        if self.sink.writable():
            return True
        return not (self.broker.alarms.raised or self.sink.overfull())

    def _dropped_replies(self, count: int, now: int) -> None:
        self.broker.drops.add(self.vhost.name, REPLY_TO, "reply_unread", count, now)

    def deliver(self, receiver: Receiver, entries: Sequence[Entry]) -> None:
        """Number the messages, hold those that must be settled, and write them.

        What cannot be written is nobody else's trouble: the client's connection ends, and what the session
        holds goes back to the queues.
        """
        try:
            first, count = self._next_tag, len(entries)
            self._next_tag += count
            receiver.served = first + count
            self.served = next(self.broker.scheduler.deliveries)
            if receiver.no_ack or not isinstance(receiver, Consumer):
                self.given.deliver_no_ack += count
            else:
                self.given.deliver += count
                receiver.unacked += count
                receiver.share -= count
                self._outstanding += count
                held = zip(repeat(receiver.source), repeat(receiver), entries, strict=False)
                self._unacked.hold(zip(range(first, first + count), held, strict=True))
                if receiver.probed is not None:
                    place, probe = receiver.probed
                    receiver.probed = None
                    self._unacked.hold(((first + place, (probe, receiver, entries[place])),))
            if self.finished:  # its connection crashed on an earlier delivery of the same round
                for _ in self._give_back():
                    pass  # it was given no more than a slice
                return
            if self._tap is not None:
                self._tap.delivered(receiver, entries)
            self.sink.deliver(receiver, first, entries)
        except Exception as error:
            if isinstance(receiver, Consumer) and not receiver.no_ack:
                receiver.source.reclaim(entries)
            self.sink.crash(error)

    def crash(self, error: Exception) -> None:
        self.sink.crash(error)

    def cancelled(self, consumer: Consumer) -> None:
        self._starving.discard(consumer)
        self.given.redeliver += consumer.redelivered
        self.consumers.pop(consumer.tag, None)
        self.sink.cancelled(consumer)

    def recheck(self) -> None:
        """The user's rights have changed: end the consumers of queues that it may read no longer."""
        for consumer in list(self.consumers.values()):
            if isinstance(consumer, Consumer):
                queue = consumer.queue
                if not self.user.may(self.vhost.name, "read", queue.name):
                    queue.remove_consumer(consumer, self.broker.now)
                    self.cancelled(consumer)

    # -- the firehose --------------------------------------------------------------------------------------

    def watch(self, *, on: bool) -> None:
        """Tell the firehose of each message from now on, or no more: then publishing knows nothing of it."""
        self._tap = Tap(self.broker, self.vhost, self.user, self.owner, self.number) if on else None
        self._resolve = self._resolve_and_tell if on else self._publishing.resolve

    def _resolve_and_tell(self, given: Message) -> tuple[Message, Sequence[Target]]:
        message, queues = self._publishing.resolve(given)
        if self._tap is not None:
            self._tap.published(given, message, queues)
        return message, queues

    # -- settle --------------------------------------------------------------------------------------------

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Settle one message, or all up to it. PreconditionFailed for a tag that is not held."""
        if multiple or self.transaction is not None:
            self._take("ack", tag, multiple)
            return
        if self.prefetch:
            self.broker.catch_up()  # what was published before is not owed the room that this makes
        queue, consumer, entry = self._unacked.take(tag)
        try:
            queue.settle((entry,))
        except Exception:
            queue.reclaim((entry,))
            raise
        if consumer is not None:
            consumer.unacked -= 1
            self._outstanding -= 1
            if self.prefetch:
                self._wake_in_turn((consumer,))
            elif not consumer.ready:
                consumer.wake()

    def ack_each(self, tags: Iterable[int]) -> None:
        """Settle some messages; if they are many this may be ``unfinished``. PreconditionFailed for a tag
        that is not held, when those before it are settled.
        """
        self._take_each("ack", tags)

    def nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """Refuse one message, or all up to it: back to their queues, or to the dead letters."""
        self._take("requeue" if requeue else "reject", tag, multiple)

    def nack_each(self, tags: Iterable[int], *, requeue: bool) -> None:
        """Refuse some messages. Raises as ``ack_each``."""
        self._take_each("requeue" if requeue else "reject", tags)

    def recover(self) -> None:
        """Put all held messages back into their queues, also in a transaction. It may be ``unfinished``."""
        self._begin("requeueing", self._settle_through("requeue", 0, self._settle))

    def _take(self, verb: Verb, tag: int, multiple: bool) -> None:
        """Take out what is to be settled, and settle it at once or with the transaction."""
        if tag == 0:
            self.broker.catch_up()  # all that was delivered is meant
        last = tag or self._unacked.highest
        taken = self._unacked.take_through(tag, PIECE) if multiple else [(tag, self._unacked.take(tag))]
        try:
            if multiple and self._unacked.lowest <= last and self._unacked.holds_through(last):
                self._begin("settling", self._settle_through(verb, last, self._settle_or_note, taken))
            elif self.transaction is not None:
                self.transaction.settle(verb, taken)
            else:
                self._settle(verb, taken)
        except Exception:
            _reclaim(taken)
            raise

    def _settle_through(
        self,
        verb: Verb,
        tag: int,
        settle: Callable[[Verb, Taken], Iterable[Source]],
        taken: Taken | None = None,
    ) -> Slices:
        """Settle what was ``taken`` and all that is held up to a tag (0: all), in slices, by ``settle``."""
        return self._settle_pieces(verb, self._pieces_through(tag, taken), settle)

    def _pieces_through(self, tag: int, taken: Taken | None) -> Iterator[Taken]:
        """Take out all that is held up to a tag (0: all), behind what was ``taken`` already."""
        tag = tag or self._unacked.highest
        if taken is not None:
            yield taken
        while self._unacked.holds_through(tag):
            yield self._unacked.take_through(tag, PIECE)

    def _settle_pieces(
        self, verb: Verb, pieces: Iterator[Taken], settle: Callable[[Verb, Taken], Iterable[Source]]
    ) -> Slices:
        """Settle what was held, a piece in each slice, by ``settle``.

        Queues do not deliver before all that is requeued is back: else what is behind it would go first.
        """
        try:
            for taken in pieces:
                try:
                    sources = settle(verb, taken)
                except Exception:
                    _reclaim(taken)
                    raise
                if verb == "requeue":
                    self._pause(sources)
                yield
        finally:
            self._resume()

    def _pause(self, sources: Iterable[Source]) -> None:
        """Have queues deliver nothing until ``_resume``."""
        for source in sources:
            if source not in self._pausing:
                source.pause_deliveries()
                self._pausing[source] = None

    def _resume(self) -> None:
        """All messages are back that were to be given back."""
        paused, self._pausing = self._pausing, {}
        try:
            for source in paused:
                source.resume_deliveries()
        except Exception:
            for source in paused:
                source.reclaim(())
            raise

    def _take_each(self, verb: Verb, tags: Iterable[int]) -> None:
        tags = iter(tags)
        some = list(islice(tags, PIECE))
        taken = self._unacked.take_each(some)
        if len(some) == PIECE == len(taken):
            pieces = chain((taken,), self._pieces_of(tags))
            self._begin("settling", self._settle_pieces(verb, pieces, self._settle_or_note))
            return
        try:
            self._settle_or_note(verb, taken)
        except Exception:
            _reclaim(taken)
            raise
        if len(taken) < len(some):
            raise unknown_tag(some[len(taken)])

    def _pieces_of(self, tags: Iterator[int]) -> Iterator[Taken]:
        """Take out what is held under these tags. Raises as ``ack_each``."""
        while some := list(islice(tags, PIECE)):
            taken = self._unacked.take_each(some)
            yield taken
            if len(taken) < len(some):
                raise unknown_tag(some[len(taken)])

    def _settle_or_note(self, verb: Verb, taken: Taken) -> Iterable[Source]:
        """Settle what was held, or have the transaction do so; return whom it was settled with."""
        if self.transaction is None:
            return self._settle(verb, taken)
        self.transaction.settle(verb, taken)
        return ()

    def _settle(self, verb: Verb, taken: Taken) -> Iterable[Source]:
        """Settle what was held, each queue's together; return whom with."""
        if self.prefetch:
            self.broker.catch_up()
        by_source, consumers = self._sort(taken)
        room_first = verb == "requeue" and self.prefetch > 0
        if room_first:  # queues that wait for this room deliver before the queue that gets its messages back
            self._make_room(consumers)
        for source, entries in by_source.items():
            if verb == "ack" or source.deleted:
                source.settle(entries)
            elif verb == "requeue":
                self.given.back += len(entries)
                source.requeue(entries, self.broker.now)
            else:
                self.given.back += len(entries)
                source.reject(entries)
        if not room_first:
            self._make_room(consumers)
        return by_source

    def _end(self) -> Slices:
        """Undo an open transaction, end the consumers, which get nothing more since the session is
        ``finished``, then give back.
        """
        if self.transaction is not None:
            yield from self._undo(self._end_transaction())
        for number, tag in enumerate(list(self.consumers), 1):
            try:  # whatever one of them raises, the others end
                self.cancel(tag)
            except Exception as error:
                self.broker.report("the end of a consumer failed", error)
            if not number % CANCELLED:
                yield
        yield from self._give_back()

    def _give_back(self) -> Slices:
        """The session is over: what it holds goes back where it came from, some at a time.

        Queues do not deliver before all of theirs is back, as in ``_settle_through``.
        """
        unacked = self._unacked
        failure: Exception | None = None
        try:
            while unacked.holds_through(0):
                taken = unacked.take_through(0, PIECE)
                try:
                    sources = self._give_back_some(taken)
                except Exception as error:
                    failure = error
                    sources = {}
                    _reclaim(taken)
                if unacked.holds_through(0):
                    self._pause(sources)
                    yield
        finally:
            self._resume()
            self.vhost.sessions.pop(self, None)
        if failure is not None:
            raise failure

    def _give_back_some(self, taken: Taken) -> Iterable[Source]:
        """Give back what was held; return where it came from."""
        by_source, consumers = self._sort(taken)
        self._make_room(consumers)
        for source, entries in by_source.items():
            if source.deleted:
                source.settle(entries)
            else:
                self.given.back += len(entries)
                source.give_back(entries, self.broker.now)
        return by_source

    def _sort(self, taken: Taken) -> tuple[dict[Source, list[Entry]], Mapping[Consumer, int]]:
        """What was held, by where it came from, and how many of it each consumer held."""
        by_source: dict[Source, list[Entry]] = {}
        consumers: dict[Consumer, int] = {}
        for _, (source, consumer, entry) in taken:
            if source in by_source:
                by_source[source].append(entry)
            else:
                by_source[source] = [entry]
            if consumer is not None:
                consumers[consumer] = consumers.get(consumer, 0) + 1
        return by_source, consumers

    def _make_room(self, consumers: Mapping[Consumer, int]) -> None:
        """Consumers hold so many messages less now: wake those that may be given more."""
        for consumer, count in consumers.items():
            consumer.unacked -= count
            self._outstanding -= count
        if self.prefetch:
            self._wake_in_turn(consumers)
        else:
            for consumer in consumers:
                consumer.wake()

    def _wake_in_turn(self, consumers: Iterable[Consumer]) -> None:
        """There is room for any consumer, and perhaps within the own prefetch count of these."""
        for consumer in consumers:
            if consumer.active and not (consumer.ready or consumer.starving):
                self._starving.add(consumer)
        self.wake()

    def _settle_in_transaction(self, verb: Verb, taken: Taken) -> None:
        """The same; a crash may undo it until it is on disk, so who published these waits for that."""
        try:
            self._settle(verb, taken)
        except Exception:
            _reclaim(taken)
            raise
        for _, (_, _, entry) in taken:
            entry.settled = False

    # -- confirms and transactions -------------------------------------------------------------------------

    def select_confirms(self) -> None:
        if self.transaction is not None:
            raise PreconditionFailed("cannot switch from tx to confirm mode")
        if self.confirms is None:
            self.confirms = Confirms()

    def select_transactions(self) -> None:
        if self.confirms is not None:
            raise PreconditionFailed("cannot switch from confirm to tx mode")
        if self.transaction is None:
            self.transaction = Transaction()

    def commit(self) -> None:
        """Do all that was published and settled since the last commit. It may be ``unfinished``.

        PreconditionFailed, when all is done, if a queue was full and refused a message.
        """
        self._begin("a transaction", self._commit(self._end_transaction()))

    def _commit(self, transaction: Transaction) -> Slices:
        """Do what a transaction has gathered; on disk it is one whole, however many turns it takes."""
        self._keeper.begin_whole()
        self._committing = transaction
        try:
            yield from transaction.commit(
                self._enqueue_those_left, self._enqueue_widely, self._settle_in_transaction
            )
        finally:
            self._keeper.end_whole()
            self._committing = None
            if transaction.settles:  # which an exception has left
                at_once(self._undo(transaction))
            else:
                self._grow(-transaction.size)

    def _undo(self, transaction: Transaction) -> Slicing[None]:
        """Forget what a transaction has gathered; what was settled is held again."""
        self._committing = transaction
        try:
            yield from transaction.rollback(self._unacked)
        finally:
            self._committing = None
            self._grow(-transaction.size)

    def _enqueue_those_left(self, message: Message, queues: Sequence[Target]) -> bool:
        """Hand a message to its queues that were not deleted since it was routed."""
        left = [queue for queue in queues if not queue.deleted]
        return self._enqueue(message, left) if left or not queues else True

    def rollback(self) -> None:
        """Forget all that was published and settled since the last commit; what was settled is held again. It
        may be ``unfinished``.
        """
        self._begin("a rollback", self._undo(self._end_transaction()))

    def _gather(self, transaction: Transaction, message: Message, queues: Sequence[Target]) -> None:
        """Have a publish wait for the commit, and count its memory, unless its client has gone."""
        if self.finished:
            return
        transaction.publish(message, queues)
        size = PUBLISH_COST + message.size + 8 * len(queues)
        transaction.size += size
        self._grow(size)

    def _grow(self, change: int) -> None:
        """Count the memory of publishes that wait for a commit."""
        owner = owner_of(self.user, "")
        self.broker.incoming.grow(self.owner, owner, change)  # type: ignore[arg-type]  # a connection

    def _end_transaction(self) -> Transaction:
        """The transaction there was; another one begins."""
        ended = self.transaction
        if ended is None:
            raise PreconditionFailed("channel is not transactional")
        self.transaction = Transaction()
        return ended

    def do_atomically(self, steps: Slices) -> None:
        """Do all that is published and settled in these steps when the last is done, and nothing of it if one
        of them fails, or if the session ends before. It may be ``unfinished``.

        Nothing of it is confirmed by itself. Raises, when all is done, what ``commit`` does.
        """
        self._begin("a transaction", self._do_atomically(steps))

    def _do_atomically(self, steps: Slices) -> Slices:
        transaction = self.transaction = Transaction()
        parts = self._parts = deque()
        failure: Exception | None = None
        try:
            for _ in steps:
                while parts:
                    yield from parts.popleft()
                yield
                if self.finished:
                    break
        except Exception as error:
            failure = error
        self.transaction = self._parts = None
        if failure is not None or self.finished:
            yield from self._undo(transaction)
        else:
            yield from self._commit(transaction)
        if failure is not None:
            raise failure

    # -- time and end --------------------------------------------------------------------------------------

    def _schedule(self, when: int) -> None:
        self.broker.schedule(when, self)

    def on_timer(self, now: int) -> None:
        """Look whether any message is held for longer than its queue's consumer timeout; if so the session
        ends.
        """
        if self.finished or now < self._timeouts.next_look:
            return
        timeout = self._timeouts.look(now, self._next_tag, self._unacked, self._schedule)
        if timeout:
            self.sink.fail(
                PreconditionFailed(
                    f"delivery acknowledgement on channel timed out. Timeout value used: {timeout} ms. "
                    "This timeout value can be configured, see consumers doc guide to learn more"
                )
            )

    def close(self) -> None:
        """The session is over: its consumers end, a transaction is undone, and what it holds goes back to the
        queues.
        """
        if self.finished:
            return
        self.finished = True
        if self.confirms is not None:
            self.published.publish_confirm = self.confirms.published
        steps: list[Callable[[], object]] = []
        steps += (
            self._begin_giving_back,
            partial(self.vhost.firehose.leave, self),
            partial(self.watch, on=False),  # not to leave a cycle
            partial(self.vhost.past.add, self.given, self.published),
        )
        for step in steps:  # whatever one of them raises, the others are done: nobody else would do them
            try:
                step()
            except Exception as error:
                self.broker.report("the end of a session failed", error)
        self.broker.churn.channel_closed += 1

    def _begin_giving_back(self) -> None:
        if self.unfinished is not None:
            self.unfinished.follow(self._end())
        else:
            self._begin("giving back", self._end())

    # -- Holder --------------------------------------------------------------------------------------------

    def _held(self) -> Iterator[Held]:
        """All that it was given and has not settled, with what a transaction is to settle."""
        for _, held in self._unacked:
            yield held
        for transaction in (self.transaction, self._committing):
            if transaction is not None:
                yield from transaction.held()

    def held_of(self, queue: AnyQueue) -> list[Entry]:
        return [
            entry
            for source, _, entry in self._held()
            if source is queue or (isinstance(source, Probed) and source.is_of(queue))
        ]

    def pauses(self, queue: AnyQueue) -> bool:
        return queue in self._pausing

    def recount(self) -> None:
        self._outstanding = 0
        for receiver in self.consumers.values():
            if isinstance(receiver, Consumer):
                receiver.unacked = 0
        for _, consumer, _ in self._held():
            if consumer is not None:
                consumer.unacked += 1
                self._outstanding += 1


def _reclaim(taken: Taken) -> None:
    """Have those of these messages put back that nobody holds: an exception was raised while they were being
    settled.
    """
    for _, (source, _, entry) in taken:
        source.reclaim([entry])
