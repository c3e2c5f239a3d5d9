"""Acknowledging, rejecting and requeueing the messages that a session holds.

Responsible for finding the messages of a delivery tag, and for settling many in slices. In a transaction a
settlement waits for the commit, see ``transactions``.

Source: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms".
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice

from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import QueueLike
from leveret.router.session.command_work import CommandWork
from leveret.router.session.deliveries import Deliveries
from leveret.router.session.mode import SessionMode
from leveret.router.session.unacked import PIECE, Taken, Verb, by_source, reclaim, unknown_tag
from leveret.router.turns.backlog import Slices


class Settling:
    """Settles the unacknowledged messages of one session."""

    __slots__ = ("_broker", "_deliveries", "_mode", "_unacked", "_work")

    def __init__(self, broker: Broker, deliveries: Deliveries, mode: SessionMode, work: CommandWork) -> None:
        self._broker = broker
        self._deliveries = deliveries
        self._unacked = deliveries.unacked
        self._mode = mode
        self._work = work

    def ack(self, tag: int, *, multiple: bool) -> None:
        """Acknowledge one message, or all up to it. Raises PreconditionFailed for a tag that is not held."""
        deliveries = self._deliveries
        if multiple or not tag or self._mode.transaction is not None or deliveries.prefetch:
            self._take("ack", tag, multiple)
            return
        held = self._unacked.held.pop(tag, None)
        if held is None:
            raise unknown_tag(tag)
        source, consumer, entry = held
        self._ack(source, consumer, (entry,))

    def ack_each(self, tags: Iterable[int]) -> None:
        """Acknowledge the messages of these tags; the work may be ``unfinished``.

        Raises PreconditionFailed for a tag that is not held, after the messages before it are settled.
        """
        self._take_each("ack", tags)

    def ack_all(self, tags: Sequence[int]) -> None:
        """Do the same as ``ack_each``, in fewer calls if there are few messages, all of one consumer."""
        if self._mode.transaction is not None or self._deliveries.prefetch or len(tags) >= PIECE:
            self._take_each("ack", tags)
            return
        taken = self._unacked.take_each(tags)
        if taken:
            _, (source, consumer, _) = taken[0]
            entries = [entry for _, (queue, holder, entry) in taken if queue is source and holder is consumer]
            if len(entries) == len(tags):
                self._ack(source, consumer, entries)
                return
        self._settle_taken("ack", tags, taken)

    def _ack(self, source: QueueLike, consumer: Consumer | None, entries: Collection[Entry]) -> None:
        """Do for acknowledged messages of one consumer what ``settle`` does."""
        try:
            source.ack(entries)
            if consumer is not None:
                count = len(entries)
                self._deliveries.outstanding -= count
                consumer.unacked -= count
                if not consumer.ready:
                    consumer.wake()
        except Exception:
            source.reclaim(entries)
            raise

    def nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """Requeue or reject one message, or all up to it."""
        self._take("requeue" if requeue else "reject", tag, multiple)

    def nack_each(self, tags: Iterable[int], *, requeue: bool) -> None:
        """Requeue or reject some messages. Raises as ``ack_each``."""
        self._take_each("requeue" if requeue else "reject", tags)

    def recover(self) -> None:
        """Requeue all held messages, also in a transaction; the work may be ``unfinished``."""
        self._work.begin("requeueing", self._settle_through("requeue", 0, self.settle))

    def _take(self, verb: Verb, tag: int, multiple: bool) -> None:
        """Remove the messages of a tag from the unacknowledged ones, and settle them at once or with the
        transaction.
        """
        if tag == 0:
            self._broker.catch_up()  # tag 0 means all deliveries, so those that are due are made first
        last = tag or self._unacked.highest
        taken = self._unacked.take_through(tag, PIECE) if multiple else [(tag, self._unacked.take(tag))]
        try:
            if multiple and self._unacked.lowest <= last and self._unacked.holds_through(last):
                self._work.begin("settling", self._settle_through(verb, last, self._settle_or_gather, taken))
            elif self._mode.transaction is not None:
                self._mode.transaction.settle(verb, taken)
            else:
                self.settle(verb, taken)
        except Exception:
            reclaim(taken)
            raise

    def _settle_through(
        self,
        verb: Verb,
        tag: int,
        settle: Callable[[Verb, Taken], Iterable[QueueLike]],
        taken: Taken | None = None,
    ) -> Slices:
        """Settle ``taken`` and all held messages up to a tag (0: all) with ``settle``, in slices."""
        return self._settle_pieces(verb, self._pieces_through(tag, taken), settle)

    def _pieces_through(self, tag: int, taken: Taken | None) -> Iterator[Taken]:
        """Yield ``taken``, then the other held messages up to a tag (0: all). Each piece is removed when it
        is yielded.
        """
        tag = tag or self._unacked.highest
        if taken is not None:
            yield taken
        while self._unacked.holds_through(tag):
            yield self._unacked.take_through(tag, PIECE)

    def _settle_pieces(
        self, verb: Verb, pieces: Iterator[Taken], settle: Callable[[Verb, Taken], Iterable[QueueLike]]
    ) -> Slices:
        """Settle a piece in each slice, by ``settle``. Queues deliver nothing until all of their messages are
        requeued.
        """
        paused = self._deliveries.paused
        try:
            for taken in pieces:
                try:
                    sources = settle(verb, taken)
                except Exception:
                    reclaim(taken)
                    raise
                if verb == "requeue":
                    paused.pause(sources)
                yield
        finally:
            paused.resume()

    def _take_each(self, verb: Verb, tags: Iterable[int]) -> None:
        tags = iter(tags)
        some = list(islice(tags, PIECE))
        taken = self._unacked.take_each(some)
        if len(some) == PIECE == len(taken):
            pieces = chain((taken,), self._pieces_of(tags))
            self._work.begin("settling", self._settle_pieces(verb, pieces, self._settle_or_gather))
        else:
            self._settle_taken(verb, some, taken)

    def _settle_taken(self, verb: Verb, tags: Sequence[int], taken: Taken) -> None:
        """Settle the messages of these tags. Raises PreconditionFailed for the first tag that had none."""
        try:
            self._settle_or_gather(verb, taken)
        except Exception:
            reclaim(taken)
            raise
        if len(taken) < len(tags):
            raise unknown_tag(tags[len(taken)])

    def _pieces_of(self, tags: Iterator[int]) -> Iterator[Taken]:
        """Take out the messages with these tags. Raises as ``ack_each``."""
        while some := list(islice(tags, PIECE)):
            taken = self._unacked.take_each(some)
            yield taken
            if len(taken) < len(some):
                raise unknown_tag(some[len(taken)])

    def _settle_or_gather(self, verb: Verb, taken: Taken) -> Iterable[QueueLike]:
        """Settle messages, or add them to the open transaction; return the sources that settled some."""
        if self._mode.transaction is None:
            return self.settle(verb, taken)
        self._mode.transaction.settle(verb, taken)
        return ()

    def settle(self, verb: Verb, taken: Taken) -> Iterable[QueueLike]:
        """Settle messages, those of each source together; return the sources."""
        deliveries = self._deliveries
        if deliveries.prefetch:
            self._broker.catch_up()
        sources, consumers = by_source(taken)
        credit_first = verb == "requeue" and deliveries.prefetch > 0
        if credit_first:  # queues whose consumers wait for credit deliver before the messages are requeued
            deliveries.return_credit(consumers)
        for source, entries in sources.items():
            if verb == "ack" or source.deleted:
                source.ack(entries)
            elif verb == "requeue":
                deliveries.delivery_counters.back += len(entries)
                source.requeue(entries, self._broker.now)
            else:
                deliveries.delivery_counters.back += len(entries)
                source.reject(entries)
        if not credit_first:
            deliveries.return_credit(consumers)
        return sources
