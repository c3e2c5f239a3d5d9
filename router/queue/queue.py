"""A queue: messages in order, consumers in turn, the limits between them; long, for they share one state.

Owns what happens to a message from the moment it is routed here until it is settled or leaves for the dead
letters. It knows its consumers only by what they take, and the rest of the broker only through ``QueueHost``.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import PERSISTENT
from leveret.protocol.errors import AccessRefused, NotImplemented_, PreconditionFailed
from leveret.router.arguments.queue import QueueArguments
from leveret.router.deduplication.cache import HEADER, SIZE, Deduplication
from leveret.router.queue.consumers import SLICE, Consumer, Consumers, DeliverySink
from leveret.router.queue.dispatch import DRAIN, serve_round
from leveret.router.queue.entry import Entry
from leveret.router.queue.expiry import ExpiryIndex
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.host import QueueHost, Reason
from leveret.router.queue.interface import QueueKeeper
from leveret.router.queue.latency_probe import Probe
from leveret.router.queue.log import QueueLog
from leveret.router.queue.paged_run import Run
from leveret.router.queue.paging import NotAtHand, Paging
from leveret.router.queue.priorities import Priorities
from leveret.router.turns.backlog import Slices
from leveret.router.values.counters import Given

REFUSING = ("reject-publish", "reject-publish-dlx")  # overflow settings that keep what is there
DRAIN_BYTES = 1 << 20  # and bytes of bodies given in one round
POSITION = attrgetter("position")
SOME = 4  # messages over the limits that go when one comes, while most go in later turns
INFINITE = 1 << 62  # bytes
EXPIRE = 4 * SLICE  # messages that expire before others have their turn


class Queue:
    """One queue of type classic or quorum.

    ``arguments`` are as declared, ``declared`` what they mean, ``settings`` what that and the policies amount
    to. ``owner`` is the connection an exclusive queue belongs to.
    """

    __slots__ = (
        "_by_priority",
        "_expiring",
        "_first",
        "_keeps_all",
        "_paused",
        "_plain",
        "_position",
        "_reclaimed",
        "_returned",
        "_shortening",
        "_touched",
        "_wakes",
        "arguments",
        "auto_delete",
        "bytes",
        "consumers",
        "counts",
        "declared",
        "deduplication",
        "deleted",
        "durable",
        "expiry",
        "held",
        "host",
        "last_used",
        "log",
        "name",
        "owner",
        "paging",
        "probe",
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
        self._by_priority = highest is not None
        self.ready: Fifo | Priorities = Fifo() if highest is None else Priorities(highest)
        self.consumers = Consumers(single_active=bool(settings.single_active_consumer))
        self.unacked = 0
        self.bytes = 0  # of the bodies of ready messages
        self.deleted = False
        self.last_used = now
        self.counts = Given()
        self._position = self._first = 0
        self._returned = False  # whether any ready message may have been given out before
        self._touched = False
        self._reclaimed: list[Entry] = []  # to be put back unless somebody holds them
        self._paused = 0  # by how many sessions that give messages back
        self._shortening = False  # whether what is over the limits goes on in later turns
        self.expiry = ExpiryIndex()
        self._expiring = False  # whether any message may expire
        self.log: QueueLog | None = None  # whoever keeps a durable queue's messages
        self.probe: Probe | None = None  # who measures how long messages wait; None: nobody
        self.held: dict[int, Entry] = {}  # stored entries that are not ready: delivered, or dying
        self.paging: Paging | None = None  # how it gives up memory; None: it does not
        self._keeps_all = False  # whether transient messages are stored too
        self._wakes: list[int] = []  # when on_timer was asked for, the next time last
        self.settings = settings
        self.deduplication: Deduplication | None = None
        if settings.deduplication:
            self.deduplication = Deduplication(
                settings.deduplication_header or HEADER, settings.cache_size or SIZE, settings.cache_ttl or 0
            )
        self.configure(settings, now)
        if settings.expires is not None:
            self._wake_at(now + settings.expires)

    @property
    def quorum(self) -> bool:
        return self.settings.queue_type == "quorum"

    @property
    def counted(self) -> bool:
        """Whether clients are told how often a message was delivered before."""
        return self.quorum

    @property
    def finished(self) -> bool:
        """No timer means anything to a deleted queue."""
        return self.deleted

    @property
    def what(self) -> str:
        """What it is called in replies."""
        return f"queue '{self.name}' in vhost '{self.vhost}'"

    def keep(self, keeper: QueueKeeper) -> None:
        """Have it kept, as far as it outlives the broker, and its messages moved out of memory."""
        if keeper.pager is not None:
            self.paging = Paging(self, keeper.pager)
        if self.durable and self.owner is None:
            self.log = keeper.keep_queue(self)

    @property
    def published(self) -> int:
        """How many messages it has taken in since the broker's start."""
        return self._position - self._first

    @property
    def acknowledged(self) -> int:
        """How many of them, or of older ones, were acknowledged since then."""
        return self.counts.acknowledged(self.unacked)

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Take on changed settings; the limits hold at once, a message keeps the deadline it has.

        A changed ``expires`` counts from now, so that nobody's queue is gone the moment a policy is set.
        """
        if settings.expires is not None and settings.expires != self.settings.expires:
            self.last_used = now
            self._wake_at(now + settings.expires)
        self.settings = settings
        self._keeps_all = self.quorum
        self._plain = (
            settings.message_ttl is None
            and settings.max_length is None
            and settings.max_length_bytes is None
            and self.deduplication is None
        )
        self.shorten()

    def touch(self) -> None:
        """Have ``deliver`` called at the end of this batch."""
        if not self._touched:
            self._touched = True
            self.host.touch(self)

    # -- messages in ---------------------------------------------------------------------------------------

    def enqueue(self, message: Message, now: int, *, again: bool = False) -> bool:
        """Take a message; False when the queue is full and its overflow setting refuses new ones. The window
        is not asked for one that comes ``again``: it would be lost.
        """
        if self._touched and (self._by_priority or self.consumers.sharing):
            self._deliver_before(message)
        key = None
        if self._plain and message.properties.expiration is None:
            entry = Entry(message, self._position)
        else:
            window = self.deduplication
            key = None if window is None or again else window.key(message.properties.headers)
            if key is not None and self._came_before(message, key):
                return True
            if self._full(message, now):
                return False
            expires = self._expires(message, now)
            if 0 < expires <= now and self._touched:
                self.host.deliver_touched()  # so that it stands first, if it does, and expires at once
            entry = Entry(message, self._position, expires)
        self._position += 1
        self.bytes += message.size
        if entry.expires:
            self._expiring = True
            if not self.ready.in_deadline_order(entry.expires):
                self.expiry.add(entry)
        self.ready.push(entry)
        log = self.log
        if log is not None and (message.properties.delivery_mode == PERSISTENT or self._keeps_all):
            log.enqueue(entry, message)
        if key is not None:  # not before: the message would be lost if it failed and came again
            self._remember(key, entry.position)
        if not self._touched:
            self._touched = True
            self.host.touch(self)
        if not self._plain and self._over_limit():
            self._drain(now)  # a consumer that is waiting takes what would be dropped
            self.shorten()
        return True

    def _deliver_before(self, message: Message) -> None:
        """Consumers that are waiting take what came before this message if it would pass that, and if they
        share a limit with consumers of other queues, whose messages came before too.
        """
        if self.consumers.sharing or (self.ready.passes(message) and self.consumers.line() is not None):
            self.host.deliver_touched()

    def _came_before(self, message: Message, key: bytes) -> bool:
        """Whether a message with this value came lately. It is confirmed when that one is on disk."""
        assert self.deduplication is not None
        known = self.deduplication.known(key, self.host.wall * 1000)
        if known is None:
            return False
        if self.log is not None:
            self.log.await_commit(message, known.position, key, self.deduplication.again(key))
        return True

    def _remember(self, key: bytes, position: int) -> None:
        """The message at this position has this value."""
        assert self.deduplication is not None
        note = None if self.log is None else self.log.note
        self.deduplication.add(key, position, self.host.wall * 1000, note)

    def enqueue_all(self, messages: Sequence[Message], now: int) -> bool:
        """Take messages that differ in their bodies alone; False when each has to be looked at, and none was
        taken.
        """
        first = messages[0]
        if self._touched and (self._by_priority or self.consumers.sharing):
            self._deliver_before(first)
        if not self._plain or first.properties.expiration is not None:
            return False
        position = self._position
        self._position += len(messages)
        entries = list(map(Entry, messages, range(position, self._position)))
        self.bytes += first.size * len(messages)
        self.ready.extend(entries)
        log = self.log
        if log is not None and (first.properties.delivery_mode == PERSISTENT or self._keeps_all):
            log.enqueue_all(entries, messages)
        self.touch()
        return True

    def restore(self, line: Fifo, parts: Sequence[Run | list[Entry]]) -> None:
        """Take in messages of one priority that were kept while there was no broker, in their order."""
        for index, part in enumerate(parts):
            if isinstance(part, Run) or (line.runs and index < len(parts) - 1):
                run = part if isinstance(part, Run) else Run.of(line, part)
                line.push_run(run)
                self.bytes += run.size
                self.index(run)
            else:
                for entry in part:
                    line.push(entry)
                    self.bytes += entry.message.size
                    self.index(entry)

    def resume(self, next_position: int) -> None:
        """Everything was restored; the next message gets this position."""
        self._position = self._first = next_position
        self._returned = True
        self.shorten()
        self.touch()

    def index(self, item: Entry | Run) -> None:
        """Know when something that is ready expires, wherever it stands."""
        if item.expires:
            self._expiring = True
            self.expiry.add(item)

    def requeue(self, consumed: Iterable[Entry], now: int) -> None:
        """Put delivered messages back where they were; beyond the delivery limit they are dead letters."""
        limit = self.settings.delivery_limit if self.quorum else None
        beyond: list[Entry] = []
        self._returned = True
        for entry in consumed:
            self.unacked -= 1
            self.counts.back += 1
            entry.returns += 1
            if entry.stored and self._keeps_all and self.log is not None:
                self.log.give_back(entry)
            if limit is not None and entry.returns > limit:
                beyond.append(entry)
                continue
            self.bytes += entry.message.size
            self.index(entry)
            self.ready.put_back(entry)
            self.held.pop(entry.position, None)
        if beyond:
            self.host.dead_letter(self, beyond, "delivery_limit")
        self.shorten()
        self.touch()

    def give_back(self, consumed: Iterable[Entry], now: int) -> None:
        """The session that held delivered messages is over."""
        self.requeue(consumed, now)

    def reclaim(self, entries: Iterable[Entry]) -> None:
        """Put those of these messages back that nobody holds by the end of the batch: an exception was raised
        while they were in nobody's hands.
        """
        self._reclaimed += entries
        self.host.suspect(self)

    def put_right(self, held: tuple[Sequence[Entry], int], dying: Container[int], now: int) -> None:
        """Put the queue right after an exception in its code; as ``AnyQueue.put_right``.

        It takes as long as it takes to look at all messages in memory.
        """
        delivered, self._paused = held
        reclaimed, self._reclaimed = self._reclaimed, []
        if reclaimed:
            known = {id(entry) for entry in chain(delivered, self.ready)}
            for entry in {id(entry): entry for entry in reclaimed}.values():
                if id(entry) not in known and id(entry) not in dying:
                    self._take_back(entry)
            self._returned = True
        self.unacked = len(delivered)
        self.held |= {entry.position: entry for entry in delivered if entry.stored}
        self.bytes = sum(entry.message.size for entry in self.ready)
        self.bytes += sum(run.size for run in self.ready.runs if run.entries is None)
        self.expiry = ExpiryIndex()
        for line in self.ready.lines:
            for each in line.parts():
                each.indexed = False
                self.index(each)
        self._expiring = True  # which is found out again
        self._wakes.clear()
        self._schedule_expiry()
        if self.settings.expires is not None:
            self._wake_at(now + self.settings.expires)
        for consumer in list(self.consumers):
            if consumer.sink.finished:  # which an exception has left here
                self.remove_consumer(consumer, now)
            else:
                consumer.wake()
        if not self.deleted:
            self._touched = False
            self.touch()

    def _take_back(self, entry: Entry) -> None:
        """A message is in nobody's hands: put it back, unless it was settled."""
        self.held.pop(entry.position, None)
        if entry.settled:
            self.release([entry])
            return
        if entry.gone:  # it still stands among the ready ones, where it is skipped
            entry = entry.copy()
        entry.indexed = False
        self.index(entry)
        self.ready.put_back(entry)

    def pause_deliveries(self) -> None:
        """Deliver nothing until ``resume_deliveries``: of messages that come back more are to come, which
        stand before what would be delivered. ``get`` waits, too.
        """
        self._paused += 1

    def resume_deliveries(self) -> None:
        self._paused -= 1
        if not self.deleted:
            self.touch()

    def _expires(self, message: Message, now: int) -> int:
        ttl = self.settings.message_ttl
        expiration = message.properties.expiration
        if expiration is not None:
            own = int(expiration)
            ttl = own if ttl is None else min(ttl, own)
        return 0 if ttl is None else now + ttl

    # -- messages out --------------------------------------------------------------------------------------

    def deliver(self, now: int) -> bool:
        """Give ready messages to ready consumers, a slice at a time.

        True when there is more to give at once, which the caller does after others had their turn.
        """
        self._touched = False
        if self.probe is not None:
            self.probe.arrived(self._position, now)
        more = self._drain(now)
        if more:
            self._touched = True  # the caller comes back
        if self.paging is not None:
            self.paging.weigh()
        return more

    def _drain(self, now: int) -> bool:
        if self._paused:
            return False
        if self._expiring:
            self._expire(now)
        left = DRAIN
        while left > 0:
            line = self.consumers.line()
            if line is None:
                break
            waiting = self.ready.at_hand()
            if waiting:
                left -= serve_round(self, line, waiting, now)
            elif not self.ready:
                break  # who is full keeps its place until there is a message that it cannot take
            elif self.consumers.skip_full(line) and not self._bring():
                break
        else:
            return True
        if self._expiring:
            self._expire(now + 1)  # a TTL of 0 means now or never
            self._schedule_expiry()
        return False

    def _bring(self) -> bool:
        """Have the next messages in memory; False when there are none, or when they have to be read first."""
        return self.paging is not None and self.paging.bring()

    def take(self, count: int, now: int) -> tuple[list[Entry], int]:
        """Take up to ``count`` messages; return those that may still be given, and how many have left."""
        entries = self.ready.take(count, DRAIN_BYTES)
        left = len(entries)
        if self._expiring:
            return self._in_time(entries, now), left
        return entries, left

    def give(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Hand taken messages to a consumer."""
        size = 0
        for entry in entries:
            size += entry.message.size
            if entry.indexed:
                self.expiry.discard(entry)
        self.bytes -= size
        if consumer.no_ack:
            self.counts.deliver_no_ack += len(entries)
        else:
            self.counts.deliver += len(entries)
            self.unacked += len(entries)
        if self._returned:
            self._count_returned(consumer, entries)
        if self.probe is not None and self.probe.position >= 0:
            self.probe.delivered(entries, consumer)
        if self.log is not None:
            self._hand_out(entries, no_ack=consumer.no_ack)
        consumer.sink.deliver(consumer, entries)

    def _count_returned(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Count those that are given out again, as long as any may be."""
        count = sum(entry.returns > 0 for entry in entries)
        self.counts.redeliver += count
        consumer.redelivered += count
        self._returned = len(self.ready) > 0

    def awaits_disk(self) -> bool:
        """Whether the next message has to be read, or to come back, before it can be taken."""
        return self._paused > 0 or (self.paging is not None and self.paging.awaits_disk())

    def count(self, now: int) -> int:
        """How many messages are ready, without those that could not wait for a consumer."""
        if self._expiring:
            self._drain(now)
        return len(self.ready)

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        """Take one message for basic.get; None when no message is ready. Raises what ``Paging.wait`` does."""
        self.last_used = now
        if self._paused:
            raise NotAtHand(self)
        entries: list[Entry] = []
        while not entries and (self.ready.at_hand() or self._bring()):
            entries = self._in_time(self.ready.take(1, 1), now + 1)  # a TTL of 0 is over already
        if not entries:
            if self.paging is not None:
                self.paging.wait()
            self.counts.get_empty += 1
            return None
        entry = entries[0]
        try:
            self.bytes -= entry.message.size
            if entry.indexed:
                self.expiry.discard(entry)
            if not no_ack:
                self.unacked += 1
            self.counts.got(no_ack=no_ack, redelivered=entry.returns > 0)
            if self.log is not None:
                self._hand_out([entry], no_ack=no_ack)
        except Exception:
            self.reclaim(entries)
            raise
        return entry

    def _hand_out(self, entries: list[Entry], *, no_ack: bool) -> None:
        """Stored messages are being delivered, which settles them if nobody acknowledges."""
        if no_ack:
            self.drop(entries)
            return
        stored = {entry.position: entry for entry in entries if entry.stored}
        if stored and self.log is not None:
            self.held |= stored
            self.log.deliver(max(stored))  # by priority, the last of them may be an early one

    def settle(self, entries: Collection[Entry]) -> None:
        """Delivered messages were acknowledged."""
        if self._touched and (len(self.consumers) > 1 or self._expiring):
            self.host.catch_up()  # what came before is not for whoever has room only now
        self.unacked -= len(entries)
        self.drop(entries)

    def drop(self, entries: Collection[Entry]) -> None:
        """Messages have left the queue for good: settled by their delivery, or dropped."""
        for entry in entries:
            entry.settled = True
        self.release(entries)

    def release(self, entries: Iterable[Entry]) -> None:
        """Messages are not kept here any more: they are settled, or kept elsewhere as dead letters."""
        if self.log is None:
            return
        stored = [entry for entry in entries if entry.stored]
        for entry in stored:
            entry.stored = False
            self.held.pop(entry.position, None)
        if stored:
            self.log.settle(stored)

    @property
    def next_position(self) -> int:
        """The position that the next message gets."""
        return self._position

    def take_out(self, entries: Collection[Entry], run: Run | None = None) -> None:
        """Take ready messages, which are in memory, out of the middle: those of a run, or others. They are
        dropped: whoever wants them has them elsewhere by now.
        """
        for entry in entries:
            self.bytes -= entry.message.size
            if run is None:
                self.ready.remove(entry)
                if entry.indexed:
                    self.expiry.discard(entry)
        if run is not None and self.paging is not None:
            self.paging.take_out(run, entries)
        self.drop(entries)
        self.touch()

    def refuse(self, entry: Entry) -> None:
        """Give up a message that the log has no record of; its publisher is told that it is not kept.

        One that was delivered, or is on its way as a dead letter, is only not kept on disk any more.
        """
        line = self.ready.level(entry)
        ready = any(each is entry for each in line.unpaged(entry.position))
        entry.stored = False
        if self.held.pop(entry.position, None) is None and ready:
            run = next((run for run in line.runs if entry in (run.entries or ())), None)
            self.take_out([entry], run)
        entry.settled, entry.refused = False, True
        if self.deduplication is not None:
            note = None if self.log is None else self.log.note
            self.deduplication.forget(entry.message.properties.headers, note)
        self.host.forget_published(entry.message)

    def unpaged(self, first: int, below: int) -> list[tuple[int, list[Entry]]]:
        """Stored entries that no page holds, held ones too, with positions from ``first`` to under ``below``:
        in the order of their positions, for each priority.
        """
        found = {line.priority: line.unpaged(first) for line in self.ready.lines}
        for entry in self.held.values():
            if entry.page is None:
                found.setdefault(self.ready.level(entry).priority, []).append(entry)
        for priority, entries in found.items():
            found[priority] = [
                entry for entry in entries if first <= entry.position < below and not entry.gone
            ]
            found[priority].sort(key=POSITION)
        return list(found.items())

    def reject(self, entries: Sequence[Entry]) -> None:
        """Delivered messages were refused for good."""
        self.unacked -= len(entries)
        self.counts.back += len(entries)
        self.host.dead_letter(self, entries, "rejected")

    def purge(self) -> int:
        """Drop all ready messages; return how many."""
        count = len(self.ready)
        if self.paging is not None:
            if self.log is not None:
                self.drop([entry for run in self.ready.runs for entry in run.entries or ()])
            self.paging.drop()
        self._clear()
        self.touch()
        return count

    def _clear(self) -> None:
        """Have no ready messages. Those that were there are let go, many of them in later turns."""
        before, highest = self.ready, self.settings.max_priority
        self.ready = Fifo() if highest is None else Priorities(highest)
        self.expiry = ExpiryIndex()
        self._expiring = False
        self.bytes = 0
        if len(before):
            self.host.carry_on(f"dropping the messages of {self.what}", self._let_go(before))

    def _let_go(self, ready: Fifo | Priorities) -> Slices:
        """Drop messages that stand in no queue any more."""
        while entries := ready.take(SLICE, INFINITE):
            self.drop(entries)
            yield

    # -- limits --------------------------------------------------------------------------------------------

    def _over_limit(self, messages: int = 0, size: int = 0) -> bool:
        """Whether so many more messages, with bodies of ``size`` bytes, are more than the length limits
        allow.
        """
        settings = self.settings
        return (settings.max_length is not None and len(self.ready) + messages > settings.max_length) or (
            settings.max_length_bytes is not None and self.bytes + size > settings.max_length_bytes
        )

    def _full(self, message: Message, now: int) -> bool:
        """Whether the overflow setting refuses this message; if it dead-letters what it refuses, it is on its
        way.
        """
        settings = self.settings
        if settings.overflow not in REFUSING or not self._over_limit(1, message.size):
            return False
        self.touch()
        self._drain(now)  # consumers that are waiting make room
        if not self._over_limit(1, message.size):
            return False
        if settings.overflow == "reject-publish-dlx":
            self.host.dead_letter(self, [Entry(message, self._position)], "maxlen")
        else:
            self.host.refused(self)
        return True

    def shorten(self) -> None:
        """Drop from the head what is over the limits; if that is much, some of it in later turns."""
        if self.settings.overflow in REFUSING or not self._over_limit():
            return
        if self._shortening:
            self._drop_head(SOME)  # it does not grow meanwhile
        elif self._drop_head(SLICE) and self._over_limit():
            self._shortening = True
            self.host.carry_on(f"shortening {self.what}", self._shorten_on())

    def _shorten_on(self) -> Slices:
        try:
            while not self.deleted and self._over_limit() and self._drop_head(SLICE):
                yield
        finally:
            self._shortening = False

    def _drop_head(self, most: int) -> bool:
        """Drop up to ``most`` messages that are over the limits. Return False if the rest has to be read
        first: it goes as soon as it was.
        """
        settings, ready = self.settings, self.ready
        if settings.max_length is not None and len(ready) > settings.max_length:
            entries = ready.take(min(most, len(ready) - settings.max_length), self.bytes + 1)
        else:
            entries = ready.take(min(most, len(ready)), self.bytes - (settings.max_length_bytes or 0))
        if entries:
            self._dead_letter(entries, "maxlen")
            return True
        return self._bring()

    def _dead_letter(self, entries: list[Entry], reason: Reason) -> None:
        """What was taken out of ``ready`` goes to the dead letters."""
        try:
            for entry in entries:
                self.bytes -= entry.message.size
                if entry.indexed:
                    self.expiry.discard(entry)
                if entry.stored:
                    self.held[entry.position] = entry  # until its dead letter is published, it is kept here
            self.host.dead_letter(self, entries, reason)
        except Exception:
            self.reclaim(entries)
            raise

    # -- time ----------------------------------------------------------------------------------------------

    def _expire(self, now: int) -> None:
        """Take out messages whose deadline is before ``now``, as many as others can wait for."""
        expired = self.ready.overdue(now, EXPIRE)
        try:
            for due in self.expiry.due(now, EXPIRE):
                if isinstance(due, Entry):
                    self.ready.remove(due)
                    expired.append(due)
                elif self.paging is not None:
                    expired += self.paging.expire(due, now)
        except Exception:
            self.reclaim(expired)
            raise
        if expired:
            self._dead_letter(sorted(expired), "expired")

    def _in_time(self, entries: list[Entry], now: int) -> list[Entry]:
        """Those that may still be delivered; the others, though not expired yet, go no further."""
        late = [entry for entry in entries if 0 < entry.expires < now]
        if not late:
            return entries
        try:
            self._dead_letter(late, "expired")
        except Exception:
            self.reclaim(entries)
            raise
        return [entry for entry in entries if not 0 < entry.expires < now]

    def _schedule_expiry(self) -> None:
        deadlines = [when for when in (self.ready.next_deadline(), self.expiry.next_deadline()) if when]
        if deadlines:
            self._wake_at(min(deadlines))
        else:
            self._expiring = False

    def _wake_at(self, when: int) -> None:
        if not self._wakes or when < self._wakes[-1]:
            self._wakes.append(when)
            self.host.schedule(when, self)

    def on_timer(self, now: int) -> None:
        """A moment that was asked for has come: messages may have expired, or the queue itself."""
        if self.deleted or not self._wakes or now < self._wakes[-1]:
            return
        while self._wakes and self._wakes[-1] <= now:
            self._wakes.pop()
        if self._expiring:
            self._expire(now + 1)
            self._schedule_expiry()
        expires = self.settings.expires
        if expires is not None:
            if len(self.consumers):
                self.last_used = now
            if now - self.last_used >= expires:
                self.host.expire_queue(self)
            else:
                self._wake_at(self.last_used + expires)

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
        """A consumer that may be added. Raises PreconditionFailed, NotImplemented_ and AccessRefused."""
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

    def add_consumer(self, consumer: Consumer, now: int) -> None:
        self.last_used = now
        self.consumers.add(consumer)
        self.touch()

    def remove_consumer(self, consumer: Consumer, now: int) -> None:
        """Take a consumer out; what it holds stays with its session. The last ends an auto-delete queue."""
        self.last_used = now
        self.consumers.remove(consumer)
        if self.auto_delete and not self.consumers and not self.deleted:
            self.host.drop_queue(self)
        elif self.settings.expires is not None:
            self._wake_at(now + self.settings.expires)
        self.touch()

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """PreconditionFailed when it is in use, or not empty, and must not be."""
        if if_unused and len(self.consumers):
            raise PreconditionFailed(f"{self.what} in use")
        if if_empty and len(self.ready):
            raise PreconditionFailed(f"{self.what} not empty")

    def close(self) -> list[Consumer]:
        """The queue is being deleted: drop its messages, return its consumers so that they are told."""
        self.deleted = True
        self.log = None
        self.probe = None
        if self.paging is not None:
            self.paging.close()
            self.paging = None  # which knows the queue: not to leave a cycle
        self._clear()
        return self.consumers.clear()
