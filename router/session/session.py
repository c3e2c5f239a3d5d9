"""A session: one conversation of a client with the broker, an AMQP channel or a STOMP connection.

Owns publishing, consuming, settling, confirms and transactions, and that the user may do each of it. It speaks no
protocol: what it has for the client goes to its ``SessionSink``. Declaring and binding are in ``topology``.

Sources: RabbitMQ, "Access Control", "Consumer Prefetch", "Consumer Acknowledgements and Publisher Confirms".
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, Protocol

from protocol.amqp.message import Message
from protocol.amqp.properties import splice_properties
from protocol.amqp.table import REMOVE
from protocol.errors import AccessRefused, AmqpError, NotAllowed, NotImplemented_, PreconditionFailed
from router.auth import Kind, Operation, User
from router.broker import Broker
from router.queue.consumers import SLICE, Consumer, Receiver
from router.queue.entry import Entry
from router.queue.queue import Queue
from router.routing import REPLY_TO, Plan, Target, routing_keys
from router.session.confirms import Confirms, Verdict
from router.session.reply_to import ReplyTarget
from router.session.unacked import Held, Unacked
from router.vhost import VHost

GRANTS = 4096  # plans whose permission is remembered per session
EXPIRATION_MAX = 2**32 - 1


class SessionSink(Protocol):
    """The protocol's side of a session."""

    def writable(self) -> bool:
        """Whether the client reads fast enough to be given more."""

    def deliver(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write deliveries; their tags count up from ``first_tag``."""

    def returned(self, message: Message, code: int, text: str) -> None:
        """A mandatory message reached no queue."""

    def cancelled(self, consumer: Consumer) -> None:
        """The broker ended a consumer."""

    def fail(self, error: AmqpError) -> None:
        """Something went wrong outside of any command: the session ends."""


class Transaction:
    """What waits for tx.commit: routed publishes, and settlements in the order they were made."""

    __slots__ = ("publishes", "settlements")

    def __init__(self) -> None:
        self.publishes: list[tuple[Message, Sequence[Target]]] = []
        self.settlements: list[tuple[list[tuple[int, Held]], bool, bool]] = []  # held, acked, requeue


class Session:
    """One session of ``user`` in ``vhost``; ``owner`` is the connection, to which exclusive queues belong."""

    def __init__(self, broker: Broker, vhost: VHost, user: User, owner: object, sink: SessionSink) -> None:
        self.broker = broker
        self.vhost = vhost
        self.user = user
        self.owner = owner
        self.sink = sink
        self.prefetch = 0  # unacknowledged messages of all consumers together (0: no limit)
        self.consumer_prefetch = 0  # what the next consumer gets as its own limit
        self.consumers: dict[str, Receiver] = {}
        self.confirms: Confirms | None = None
        self.transaction: Transaction | None = None
        self._unacked = Unacked()
        self._outstanding = 0  # held messages that count against ``prefetch``: not those of basic.get
        self._next_tag = 1
        self._grants: dict[Plan, int] = {}
        self._plans = vhost.routes.plans
        self._reply_target: ReplyTarget | None = None
        self._marks: list[tuple[int, int]] = []  # (time, next delivery tag then), for the consumer timeout
        self._tick = 0  # ms between looks at the oldest held message (0: none are planned)
        self.closed = False

    # -- publish ----------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Route a message and hand it to its queues.

        Raises NotFound, AccessRefused, PreconditionFailed (a bad expiration, user id or CC header) and NotImplemented_ (immediate).
        """
        plan = self._plans.get(message.route)
        if plan is None or plan.generation != plan.exchange.generation:
            plan = self.vhost.plan(message.route)
        if self._grants.get(plan) != self.user.generation:
            self._grant(plan)
        properties = message.properties
        queues: Sequence[Target] | None = plan.queues
        if (
            properties.headers is not None
            or properties.expiration is not None
            or properties.reply_to is not None
            or properties.user_id is not None
        ):
            message, keys = self._inspect(message, plan)
            if queues is None or len(keys) > 1:
                queues = self.vhost.routes.route(plan.exchange, keys, message)
        elif queues is None:
            queues = self.vhost.routes.route(plan.exchange, (plan.routing_key,), message)
        message.route = plan.route
        if message.bits & 2:
            raise NotImplemented_("immediate=true")
        if self.transaction is not None:
            self.transaction.publishes.append((message, queues))
            return
        accepted = True
        now = self.broker.now
        for queue in queues:
            if not queue.enqueue(message, now):
                accepted = False
        if not queues and message.bits:
            self.sink.returned(message, 312, "NO_ROUTE")
        if self.confirms is not None:
            self.confirms.publish(accepted)

    def _inspect(self, message: Message, plan: Plan) -> tuple[Message, list[str]]:
        """Check the properties that mean something to the broker; return the message to route and its routing keys."""
        properties = message.properties
        if properties.user_id is not None and properties.user_id != self.user.name:
            if "impersonator" not in self.user.tags:
                raise PreconditionFailed(
                    f"user_id property set to '{properties.user_id}' but authenticated user was '{self.user.name}'"
                )
        if properties.expiration is not None:
            check_expiration(properties.expiration)
        keys = [plan.routing_key]
        if properties.headers:
            for name in ("CC", "BCC"):
                if name in properties.headers and not isinstance(properties.headers[name], list):
                    raise PreconditionFailed(f"invalid header '{name}': an array of strings is needed")
            keys = routing_keys(plan.routing_key, properties.headers)
        changes: dict[str, Any] = {}
        if properties.reply_to == REPLY_TO:
            if self._reply_target is None:
                raise PreconditionFailed("fast reply consumer does not exist")
            changes["reply_to"] = self._reply_target.name
        if properties.headers and "BCC" in properties.headers:
            changes["headers"] = {"BCC": REMOVE}
        if changes:
            bits = message.bits
            message = message.rewritten(
                plan.exchange.name, plan.routing_key, splice_properties(message.raw_properties, **changes)
            )
            message.bits = bits
        return message, keys

    def _grant(self, plan: Plan) -> None:
        """Check that the user may publish along this plan, and remember that for as long as the rights stand."""
        exchange = plan.exchange
        self.check("write", "exchange", exchange.name)
        if exchange.internal:
            raise AccessRefused(
                f"cannot publish to internal exchange '{exchange.name}' in vhost '{self.vhost.name}'"
            )
        if exchange.type == "topic":
            self.user.check_route(self.vhost.name, exchange.name, "write", plan.routing_key)
        if len(self._grants) >= GRANTS:
            self._grants.clear()
        self._grants[plan] = self.user.generation

    def check(self, operation: Operation, kind: Kind, name: str) -> None:
        """AccessRefused unless the user may do this to that exchange or queue."""
        self.user.check(self.vhost.name, operation, kind, name)

    def verdicts(self) -> list[Verdict]:
        """Confirms to be told to the publisher now."""
        return self.confirms.verdicts() if self.confirms is not None else []

    # -- consume ----------------------------------------------------------------------------------------------

    def consume(
        self,
        queue_name: str,
        tag: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a consumer; its deliveries begin with the next flush, so the caller has time to tell the client first."""
        arguments = arguments or {}
        if tag in self.consumers:
            raise NotAllowed(f"attempt to reuse consumer tag '{tag}'")
        if queue_name == REPLY_TO:
            self._consume_replies(tag, no_ack=no_ack)
            return
        self.check("read", "queue", queue_name)
        queue = self.vhost.queue_for(queue_name, self.owner)
        priority = arguments.get("x-priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise PreconditionFailed("invalid arg 'x-priority': an integer is needed")
        if any(other.exclusive for other in queue.consumers) or (exclusive and len(queue.consumers)):
            raise AccessRefused(f"queue '{queue.name}' in vhost '{self.vhost.name}' in exclusive use")
        consumer = Consumer(
            queue,
            self,
            tag,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=self.consumer_prefetch,
            priority=priority,
            arguments=arguments,
        )
        self.consumers[tag] = consumer
        queue.add_consumer(consumer, self.broker.now)
        self._watch(consumer)

    def _consume_replies(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise PreconditionFailed("reply consumer cannot acknowledge")
        if self._reply_target is not None:
            raise PreconditionFailed("reply consumer already set")
        receiver = Receiver(self, tag, no_ack=True)
        self._reply_target = ReplyTarget(receiver)
        self.vhost.add_reply_target(self._reply_target)
        self.consumers[tag] = receiver

    def cancel(self, tag: str) -> None:
        """End a consumer; what it holds stays to be settled. An unknown tag is no error."""
        consumer = self.consumers.pop(tag, None)
        if isinstance(consumer, Consumer):
            consumer.queue.remove_consumer(consumer, self.broker.now)
        elif consumer is not None and self._reply_target is not None:
            self.vhost.remove_reply_target(self._reply_target)
            self._reply_target = None

    def get(self, queue_name: str, *, no_ack: bool) -> tuple[int, Entry, Queue] | None:
        """Take one message: its delivery tag, the entry and the queue; None when the queue is empty."""
        self.check("read", "queue", queue_name)
        queue = self.vhost.queue_for(queue_name, self.owner)
        entry = queue.get(self.broker.now, no_ack=no_ack)
        if entry is None:
            return None
        tag = self._next_tag
        self._next_tag += 1
        if not no_ack:
            getter = Consumer(queue, self, "")
            self._unacked.hold([(tag, (getter, entry))])
            self._watch(getter)
        return tag, entry, queue

    def set_prefetch(self, count: int, *, shared: bool) -> None:
        """Limit what all consumers together hold, or what each consumer started from now on does."""
        if shared:
            self.prefetch = count
            self.wake()
        else:
            self.consumer_prefetch = count

    def wake(self) -> None:
        """There may be room again: have all consumers stand in line that can."""
        for consumer in self.consumers.values():
            consumer.wake()

    # -- DeliverySink -----------------------------------------------------------------------------------------

    def room(self) -> int:
        """How many more messages the session takes now."""
        if not self.sink.writable():
            return 0
        return self.prefetch - self._outstanding if self.prefetch else SLICE

    def deliver(self, receiver: Receiver, entries: Sequence[Entry]) -> None:
        """Number the messages, hold those that must be settled, and write them."""
        first, count = self._next_tag, len(entries)
        self._next_tag += count
        if isinstance(receiver, Consumer) and not receiver.no_ack:
            self._outstanding += count
            held = zip(repeat(receiver), entries, strict=False)
            self._unacked.hold(zip(range(first, first + count), held, strict=True))
        self.sink.deliver(receiver, first, entries)

    def cancelled(self, consumer: Consumer) -> None:
        self.consumers.pop(consumer.tag, None)
        self.sink.cancelled(consumer)

    # -- settle -----------------------------------------------------------------------------------------------

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Settle one message, or all up to it. PreconditionFailed for a tag that is not held."""
        if self.transaction is not None:
            self.transaction.settlements.append((self._taken(tag, multiple), True, False))
            return
        if multiple:
            self._apply(self._taken(tag, True), acked=True, requeue=False)
            return
        consumer, _ = self._unacked.take(tag)
        consumer.queue.settle(1)
        if consumer.tag:
            consumer.unacked -= 1
            self._outstanding -= 1
            if self.prefetch:
                self.wake()
            elif not consumer.ready:
                consumer.wake()

    def nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """Refuse one message, or all up to it: back to their queues, or to the dead letters."""
        taken = self._taken(tag, multiple)
        if self.transaction is not None:
            self.transaction.settlements.append((taken, False, requeue))
        else:
            self._apply(taken, acked=False, requeue=requeue)

    def recover(self) -> None:
        """Put all held messages back into their queues."""
        self._apply(self._unacked.take_all(), acked=False, requeue=True)

    def _taken(self, tag: int, multiple: bool) -> list[tuple[int, Held]]:
        return self._unacked.take_through(tag) if multiple else [(tag, self._unacked.take(tag))]

    def _apply(self, taken: Iterable[tuple[int, Held]], *, acked: bool, requeue: bool) -> None:
        """Settle held messages, each queue's together."""
        by_queue: dict[Queue, list[Entry]] = {}
        consumers: dict[Consumer, None] = {}
        for _, (consumer, entry) in taken:
            by_queue.setdefault(consumer.queue, []).append(entry)
            if consumer.tag:
                consumer.unacked -= 1
                self._outstanding -= 1
                consumers[consumer] = None
        for queue, entries in by_queue.items():
            if acked or queue.deleted:
                queue.settle(len(entries))
            elif requeue:
                queue.requeue(entries, self.broker.now)
            else:
                queue.reject(entries)
        if self.prefetch:
            self.wake()
        else:
            for consumer in consumers:
                consumer.wake()

    # -- confirms and transactions ----------------------------------------------------------------------------

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
        """Do all that was published and settled since the last commit."""
        transaction = self._transaction()
        self.transaction = Transaction()
        for message, queues in transaction.publishes:
            for queue in queues:
                queue.enqueue(message, self.broker.now)
            if not queues and message.bits & 1:
                self.sink.returned(message, 312, "NO_ROUTE")
        for taken, acked, requeue in transaction.settlements:
            self._apply(taken, acked=acked, requeue=requeue)

    def rollback(self) -> None:
        """Forget all that was published and settled since the last commit; what was settled is held again."""
        transaction = self._transaction()
        self.transaction = Transaction()
        for taken, _, _ in transaction.settlements:
            self._unacked.give_back(taken)

    def _transaction(self) -> Transaction:
        if self.transaction is None:
            raise PreconditionFailed("channel is not transactional")
        return self.transaction

    # -- time and end -----------------------------------------------------------------------------------------

    def _watch(self, consumer: Consumer) -> None:
        """Plan looks at how long messages are held, often enough for this consumer's queue."""
        timeout = self._timeout(consumer.queue)
        if consumer.no_ack or not timeout:
            return
        tick = max(100, min(self.broker.settings.queue.channel_tick, timeout // 4))
        if not self._tick or tick < self._tick:
            self._tick = tick
            self.broker.schedule(self.broker.now + tick, self)

    def _timeout(self, queue: Queue) -> int:
        own = queue.settings.consumer_timeout
        return self.broker.settings.queue.consumer_timeout if own is None else own

    def on_timer(self, now: int) -> None:
        """Look whether any message is held for longer than its queue's consumer timeout; if so the session ends."""
        if self.closed:
            return
        self._marks.append((now, self._next_tag))
        longest = 0
        for held_since, tag in reversed(self._marks):
            for _, (consumer, _) in self._unacked.older_than(tag):
                timeout = self._timeout(consumer.queue)
                longest = max(longest, timeout)
                if timeout and now - held_since >= timeout:
                    self.sink.fail(
                        PreconditionFailed(
                            "delivery acknowledgement on channel timed out. "
                            f"Timeout value used: {timeout} ms. "
                            "This timeout value can be configured, see consumers doc guide to learn more"
                        )
                    )
                    return
        self._marks = [mark for mark in self._marks if now - mark[0] <= longest]
        self.broker.schedule(now + self._tick, self)

    def close(self) -> None:
        """The session is over: its consumers end, a transaction is undone, and what it holds goes back to the queues."""
        if self.closed:
            return
        self.closed = True
        if self.transaction is not None:
            self.rollback()
        for tag in list(self.consumers):
            self.cancel(tag)
        self.recover()


def check_expiration(text: str) -> None:
    """PreconditionFailed unless ``text`` is a TTL in ms, as a decimal number of at most 32 bits."""
    if not (text.isascii() and text.isdigit()):
        raise PreconditionFailed(f"invalid expiration '{text}': a decimal number of ms is needed")
    if int(text) > EXPIRATION_MAX:
        raise PreconditionFailed(f"invalid expiration '{text}': larger than {EXPIRATION_MAX} ms")
