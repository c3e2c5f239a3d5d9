"""Deliveries of a queue to its consumers, basic.get, and the settlement of deliveries.

Responsible for which messages leave the queue, and for their counts. The selection of consumers is in
``dispatch``, dead-lettering and requeueing in ``limits``.
"""

from collections.abc import Collection, Sequence
from typing import Unpack

from leveret.router.queue.consumers import Consumer, Consumers
from leveret.router.queue.dispatch import DRAIN, serve_round
from leveret.router.queue.entry import Entry
from leveret.router.queue.host import QueueHost
from leveret.router.queue.latency_probe import Probe
from leveret.router.queue.lifecycle import Declaration
from leveret.router.queue.limits import LimitedContents
from leveret.router.queue.paging import NextMessagePending
from leveret.router.queue.priorities import Priorities

DRAIN_BYTES = 1 << 20  # bytes of frames delivered in one round, about
FEW = 16  # messages whose headers need no count in this: a header frame has 128 KiB at most


class QueueDeliveries(LimitedContents):
    """The deliveries of one queue. ``probe`` samples the latency of messages, if not None."""

    __slots__ = ("_by_priority", "_paused", "probe")

    def __init__(self, name: str, vhost: str, host: QueueHost, **declaration: Unpack[Declaration]) -> None:
        super().__init__(name, vhost, host, **declaration)
        settings = self.settings
        self._by_priority = settings.max_priority is not None
        self.consumers = Consumers(single_active=bool(settings.single_active_consumer))
        self._paused = 0  # number of sessions that are requeueing messages
        self.probe: Probe | None = None

    def pause_deliveries(self) -> None:
        """Deliver nothing, not to ``get`` either, until ``resume_deliveries``.

        A session requeues messages in several turns; later messages must not be delivered before them.
        """
        self._paused += 1

    def resume_deliveries(self) -> None:
        self._paused -= 1
        if not self.deleted:
            self.touch()

    def run_deliveries(self, now: int) -> bool:
        """Deliver ready messages to ready consumers, in slices.

        Returns True if more could be delivered now; the caller calls again after other queues have delivered.
        """
        self._touched = False
        consumer = self.consumers.only
        if consumer is not None and self._deliver_all(consumer, now):
            return False
        if self.probe is not None:
            self.probe.arrived(self._position, now)
        more = self._drain(now)
        if more:
            self._touched = True  # the caller calls again
        if self.paging is not None:
            self.paging.weigh()
        return more

    def _deliver_all(self, consumer: Consumer, now: int) -> bool:
        """Deliver all messages to the only consumer, in as few calls as possible; return True if done.

        Returns False, without an effect, unless the consumer has credit for all messages and each message is
        in memory, was never delivered, never expires and is no latency sample. The effect is that of
        ``_drain``; ``tests/router/queue/test_delivery.py`` compares both.
        """
        ready, probe = self.ready, self.probe
        if self._expiring or self._returned or self._paused or self.bytes > DRAIN_BYTES:
            return False
        if isinstance(ready, Priorities) or ready.runs or ready.returned or ready.gone:
            return False
        fresh = ready.fresh
        count = len(fresh)
        if (
            not count
            or (probe is not None and not probe.skips(now))
            or consumer.credit() < count
            or (count > FEW and sum([len(entry.message.frames) for entry in fresh]) > 2 * DRAIN_BYTES)
        ):
            return False
        entries = list(fresh)
        try:
            fresh.clear()
            self.bytes = 0
            if probe is not None:
                probe.seen = self._position
            if self.paging is not None and self.paging.weight:
                self.paging.weigh()
            if consumer.no_ack:
                self.counts.deliver_no_ack += count
                self.settle(entries)
            else:
                self.counts.deliver += count
                self.unacked += count
                if self.log is not None:
                    held, last = self.held, -1
                    for entry in entries:
                        if entry.stored:
                            last = entry.position
                            held[last] = entry
                    if last >= 0:  # the highest, since the messages are in their order
                        self.log.mark_delivered(last)
            consumer.sink.deliver(consumer, entries)
        except Exception:
            self.reclaim(entries)
            raise
        return True

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
            waiting = self.ready.available()
            if waiting:
                left -= serve_round(self, line, waiting, now)
            elif not self.ready:
                break  # full consumers keep their place while there is no message
            elif self.consumers.skip_without_credit(line) and not self._load_next():
                break
        else:
            return True
        if self._expiring:
            self._expire(now + 1)  # a message with a TTL of 0 is delivered at once or expires
            self._schedule_expiry()
        return False

    def take(self, count: int, now: int) -> tuple[list[Entry], int]:
        """Take up to ``count`` messages. Return those that have not expired, and the number taken."""
        entries = self.ready.take(count, DRAIN_BYTES)
        left = len(entries)
        if self._expiring:
            return self._in_time(entries, now), left
        return entries, left

    def assign(self, consumer: Consumer, entries: list[Entry]) -> None:
        """Assign taken messages to a consumer: count them, and have its session deliver them."""
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
            self.record_delivery(entries, no_ack=consumer.no_ack)
        consumer.sink.deliver(consumer, entries)

    def awaits_disk(self) -> bool:
        """Return True if the next message has to be read or requeued before ``get`` returns it."""
        return self._paused > 0 or (self.paging is not None and self.paging.awaits_disk())

    def count(self, now: int) -> int:
        """Return the number of ready messages, after delivering and expiring what is due."""
        if self._expiring:
            self._drain(now)
        return len(self.ready)

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        """Take one message for basic.get; None if none is ready. Raises NextMessagePending, InternalError."""
        self.last_used = now
        if self._paused:
            raise NextMessagePending(self)  # type: ignore[arg-type]  # a Queue is its only subclass
        entries: list[Entry] = []
        while not entries and (self.ready.available() or self._load_next()):
            entries = self._in_time(self.ready.take(1, 1), now + 1)  # with a TTL of 0 it has expired
        if not entries:
            if self.paging is not None:
                self.paging.raise_if_pending()
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
                self.record_delivery([entry], no_ack=no_ack)
        except Exception:
            self.reclaim(entries)
            raise
        return entry

    def ack(self, entries: Collection[Entry]) -> None:
        """Settle delivered messages that the client has acknowledged."""
        if self._touched and (len(self.consumers) > 1 or self._expiring):
            self.host.catch_up()  # earlier messages go to consumers that had room before
        self.unacked -= len(entries)
        self.settle(entries)

    def reject(self, entries: Sequence[Entry]) -> None:
        """Dead-letter or drop delivered messages that the client has rejected without requeue."""
        self.unacked -= len(entries)
        self.counts.back += len(entries)
        self.host.dead_letter(self, entries, "rejected")
