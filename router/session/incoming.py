"""Messages that a session publishes: handing them to their queues and confirming them.

Responsible for the order in which a message reaches its queues, in slices if there are many queues, and for
the publisher confirms that follow. Permissions and routing are in ``publishing``; ``transactions`` commits
publishes of transactions.
"""

from collections.abc import Callable, Sequence

from leveret.protocol.amqp.message import MANDATORY, Message
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import owner_of
from leveret.router.exchange.admission import AdmittedTargets
from leveret.router.exchange.routing import Target
from leveret.router.session.command_work import CommandWork
from leveret.router.session.confirms import Confirms, Verdict
from leveret.router.session.mode import SessionMode
from leveret.router.session.publishing import Publishing
from leveret.router.session.sink import SessionSink
from leveret.router.session.trace import SessionTrace
from leveret.router.session.transaction import Transaction
from leveret.router.turns.backlog import Slices, Slicing, TakesLong
from leveret.router.values.counters import PublishCounters
from leveret.router.values.outcome import REFUSED, Awaited, Outcomes

WIDE = 64  # copies of messages that are handed to queues in one slice
PUBLISH_COST = 700  # bytes that a publish in a transaction takes up besides its message's frames


class IncomingMessages:
    """The publishes of one session. ``finished``: the session is over, and its client gets no answers."""

    __slots__ = (
        "_broker",
        "_mode",
        "_owner",
        "_publishing",
        "_resolve",
        "_sink",
        "_storage",
        "_trace",
        "_user",
        "_work",
        "finished",
        "published",
    )

    def __init__(
        self,
        broker: Broker,
        user: User,
        owner: object,
        sink: SessionSink,
        *,
        publishing: Publishing,
        mode: SessionMode,
        work: CommandWork,
    ) -> None:
        self.published = PublishCounters()
        self.finished = False
        self._broker = broker
        self._user = user
        self._owner = owner
        self._sink = sink
        self._mode = mode
        self._work = work
        self._storage = broker.storage
        self._publishing = publishing
        self._resolve: Callable[[Message], tuple[Message, Sequence[Target]]] = publishing.resolve
        self._trace: SessionTrace | None = None

    def publish(self, message: Message) -> None:
        """Route a message and hand it to its queues; if there are many, the work may be ``unfinished``.

        Raises the errors of ``Publishing.resolve``.
        """
        try:
            message, queues = self._resolve(message)
        except TakesLong as long:
            self._work.begin("routing", self._publish_later(message, long.slices))
            return
        self.published.publish += 1
        mode = self._mode
        if mode.transaction is not None:
            self._gather(mode.transaction, message, queues)
        elif len(queues) > WIDE or queues.__class__ is AdmittedTargets:
            self._work.begin("publishing", self._publish_widely(message, queues))
        elif mode.confirms is None:
            self.distribute(message, queues)
        else:
            self._enqueue_to_confirm(message, queues, mode.confirms)

    def publish_all(self, messages: Sequence[Message], size: int) -> None:
        """Publish the messages of one ``Publishes`` command, with bodies of ``size`` bytes together.

        Errors and unfinished work as in ``publish``.
        """
        confirms = self._mode.confirms
        one_by_one = self._mode.transaction is not None or self._trace is not None
        queues = None if one_by_one else self._publishing.resolve_all(messages)
        if queues is None:
            self._work.begin("publishing", self._publish_each(messages))
            return
        self.published.publish += len(messages)
        awaited = queues[0].enqueue_all(messages, size, self._broker.now) if len(queues) == 1 else None
        if awaited is not None:
            if confirms is not None:
                batch = self._storage.batch if awaited else 0
                if confirms.publish_all(len(messages), batch, awaited):
                    self._sink.owes_confirms(batch)
        elif len(messages) * len(queues) > WIDE:
            self._work.begin("publishing", self._publish_all_widely(messages, size, queues))
        elif confirms is not None:
            for message in messages:
                self._enqueue_to_confirm(message, queues, confirms)
        elif len(queues) > 1 and not messages[0].traits.persistent:
            self._enqueue_by_queue(messages, size, queues)
        else:  # message by message, so that the body of one is stored once for all queues
            for message in messages:
                self.distribute(message, queues)

    def _publish_each(self, messages: Sequence[Message]) -> Slices:
        """Publish messages one by one."""
        left = WIDE
        budget = self._broker.budget
        for message in messages:
            try:
                message, queues = self._resolve(message)  # noqa: PLW2901
            except TakesLong as long:
                yield from self._publish_later(message, long.slices)
                continue
            self.published.publish += 1
            if self._mode.transaction is not None:
                self._gather(self._mode.transaction, message, queues)
            else:
                yield from self._publish_widely(message, queues)
            left -= 1 + len(queues)
            if left <= 0 or budget.over:
                left = WIDE
                yield

    def _publish_later(self, given: Message, routing: Slicing[tuple[Message, Sequence[Target]]]) -> Slices:
        """Publish a message when its routing is finished; skip targets that are deleted meanwhile."""
        message, queues = yield from routing
        if self._trace is not None:
            self._trace.published(given, message, queues)
        self.published.publish += 1
        if self._mode.transaction is not None:
            self._gather(self._mode.transaction, message, queues)
        else:
            yield from self._publish_widely(message, queues)

    def _publish_all_widely(self, messages: Sequence[Message], size: int, queues: Sequence[Target]) -> Slices:
        """Hand messages that are handled alike to many queues, in slices."""
        if self._mode.confirms is None and not messages[0].traits.persistent:
            for queue in queues:
                if queue.deleted or queue.enqueue_all(messages, size, self._broker.now) is not None:
                    yield
                    continue
                for start in range(0, len(messages), WIDE):
                    for message in messages[start : start + WIDE]:
                        if not queue.deleted:
                            queue.enqueue(message, self._broker.now)
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
        """Hand a message to its queues in slices, and confirm it when all queues have it. Queues that are
        deleted meanwhile are skipped.
        """
        confirms = self._mode.confirms
        outcomes = Outcomes(self._storage)
        yield from self._enqueue_widely(message, queues, outcomes)
        if confirms is not None:
            first = confirms.publish(outcomes.accepted, outcomes.batch, outcomes.awaited)
            if first and not self.finished:
                self._sink.owes_confirms(outcomes.batch)

    def distribute_widely(self, message: Message, queues: Sequence[Target]) -> Slicing[bool]:
        """Hand a routed message to its queues in slices; return False if one of them refused it. Queues that
        were deleted since the message was routed are skipped.
        """
        outcomes = Outcomes(self._storage)
        yield from self._enqueue_widely(message, queues, outcomes)
        return outcomes.accepted

    def _enqueue_widely(self, message: Message, queues: Sequence[Target], outcomes: Outcomes) -> Slices:
        if isinstance(queues, AdmittedTargets):
            yield from queues.distribute(message, WIDE, outcomes)
            return
        if not queues:
            self._unroutable(message)
        for start in range(0, len(queues), WIDE):
            if start:
                yield
            now = self._broker.now
            for queue in queues[start : start + WIDE]:
                if not queue.deleted:
                    outcomes.add(queue.enqueue(message, now))

    def _enqueue_by_queue(self, messages: Sequence[Message], size: int, queues: Sequence[Target]) -> None:
        """Hand all messages to one queue after the other."""
        now = self._broker.now
        for queue in queues:
            if queue.enqueue_all(messages, size, now) is None:
                for message in messages:
                    queue.enqueue(message, now)

    def _enqueue_to_confirm(self, message: Message, queues: Sequence[Target], confirms: Confirms) -> None:
        """Hand a routed message to its queues and register it for a confirm."""
        accepted = True
        awaited: list[Awaited] = []
        now = self._broker.now
        for queue in queues:
            outcome = queue.enqueue(message, now)
            if outcome is REFUSED:
                accepted = False
            elif outcome is not None:
                awaited.append(outcome)
        if not queues:
            self._unroutable(message)
        batch = self._storage.batch if awaited else 0
        if confirms.publish(accepted, batch, awaited):
            self._sink.owes_confirms(batch)

    def distribute(self, message: Message, queues: Sequence[Target]) -> bool:
        """Hand a routed message to its queues; return False if one of them refused it."""
        accepted = True
        now = self._broker.now
        for queue in queues:
            if queue.enqueue(message, now) is REFUSED:
                accepted = False
        if not queues:
            self._unroutable(message)
        return accepted

    def distribute_to_remaining(self, message: Message, queues: Sequence[Target]) -> bool:
        """Hand a message to those queues that were not deleted since it was routed."""
        left = [queue for queue in queues if not queue.deleted]
        return self.distribute(message, left) if left or not queues else True

    def _unroutable(self, message: Message) -> None:
        """Return a message that reached no queue, unless its publisher has gone."""
        if message.bits & MANDATORY and not self.finished:
            self.published.return_unroutable += 1
            self._sink.returned(message, 312, "NO_ROUTE")
        else:
            self.published.drop_unroutable += 1

    def verdicts(self) -> list[Verdict]:
        """Return the confirms to send to the publisher now."""
        confirms = self._mode.confirms
        if confirms is None:
            return []
        verdicts = confirms.verdicts(self._storage.committed_batch, refusals=self._storage.unstorable > 0)
        self.published.confirm = confirms.answered
        return verdicts

    def close(self) -> None:
        """Send the client no more returns and confirms."""
        self.finished = True
        if self._mode.confirms is not None:
            self.published.publish_confirm = self._mode.confirms.published

    # -- transactions ----------------------------------------------------------------------------------------

    def _gather(self, transaction: Transaction, message: Message, queues: Sequence[Target]) -> None:
        """Add a publish to a transaction and count its memory, unless its client has gone."""
        if self.finished:
            return
        transaction.publish(message, queues)
        size = PUBLISH_COST + len(message.frames) + 8 * len(queues)
        transaction.size += size
        self.grow(size)

    def grow(self, change: int) -> None:
        """Count ``change`` more bytes of memory for publishes that wait for a commit."""
        owner = owner_of(self._user, "")
        self._broker.incoming.grow(self._owner, owner, change)  # type: ignore[arg-type]  # a connection

    # -- the firehose ----------------------------------------------------------------------------------------

    def set_trace(self, trace: SessionTrace | None) -> None:
        """Copy each published message to the firehose, or (None) stop; then publishing makes no check."""
        self._trace = trace
        self._resolve = self._publishing.resolve if trace is None else self._resolve_and_copy

    def _resolve_and_copy(self, given: Message) -> tuple[Message, Sequence[Target]]:
        message, queues = self._publishing.resolve(given)
        if self._trace is not None:
            self._trace.published(given, message, queues)
        return message, queues
