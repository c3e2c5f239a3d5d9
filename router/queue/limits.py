"""Limits of a queue (length, TTL, delivery limit), and removal of the messages that exceed them.

Responsible for dropping and dead-lettering, in slices if there are many messages. The arithmetic is in
``admission``, the messages are in ``contents``.

Sources: RabbitMQ, "Queue Length Limit", "Time-To-Live and Expiration", "Quorum Queues" (poison messages).
"""

from collections.abc import Iterable
from typing import Unpack

from leveret.router.queue.admission import AdmissionLimits
from leveret.router.queue.consumers import SLICE
from leveret.router.queue.contents import QueueContents
from leveret.router.queue.entry import Entry
from leveret.router.queue.expiry import ExpiryIndex
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.host import QueueHost, Reason
from leveret.router.queue.lifecycle import Declaration
from leveret.router.queue.priorities import Priorities
from leveret.router.turns.backlog import Slices

SOME = 4  # excess messages dropped for each new one, while later turns drop the rest
SLICE_BYTES = 1 << 20  # bytes of messages dropped at a time: freeing large bodies takes long
EXPIRE = 4 * SLICE  # messages that expire at once, before other queues deliver


class LimitedContents(QueueContents):
    """The messages of one queue within its ``limits``."""

    __slots__ = ("_shortening", "_wakes", "limits")

    def __init__(self, name: str, vhost: str, host: QueueHost, **declaration: Unpack[Declaration]) -> None:
        super().__init__(name, vhost, host, **declaration)
        self.limits = AdmissionLimits(self.settings)
        self._shortening = False  # True while later turns drop messages over the limits
        self._wakes: list[int] = []  # times that on_timer is scheduled for, the next one last

    # -- requeued messages -----------------------------------------------------------------------------------

    def resume(self, next_position: int) -> None:
        """Start the queue after its messages were restored; the next one gets this position."""
        self._position = self._first = next_position
        self._returned = True
        self.shorten()
        self.touch()

    def requeue(self, consumed: Iterable[Entry], now: int) -> None:
        """Requeue delivered messages at their positions; dead-letter those over the delivery limit."""
        limit = self.settings.delivery_limit if self.quorum else None
        beyond: list[Entry] = []
        self._returned = True
        for entry in consumed:
            self.unacked -= 1
            self.counts.back += 1
            entry.returns += 1
            if entry.stored and self._keeps_all and self.log is not None:
                self.log.mark_returned(entry)
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
        """Requeue the unsettled deliveries of a closed session."""
        self.requeue(consumed, now)

    # -- length ----------------------------------------------------------------------------------------------

    def shorten(self) -> None:
        """Drop messages over the length limits from the head; many are dropped in several turns."""
        if self.limits.refusing or not self.limits.exceeded(len(self.ready), self.bytes):
            return
        if self._shortening:
            self._drop_head(SOME)  # more than one: the queue gets shorter although messages arrive
        elif self._drop_head(SLICE) and self.limits.exceeded(len(self.ready), self.bytes):
            self._shortening = True
            self.host.carry_on(f"shortening {self.what}", self._shorten_on())

    def _shorten_on(self) -> Slices:
        try:
            while (
                not self.deleted
                and self.limits.exceeded(len(self.ready), self.bytes)
                and self._drop_head(SLICE)
            ):
                yield
        finally:
            self._shortening = False

    def _drop_head(self, most: int) -> bool:
        """Drop up to ``most`` messages that are over the limits.

        Returns False if the next one has to be read from disk; it is dropped after that.
        """
        count, size = self.limits.excess(len(self.ready), self.bytes)
        entries = self.ready.take(min(most, count), size)
        if entries:
            self._dead_letter(entries, "maxlen")
            return True
        return self._load_next()

    def _dead_letter(self, entries: list[Entry], reason: Reason) -> None:
        """Dead-letter entries that were taken from ``ready``."""
        try:
            for entry in entries:
                self.bytes -= entry.message.size
                if entry.indexed:
                    self.expiry.discard(entry)
                if entry.stored:
                    self.held[entry.position] = entry  # stored here until its dead letter is published
            self.host.dead_letter(self, entries, reason)
        except Exception:
            self.reclaim(entries)
            raise

    # -- time ------------------------------------------------------------------------------------------------

    def _expire(self, now: int) -> None:
        """Dead-letter messages whose deadline is before ``now``, in bounded numbers."""
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
        """Return the entries that may be delivered; dead-letter those with a deadline before ``now``."""
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
        """Expire the messages that are due."""
        if self._expiring:
            self._expire(now + 1)
            self._schedule_expiry()

    # -- purging ---------------------------------------------------------------------------------------------

    def purge(self) -> int:
        """Drop all ready messages; return their number."""
        count = len(self.ready)
        if self.paging is not None:
            if self.log is not None:
                self.settle(entry for run in self.ready.runs for entry in run.entries or ())
            self.paging.drop()
        self._clear()
        self.touch()
        return count

    def _clear(self) -> None:
        """Remove all ready messages from the order; many are settled in later turns."""
        before, highest = self.ready, self.settings.max_priority
        self.ready = Fifo() if highest is None else Priorities(highest)
        self.expiry = ExpiryIndex()
        self._expiring = False
        self.bytes = 0
        if len(before):
            self.host.carry_on(f"dropping the messages of {self.what}", self._settle_all(before))

    def _settle_all(self, ready: Fifo | Priorities) -> Slices:
        """Settle messages that were removed from the queue, in slices."""
        while entries := ready.take(SLICE, SLICE_BYTES):
            self.settle(entries)
            yield
