"""A queue: messages in order, consumers in turn, and the limits between them.

Owns what happens to a message from the moment it is routed here until it is settled or leaves for the dead letters.
It knows its consumers only by what they take, and the rest of the broker only through ``QueueHost``.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Literal, Protocol

from protocol.amqp.message import Message
from router.queue.arguments import QueueArguments
from router.queue.consumers import SLICE, Consumer, Consumers
from router.queue.entry import Entry
from router.queue.expiry import ExpiryIndex
from router.queue.ready import Fifo, Priorities

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]

DRAIN = 4 * SLICE  # messages a queue delivers before others have their turn
DRAIN_BYTES = 1 << 20  # and bytes of bodies given to one consumer at a time


class QueueHost(Protocol):
    """What a queue asks of the virtual host it stands in."""

    def touch(self, queue: "Queue") -> None:
        """Call ``deliver`` at the end of this batch."""

    def schedule(self, when: int, queue: "Queue") -> None:
        """Call ``on_timer`` at ``when`` ms."""

    def dead_letter(self, queue: "Queue", messages: Sequence[Entry], reason: Reason) -> None:
        """Publish these to the queue's dead-letter exchange at the end of this batch."""

    def drop_queue(self, queue: "Queue") -> None:
        """Delete the queue: it expired, or its last consumer left."""


