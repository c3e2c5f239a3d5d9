"""A classic or quorum queue: enqueues messages, and has consumers.

Responsible for the order between deliveries and new messages. The stored messages are in ``contents``, length
limits and TTL in ``limits``, and deliveries and their settlement in ``delivery``.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Unpack

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AccessRefused, NotImplemented_, PreconditionFailed
from leveret.router.arguments.queue import QueueArguments
from leveret.router.deduplication.arguments import cache_of
from leveret.router.deduplication.deduplicator import Admission, Duplicate, Identity
from leveret.router.queue.admission import AdmissionLimits
from leveret.router.queue.consumers import Consumer, DeliverySink
from leveret.router.queue.delivery import QueueDeliveries
from leveret.router.queue.entry import Entry, QueuedEntry
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.host import QueueHost
from leveret.router.queue.interface import QueueStorage
from leveret.router.queue.lifecycle import Declaration
from leveret.router.queue.log import QueueLog
from leveret.router.queue.paged_run import Pager
from leveret.router.queue.paging import Paging
from leveret.router.values.outcome import REFUSED, Awaited, Outcome


class Queue(QueueDeliveries):
    """One queue of type classic or quorum."""

    __slots__ = ("_plain",)

    def __init__(self, name: str, vhost: str, host: QueueHost, **declaration: Unpack[Declaration]) -> None:
        super().__init__(name, vhost, host, **declaration)
        settings, now = self.settings, self.last_used
        self.deduplication = cache_of(self.arguments)
        self.configure(settings, now)
        if settings.expires is not None:
            self._wake_at(now + settings.expires)

    def keep(self, storage: QueueStorage) -> None:
        """Store a new queue if it is durable and not exclusive, and enable paging."""
        stored = self.durable and self.owner is None
        self.attach(storage.keep_queue(self) if stored else None, storage.pager)

    def attach(self, log: QueueLog | None, pager: Pager | None) -> None:
        """Set the log and the pager of a new or restored queue."""
        self.log = log
        if self.deduplication is not None:
            self.deduplication.notes = None if log is None else log.notes
        if pager is not None:
            self.paging = Paging(self, pager)

    def refuse(self, entry: Entry) -> None:
        super().refuse(entry)
        if self.deduplication is not None:
            self.deduplication.forget(entry.message)

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Apply changed settings: limits at once, a changed TTL to new messages only.

        A changed ``expires`` counts from now: a policy must not delete a queue at once.
        """
        if settings.expires is not None and settings.expires != self.settings.expires:
            self.last_used = now
            self._wake_at(now + settings.expires)
        self.settings = settings
        self._keeps_all = self.quorum
        self.limits = AdmissionLimits(settings)
        self._plain = self.limits.unlimited and self.deduplication is None
        self.shorten()

    # -- messages in ---------------------------------------------------------------------------------------

    def enqueue(self, message: Message, now: int) -> Outcome:
        """Enqueue a message, unless it is a duplicate, or the queue is full and refuses new messages."""
        if self._touched and (self._by_priority or self.consumers.sharing):
            self._deliver_before(message)
        if not self._plain or message.traits.expiration is not None:
            return self._enqueue_limited(message, now)
        entry = QueuedEntry(message, self._position)
        self._position += 1
        self.bytes += message.size
        ready = self.ready
        if type(ready) is Fifo:
            ready.back.append(entry)  # as ``push`` does, which would be one more call for each message
        else:
            ready.push(entry)
        log, awaited = self.log, None
        if log is not None and (message.traits.persistent or self._keeps_all):
            log.store(entry, message)
            awaited = entry
        if not self._touched:
            self._touched = True
            self.host.touch(self)
        return awaited

    def _enqueue_limited(self, message: Message, now: int) -> Outcome:
        """Enqueue a message to which limits, a TTL or deduplication apply."""
        identity = self._admit(message)
        if isinstance(identity, Duplicate):
            return identity.barrier
        if self._refuses(message, now):
            return REFUSED
        expires = self.limits.deadline(message, now)
        if 0 < expires <= now and self._touched:
            self.host.deliver_touched()  # if this empties the queue, the message expires at once
        entry = QueuedEntry(message, self._position, expires)
        self._position += 1
        self.bytes += message.size
        if expires:
            self._expiring = True
            if not self.ready.in_deadline_order(expires):
                self.expiry.add(entry)
        self.ready.push(entry)
        log, awaited = self.log, None
        if log is not None and (message.traits.persistent or self._keeps_all):
            log.store(entry, message)
            awaited = entry
        if isinstance(identity, Identity):
            self._remember(identity)
        self.touch()
        if self.limits.exceeded(len(self.ready), self.bytes):
            self._drain(now)  # a waiting consumer gets messages that would otherwise be dropped
            self.shorten()
        return awaited

    def _deliver_before(self, message: Message) -> None:
        """Deliver older messages to waiting consumers before a new one changes which messages they get.

        A message of a higher priority would overtake older ones. If consumers of this queue share a prefetch
        count with consumers of other queues, they would get this message instead of older messages of those
        queues.
        """
        if self.consumers.sharing or (self.ready.passes(message) and self.consumers.line() is not None):
            self.host.deliver_touched()

    def _refuses(self, message: Message, now: int) -> bool:
        """Return True if the queue is full and refuses this message, which may make it a dead letter."""
        limits = self.limits
        if not limits.refusing or not limits.exceeded(len(self.ready) + 1, self.bytes + message.size):
            return False
        self.touch()
        self._drain(now)  # deliveries to waiting consumers make room
        if not limits.exceeded(len(self.ready) + 1, self.bytes + message.size):
            return False
        if limits.dead_lettering:
            self.host.dead_letter(self, [QueuedEntry(message, self._position)], "maxlen")
        else:
            self.host.refused(self)
        return True

    def _admit(self, message: Message) -> Admission:
        deduplication = self.deduplication
        return None if deduplication is None else deduplication.admit(message, self.host.wall * 1000)

    def _remember(self, identity: Identity) -> None:
        assert self.deduplication is not None
        self.deduplication.remember(identity, self.host.wall * 1000)

    def enqueue_all(self, messages: Sequence[Message], size: int, now: int) -> Sequence[Awaited] | None:
        """Enqueue messages that are handled alike.

        Returns None, and enqueues none, if limits, TTL, deduplication or priorities have to be applied to
        each.
        """
        first = messages[0]
        if self._by_priority and len({message.traits.priority for message in messages}) > 1:
            return None
        if self._touched and (self._by_priority or self.consumers.sharing):
            self._deliver_before(first)
        if not self._plain or first.traits.expiration is not None:
            return None
        position = self._position
        self._position += len(messages)
        entries = list(map(QueuedEntry, messages, range(position, self._position)))
        self.bytes += size
        self.ready.extend(entries)
        log = self.log
        if log is not None and (first.traits.persistent or self._keeps_all):
            log.store_all(entries, messages)
            self.touch()
            return entries
        self.touch()
        return ()

    def repair(self, held: tuple[Sequence[Entry], int], dying: Container[int], now: int) -> None:
        """Implement ``AnyQueue.repair``, in time proportional to the number of messages in memory."""
        delivered, self._paused = held
        self._recount(delivered, dying)
        self._wakes.clear()
        self._schedule_expiry()
        if self.settings.expires is not None:
            self._wake_at(now + self.settings.expires)
        for consumer in list(self.consumers):
            if consumer.sink.finished:  # an exception has prevented its removal
                self.remove_consumer(consumer, now)
            else:
                consumer.wake()
        if not self.deleted:
            self._touched = False
            self.touch()

    # -- consumers -----------------------------------------------------------------------------------------

    def consumer(
        self,
        sink: DeliverySink,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        arguments: Mapping[str, Any],
    ) -> Consumer:
        """Return a consumer. Raises PreconditionFailed, NotImplemented_ or AccessRefused if not allowed."""
        for name in ("x-stream-offset", "x-stream-offset-if-new"):
            if name in arguments:
                kind = self.settings.queue_type
                raise PreconditionFailed(
                    f"invalid arg '{name}' for {self.what} of queue type rabbit_{kind}_queue"
                )
        if sink.prefetch and self.quorum:
            raise NotImplemented_(f"{self.what} does not support global qos")
        if self.consumers.refuse(exclusive=exclusive):
            raise AccessRefused(f"{self.what} in exclusive use")
        return Consumer(
            self,
            sink,
            tag,
            no_ack=no_ack,
            exclusive=exclusive,
            prefetch=prefetch,
            priority=arguments.get("x-priority", 0),
            arguments=arguments,
        )

    def on_timer(self, now: int) -> None:
        """Expire messages, or the queue itself, at a scheduled time."""
        if self.deleted or not self._wakes or now < self._wakes[-1]:
            return
        while self._wakes and self._wakes[-1] <= now:
            self._wakes.pop()
        super().on_timer(now)
        expires = self.settings.expires
        if expires is not None:
            if len(self.consumers):
                self.last_used = now
            if now - self.last_used >= expires:
                self.host.expire_queue(self)
            else:
                self._wake_at(self.last_used + expires)

    def add_consumer(self, consumer: Consumer, now: int) -> None:
        self.last_used = now
        self.consumers.add(consumer)
        self.touch()

    def remove_consumer(self, consumer: Consumer, now: int) -> None:
        """Remove a consumer; its session keeps its deliveries. The last one ends an auto-delete queue."""
        self.last_used = now
        self.consumers.remove(consumer)
        if self.auto_delete and not self.consumers and not self.deleted:
            self.host.drop_queue(self)
        elif self.settings.expires is not None:
            self._wake_at(now + self.settings.expires)
        self.touch()

    def close(self) -> list[Consumer]:
        """Drop all messages of a queue that is being deleted; return its consumers, to be cancelled."""
        self.deleted = True
        self.log = None
        self.probe = None
        if self.paging is not None:
            self.paging.close()
            self.paging = None  # it refers to the queue: leave no reference cycle
        self._clear()
        return list(self.consumers)
