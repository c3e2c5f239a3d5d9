"""A session: the broker's side of one AMQP channel, STOMP connection or HTTP request.

Responsible for putting together the parts of a session, and for its end. It speaks no protocol: deliveries,
returns and errors for the client go to its ``SessionSink``. Publishing is in ``incoming``, consumers are in
``subscriptions``, deliveries in ``deliveries`` and ``settling``, transactions in ``transactions``, declaring
and binding in ``topology``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.latency_probe import Probed
from leveret.router.session.command_work import CommandWork
from leveret.router.session.confirms import Confirms, Verdict
from leveret.router.session.deliveries import Deliveries
from leveret.router.session.incoming import IncomingMessages
from leveret.router.session.mode import SessionMode
from leveret.router.session.publishing import Publishing
from leveret.router.session.settling import Settling
from leveret.router.session.sink import SessionSink
from leveret.router.session.subscriptions import Subscriptions
from leveret.router.session.trace import SessionTrace
from leveret.router.session.transaction import Transaction
from leveret.router.session.transactions import Transactions
from leveret.router.session.unacked import Held
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.vhost import VHost


class Session:
    """One session of ``user`` in ``vhost``.

    ``owner`` is the connection, which owns exclusive queues; ``number`` is the session's channel number
    there. ``work.unfinished`` is the unfinished work of the last command; later commands wait for it.
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
        self.number = number
        self.finished = False
        self.mode = SessionMode()
        self.work = CommandWork(broker.backlog, f"channel {number} of user '{user.name}'")
        publishing = Publishing(vhost, user)
        self.incoming = IncomingMessages(
            broker, user, owner, sink, publishing=publishing, mode=self.mode, work=self.work
        )
        self.deliveries = Deliveries(broker, owner, number, sink)
        self.subscriptions = Subscriptions(
            broker, vhost, user, sink, publishing=publishing, deliveries=self.deliveries
        )
        self.settling = Settling(broker, self.deliveries, self.mode, self.work)
        self.transactions = Transactions(
            broker.storage,
            self.incoming,
            self.settling,
            self.deliveries.unacked,
            mode=self.mode,
            work=self.work,
        )
        self.consumers, self.unacked = self.deliveries.consumers, self.deliveries.unacked
        self.delivery_counters, self.published = self.deliveries.delivery_counters, self.incoming.published
        # Bound methods of other objects: methods of this class that call them would cost one more call each.
        self.publish = self.incoming.publish
        self.publish_all = self.incoming.publish_all
        self.ack = self.settling.ack
        self.ack_all = self.settling.ack_all
        broker.churn.channel_created += 1
        vhost.sessions[self] = None
        vhost.firehose.join(self)

    # -- commands --------------------------------------------------------------------------------------------

    def consume(
        self,
        queue_name: str,
        tag: str,
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """As ``Subscriptions.consume``; the work may be ``unfinished``."""
        consuming = self.subscriptions.consume(
            queue_name, tag, no_ack=no_ack, exclusive=exclusive, arguments=arguments
        )
        self.work.begin("consuming", consuming)

    def cancel(self, tag: str) -> None:
        """As ``Subscriptions.cancel``."""
        self.subscriptions.cancel(tag)

    def get(self, queue_name: str, *, no_ack: bool) -> tuple[int, Entry, AnyQueue] | None:
        """As ``Subscriptions.get``."""
        return self.subscriptions.get(queue_name, no_ack=no_ack)

    def set_prefetch(self, count: int, *, shared: bool) -> None:
        """As ``Subscriptions.set_prefetch``."""
        self.subscriptions.set_prefetch(count, shared=shared)

    def ack_each(self, tags: Iterable[int]) -> None:
        """As ``Settling.ack_each``."""
        self.settling.ack_each(tags)

    def nack(self, tag: int, *, multiple: bool, requeue: bool) -> None:
        """As ``Settling.nack``."""
        self.settling.nack(tag, multiple=multiple, requeue=requeue)

    def nack_each(self, tags: Iterable[int], *, requeue: bool) -> None:
        """As ``Settling.nack_each``."""
        self.settling.nack_each(tags, requeue=requeue)

    def recover(self) -> None:
        """As ``Settling.recover``."""
        self.settling.recover()

    def select_confirms(self) -> None:
        """As ``SessionMode.select_confirms``."""
        self.mode.select_confirms()

    def select_transactions(self) -> None:
        """As ``SessionMode.select_transactions``."""
        self.mode.select_transactions()

    def commit(self) -> None:
        """As ``Transactions.commit``."""
        self.transactions.commit()

    def rollback(self) -> None:
        """As ``Transactions.rollback``."""
        self.transactions.rollback()

    def do_atomically(self, steps: Slices) -> None:
        """As ``Transactions.do_atomically``."""
        self.transactions.do_atomically(steps)

    def carry_out(self, what: str, slices: Slices) -> None:
        """Do the work of another command; the work may be ``unfinished``."""
        self.work.begin(what, slices)

    def verdicts(self) -> list[Verdict]:
        """Return the confirms to send to the publisher now."""
        return self.incoming.verdicts()

    def recheck(self) -> Slices:
        """As ``Subscriptions.recheck``."""
        return self.subscriptions.recheck()

    # -- state -----------------------------------------------------------------------------------------------

    @property
    def confirms(self) -> Confirms | None:
        return self.mode.confirms

    @property
    def transaction(self) -> Transaction | None:
        return self.mode.transaction

    # -- TracedSession -------------------------------------------------------------------------------------

    def set_tracing(self, *, on: bool) -> None:
        trace = SessionTrace(self.broker, self.vhost, self.user, self.owner, self.number) if on else None
        self.incoming.set_trace(trace)
        self.deliveries.trace = trace

    # -- end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the session: end its consumers, roll back its transaction, and requeue its unacknowledged
        messages.
        """
        if self.finished:
            return
        self.finished = self.deliveries.finished = True
        self.incoming.close()
        steps: tuple[Callable[[], object], ...] = (
            partial(self.work.begin_last, "giving back", self._end()),
            partial(self.vhost.firehose.leave, self),
            partial(self.set_tracing, on=False),  # not to leave a cycle
            partial(self.vhost.past.add, self.delivery_counters, self.published),
        )
        for step in steps:  # if one raises, the others are still done
            try:
                step()
            except Exception as error:
                self.broker.report("the end of a session failed", error)
        self.broker.churn.channel_closed += 1

    def _end(self) -> Slices:
        yield from self.transactions.undo_open()
        yield from self.subscriptions.cancel_all()
        try:
            yield from self.deliveries.give_back()
        finally:
            self.vhost.sessions.pop(self, None)

    # -- HoldingSession --------------------------------------------------------------------------------------

    def _held(self) -> Iterator[Held]:
        """Yield all unsettled messages of the session, including those that a commit is to settle."""
        for _, held in self.deliveries.unacked:
            yield held
        yield from self.transactions.held()

    def held_of(self, queue: AnyQueue) -> list[Entry]:
        return [
            entry
            for source, _, entry in self._held()
            if source is queue or (isinstance(source, Probed) and source.is_of(queue))
        ]

    def pauses(self, queue: AnyQueue) -> bool:
        return queue in self.deliveries.paused

    def recount(self) -> None:
        self.deliveries.recount(self._held())