class Queue:
    """One queue of type classic or quorum.

    ``arguments`` are as declared, ``declared`` what they mean, ``settings`` what that and the policies amount to. ``owner`` is the connection an exclusive queue belongs to.
    """

    __slots__ = (
        "_deadline",
        "_expiry",
        "_expiring",
        "_plain",
        "_position",
        "_touched",
        "arguments",
        "auto_delete",
        "bytes",
        "consumers",
        "declared",
        "deleted",
        "durable",
        "had_consumer",
        "host",
        "last_used",
        "name",
        "owner",
        "ready",
        "settings",
        "unacked",
        "vhost",
    )

    def __init__(
        self,
        name: str,
        vhost: str,
        host: QueueHost,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: dict[str, Any],
        declared: QueueArguments,
        settings: QueueArguments,
        now: int,
    ) -> None:
        self.name = name
        self.vhost = vhost
        self.host = host
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments = arguments
        self.declared = declared
        highest = settings.max_priority
        self.ready: Fifo | Priorities = Fifo() if highest is None else Priorities(highest)
        self.consumers = Consumers(single_active=bool(settings.single_active_consumer))
        self.unacked = 0
        self.bytes = 0  # of the bodies of ready messages
        self.deleted = False
        self.had_consumer = False
        self.last_used = now
        self._position = 0
        self._touched = False
        self._expiry = ExpiryIndex()
        self._expiring = False  # whether any message may expire
        self._deadline = 0  # when on_timer was asked for (0: not at all)
        self.configure(settings, now)

    @property
    def quorum(self) -> bool:
        return self.settings.queue_type == "quorum"

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Take on changed settings; the limits hold at once, a message keeps the deadline it has."""
        self.settings = settings
        self._plain = (
            settings.message_ttl is None and settings.max_length is None and settings.max_length_bytes is None
        )
        self._shorten()
        if settings.expires is not None:
            self._wake_at(self.last_used + settings.expires)

    def touch(self) -> None:
        """Have ``deliver`` called at the end of this batch."""
        if not self._touched:
            self._touched = True
            self.host.touch(self)

    # -- messages in ------------------------------------------------------------------------------------------

    def enqueue(self, message: Message, now: int) -> bool:
        """Take a message; False when the queue is full and its overflow setting refuses new ones."""
        if self._plain and message.properties.expiration is None:
            entry = Entry(message, self._position)
        else:
            if self._full(message, now):
                return False
            entry = Entry(message, self._position, self._expires(message, now))
        self._position += 1
        self.bytes += message.size
        if entry.expires:
            self._expiring = True
            if not self.ready.in_deadline_order(entry.expires):
                self._expiry.add(entry)
        self.ready.push(entry)
        if not self._plain and self._over_limit():
            self.deliver(now)  # a consumer that is waiting takes what would be dropped
            self._shorten()
        if not self._touched:
            self._touched = True
            self.host.touch(self)
        return True

    def requeue(self, consumed: Iterable[Entry], now: int) -> None:
        """Put delivered messages back where they were; beyond the delivery limit they go to the dead letters."""
        limit = self.settings.delivery_limit if self.quorum else None
        beyond: list[Entry] = []
        for entry in consumed:
            self.unacked -= 1
            entry.returns += 1
            if limit is not None and entry.returns > limit:
                beyond.append(entry)
                continue
            self.bytes += entry.message.size
            if entry.expires:
                self._expiry.add(entry)
            self.ready.put_back(entry)
        if beyond:
            self.host.dead_letter(self, beyond, "delivery_limit")
        self._shorten()
        self.touch()

    def _expires(self, message: Message, now: int) -> int:
        ttl = self.settings.message_ttl
        expiration = message.properties.expiration
        if expiration is not None:
            own = int(expiration)
            ttl = own if ttl is None else min(ttl, own)
        return 0 if ttl is None else now + ttl

    # -- messages out -----------------------------------------------------------------------------------------

    def deliver(self, now: int) -> bool:
        """Give ready messages to ready consumers, a slice at a time.

        True when there is more to give at once, which the caller does after others had their turn.
        """
        self._touched = False
        if self._expiring:
            self._expire(now)
        given = 0
        while given < DRAIN:
            line = self.consumers.line()
            waiting = len(self.ready) if line else 0
            if line is None or not waiting:
                break
            given += self._round(line, waiting)
        else:
            self._touched = True  # the caller comes back
            return True
        if self._expiring:
            self._expire(now + 1)  # a TTL of 0 means now or never
            self._schedule_expiry()
        return False

    def _round(self, line: deque[Consumer], waiting: int) -> int:
        """Give each of the next consumers in line the same number of messages; return how many went."""
        turn: list[Consumer] = list(islice(line, waiting))
        share = SLICE if len(turn) == len(line) else 1
        for consumer in turn:
            room = consumer.room()
            if room <= 0:
                self.consumers.leave(consumer)
                return 0
            share = min(share, room)
        if len(turn) > 1 and any(consumer.sink.prefetch for consumer in turn):
            turn, share = turn[:1], 1  # consumers that share a limit are asked one by one
        entries = self.ready.take(len(turn) * share, DRAIN_BYTES)
        line.rotate(-(len(entries) % len(line)))
        for index, consumer in enumerate(turn):
            mine = entries[index :: len(turn)] if len(turn) > 1 else entries
            if mine:
                self._give(consumer, mine)
        return len(entries)

    def _give(self, consumer: Consumer, entries: list[Entry]) -> None:
        size = 0
        for entry in entries:
            size += entry.message.size
            if entry.indexed:
                self._expiry.discard(entry)
        self.bytes -= size
        if not consumer.no_ack:
            self.unacked += len(entries)
            consumer.unacked += len(entries)
        consumer.sink.deliver(consumer, entries)
        if consumer.ready and consumer.room() <= 0:
            self.consumers.leave(consumer)

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        """Take one message for basic.get; None when no message is ready."""
        self.last_used = now
        if self._expiring:
            self._expire(now)
        taken = self.ready.take(1, 1)
        if not taken:
            return None
        entry = taken[0]
        self.bytes -= entry.message.size
        if entry.indexed:
            self._expiry.discard(entry)
        if not no_ack:
            self.unacked += 1
        return entry

    def settle(self, count: int) -> None:
        """Forget so many delivered messages: they were acknowledged, or went to the dead letters."""
        self.unacked -= count

    def reject(self, entries: Sequence[Entry]) -> None:
        """Delivered messages were refused for good."""
        self.unacked -= len(entries)
        self.host.dead_letter(self, entries, "rejected")

    def purge(self) -> int:
        """Drop all ready messages; return how many."""
        count = len(self.ready)
        self.ready.take(count, self.bytes + 1)
        self._clear()
        return count

    def _clear(self) -> None:
        highest = self.settings.max_priority
        self.ready = Fifo() if highest is None else Priorities(highest)
        self._expiry.clear()
        self._expiring = False
        self.bytes = 0

    # -- limits -----------------------------------------------------------------------------------------------

    def _over_limit(self, extra: int = 0) -> bool:
        """Whether ``extra`` more messages are more than the length limits allow."""
        settings = self.settings
        return (settings.max_length is not None and len(self.ready) + extra > settings.max_length) or (
            settings.max_length_bytes is not None and self.bytes + extra > settings.max_length_bytes
        )

    def _full(self, message: Message, now: int) -> bool:
        """Whether the overflow setting refuses this message; if it dead-letters what it refuses, it is on its way."""
        settings = self.settings
        if settings.overflow not in ("reject-publish", "reject-publish-dlx") or not self._over_limit(1):
            return False
        self.deliver(now)  # consumers that are waiting make room
        if not self._over_limit(1):
            return False
        if settings.overflow == "reject-publish-dlx":
            self.host.dead_letter(self, [Entry(message, self._position)], "maxlen")
        return True

    def _shorten(self) -> None:
        """Drop from the head what is over the limits."""
        settings = self.settings
        if settings.overflow in ("reject-publish", "reject-publish-dlx"):
            return
        dropped: list[Entry] = []
        if settings.max_length is not None and len(self.ready) > settings.max_length:
            dropped = self.ready.take(len(self.ready) - settings.max_length, self.bytes + 1)
            self.bytes -= sum(entry.message.size for entry in dropped)
        if settings.max_length_bytes is not None:
            while self.bytes > settings.max_length_bytes:
                more = self.ready.take(1, 1)
                dropped += more
                self.bytes -= more[0].message.size
        if dropped:
            self._forget(dropped, "maxlen")

    def _forget(self, entries: list[Entry], reason: Reason) -> None:
        for entry in entries:
            if entry.indexed:
                self._expiry.discard(entry)
        self.host.dead_letter(self, entries, reason)

    # -- time -------------------------------------------------------------------------------------------------

    def _expire(self, now: int) -> None:
        """Take out every message whose deadline is before ``now``."""
        expired = self.ready.overdue(now)
        for entry in self._expiry.due(now):
            self.ready.remove(entry)
            expired.append(entry)
        if expired:
            self.bytes -= sum(entry.message.size for entry in expired)
            self.host.dead_letter(self, sorted(expired), "expired")

    def _schedule_expiry(self) -> None:
        deadlines = [when for when in (self.ready.next_deadline(), self._expiry.next_deadline()) if when]
        if deadlines:
            self._wake_at(min(deadlines))
        elif not len(self.ready):
            self._expiring = False

    def _wake_at(self, when: int) -> None:
        if not self._deadline or when < self._deadline:
            self._deadline = when
            self.host.schedule(when, self)

    def on_timer(self, now: int) -> None:
        """A moment that was asked for has come: messages may have expired, or the queue itself."""
        if self.deleted or now < self._deadline:
            return
        self._deadline = 0
        if self._expiring:
            self._expire(now + 1)
            self._schedule_expiry()
        expires = self.settings.expires
        if expires is not None:
            if len(self.consumers):
                self.last_used = now
            if now - self.last_used >= expires:
                self.host.drop_queue(self)
            else:
                self._wake_at(self.last_used + expires)

    # -- consumers --------------------------------------------------------------------------------------------

    def add_consumer(self, consumer: Consumer, now: int) -> None:
        self.had_consumer = True
        self.last_used = now
        self.consumers.add(consumer)
        self.touch()

    def remove_consumer(self, consumer: Consumer, now: int) -> None:
        """Take a consumer out; what it holds stays with its session. The last one ends an auto-delete queue."""
        self.last_used = now
        self.consumers.remove(consumer)
        if self.auto_delete and not self.consumers and not self.deleted:
            self.host.drop_queue(self)
        elif self.settings.expires is not None:
            self._wake_at(now + self.settings.expires)
        self.touch()

    def close(self) -> list[Consumer]:
        """The queue is being deleted: drop its messages, return its consumers so that they are told."""
        self.deleted = True
        self._clear()
        consumers = list(self.consumers)
        for consumer in consumers:
            self.consumers.leave(consumer)
            consumer.active = False
        self.consumers.all.clear()
        return consumers
