"""Consumers of a session, and basic.get: the start and end of deliveries.

Responsible for permission to read, consumer tags and direct replies. Deliveries are in ``deliveries``.

Sources: RabbitMQ, "Consumers", "Access Control", "Direct Reply-to".
"""

from collections.abc import Mapping
from typing import Any

from leveret.protocol.errors import NotAllowed, PreconditionFailed
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.session.deliveries import Deliveries
from leveret.router.session.publishing import Publishing
from leveret.router.session.reply_to import REPLY_TO, ReplyTarget
from leveret.router.session.sink import SessionSink
from leveret.router.session.validation import check_consumer_arguments
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.vhost import VHost

CANCELLED = 16  # consumers that end in one slice


class Subscriptions:
    """The consumers of one session. ``consumer_prefetch`` is the prefetch count of the next consumer."""

    __slots__ = (
        "_broker",
        "_deliveries",
        "_publishing",
        "_reply_target",
        "_sink",
        "_user",
        "_vhost",
        "consumer_prefetch",
    )

    def __init__(
        self,
        broker: Broker,
        vhost: VHost,
        user: User,
        sink: SessionSink,
        *,
        publishing: Publishing,
        deliveries: Deliveries,
    ) -> None:
        self.consumer_prefetch = 0
        self._broker = broker
        self._vhost = vhost
        self._user = user
        self._sink = sink
        self._publishing = publishing
        self._deliveries = deliveries
        self._reply_target: ReplyTarget | None = None

    def consume(
        self,
        queue_name: str,
        tag: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Slices:
        """Start a consumer, in slices. Its deliveries begin at the end of the batch, after the reply to the
        client.

        Raises NotAllowed for a tag in use, AccessRefused, NotFound, and the errors of the queue.
        """
        arguments = arguments or {}
        deliveries = self._deliveries
        if tag in deliveries.consumers and not self._ended_with_queue(tag):
            raise NotAllowed(f"attempt to reuse consumer tag '{tag}'")
        if queue_name == REPLY_TO:
            self._consume_replies(tag, no_ack=no_ack)
            return
        queue = self._readable(queue_name)
        check_consumer_arguments(arguments, queue)
        consumer = queue.consumer(
            deliveries,
            tag,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=self.consumer_prefetch,
            arguments=arguments,
        )
        generation = self._user.generation
        yield from consumer.prepare()
        if deliveries.finished:
            return
        if queue.deleted or self._user.generation != generation:  # between two slices
            yield from self.consume(queue_name, tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments)
            return
        deliveries.consumers[tag] = consumer
        consumer.served = deliveries.next_tag  # as in RabbitMQ, consumers that have waited longer come first
        queue.add_consumer(consumer, self._broker.now)
        if not no_ack:
            deliveries.watch_timeout(queue)

    def _ended_with_queue(self, tag: str) -> bool:
        """Return True, after notifying the client, if this consumer's queue is deleted.

        A deleted queue with very many consumers cancels them in later turns.
        """
        consumer = self._deliveries.consumers[tag]
        if not isinstance(consumer, Consumer) or not consumer.queue.deleted:
            return False
        consumer.queue.consumers.remove(consumer)
        self._deliveries.cancelled(consumer)
        return True

    def _readable(self, queue_name: str) -> AnyQueue:
        """Return a queue that the user may read."""
        self._user.check(self._vhost.name, "read", "queue", queue_name)
        return self._vhost.queue_for(queue_name, self._deliveries.owner)

    def cancel(self, tag: str) -> None:
        """End a consumer; its unacknowledged messages stay held. An unknown tag is no error."""
        consumer = self._deliveries.consumers.pop(tag, None)
        if isinstance(consumer, Consumer):
            self._deliveries.forget(consumer)
            consumer.queue.remove_consumer(consumer, self._broker.now)
        elif consumer is not None and self._reply_target is not None:
            self._vhost.remove_reply_target(self._reply_target)
            self._reply_target.close()
            self._reply_target = self._publishing.reply_to = None

    def cancel_all(self) -> Slices:
        """End all consumers of the ended session, in slices. An exception of one does not keep the others
        from ending.
        """
        for number, tag in enumerate(list(self._deliveries.consumers), 1):
            try:
                self.cancel(tag)
            except Exception as error:
                self._broker.report("the end of a consumer failed", error)
            if not number % CANCELLED:
                yield

    def get(self, queue_name: str, *, no_ack: bool) -> tuple[int, Entry, AnyQueue] | None:
        """Get one message: return its delivery tag, the entry and the queue; None if the queue is empty."""
        queue = self._readable(queue_name)
        entry = queue.get(self._broker.now, no_ack=no_ack)
        if entry is None:
            self._deliveries.delivery_counters.get_empty += 1
            return None
        try:
            tag = self._deliveries.hold_one(queue, entry, no_ack=no_ack)
        except Exception:
            queue.reclaim([entry])
            raise
        return tag, entry, queue

    def set_prefetch(self, count: int, *, shared: bool) -> None:
        """Set the prefetch count: of all consumers together if ``shared``, else of each later consumer."""
        if not shared:
            self.consumer_prefetch = count
            return
        self._deliveries.prefetch = count
        for consumer in self._deliveries.consumers.values():
            if isinstance(consumer, Consumer):
                consumer.queue.consumers.sharing = True
        self._deliveries.wake()

    def recheck(self) -> Slices:
        """Cancel the consumers of queues that the user's changed permissions no longer allow to read, in
        slices.
        """
        deliveries = self._deliveries
        for number, consumer in enumerate(list(deliveries.consumers.values()), 1):
            if deliveries.finished:
                return
            # The consumers of a deleted queue are being cancelled.
            if (
                isinstance(consumer, Consumer)
                and deliveries.consumers.get(consumer.tag) is consumer
                and not consumer.queue.deleted
                and not self._user.may(self._vhost.name, "read", consumer.queue.name)
            ):
                consumer.queue.remove_consumer(consumer, self._broker.now)
                deliveries.cancelled(consumer)
            if not number % CANCELLED:
                yield

    # -- direct replies --------------------------------------------------------------------------------------

    def _consume_replies(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise PreconditionFailed("reply consumer cannot acknowledge")
        if self._reply_target is not None:
            raise PreconditionFailed("reply consumer already set")
        receiver = Receiver(self._deliveries, tag, no_ack=True)
        self._reply_target = ReplyTarget(receiver, accepts=self._takes_replies, dropped=self._dropped_replies)
        self._vhost.add_reply_target(self._reply_target)
        self._publishing.reply_to = self._reply_target.name
        self._deliveries.consumers[tag] = receiver

    def _takes_replies(self) -> bool:
        """Return True if the session accepts direct replies.

        They are in no queue, so a client that does not read loses them: beyond a bound of unsent bytes, and
        beyond a lower one while an alarm is raised.
        """
        if self._sink.writable():
            return True
        return not (self._broker.alarms.raised or self._sink.overfull())

    def _dropped_replies(self, count: int, now: int) -> None:
        self._broker.drops.add(self._vhost.name, REPLY_TO, "reply_unread", count, now)
