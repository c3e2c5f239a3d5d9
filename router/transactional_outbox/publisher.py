"""Publishing of an outbox's rows in the core, as a client of the broker.

Responsible for the outcome of each row: its message is on disk or settled, or an error. A row is remembered
in the turn in which its message is enqueued, so that both are in one commit.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, InternalError, NotAllowed
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.session.connection_hooks import SessionOwner
from leveret.router.session.session import Session
from leveret.router.transactional_outbox.published_rows import PublishedRows
from leveret.router.transactional_outbox.rows import BatchResult, FailedRow, OutboxRow, make_message
from leveret.router.turns.backlog import Slices

NO_ROUTE = (
    "312 NO_ROUTE - no queue is bound to exchange '{}' for routing key '{}'; set mandatory to false if the "
    "message may be dropped"
)
FULL = (
    "406 PRECONDITION_FAILED - a queue refused the message, because it is full (x-overflow: reject-publish)"
)
UNSTORED = "541 INTERNAL_ERROR - the message could not be stored; the broker's log says why"
CUT_OFF = "320 CONNECTION_FORCED - the virtual host was deleted while the message was published"

Then = Callable[[BatchResult | Exception], None]


class _Batch:
    """The rows of one call of ``publish``; ``unconfirmed`` have publish numbers of their sessions."""

    __slots__ = ("failed", "last_commit", "published", "sliced", "then", "unconfirmed")

    def __init__(self, then: Then) -> None:
        self.published: list[OutboxRow] = []
        self.failed: list[FailedRow] = []
        self.unconfirmed: dict[Session, deque[tuple[int, OutboxRow]]] = {}
        self.last_commit = 0  # the commit batch that recognized rows are part of, at the latest
        self.sliced = False  # all rows were handed to their queues
        self.then = then


class OutboxPublisher(SessionOwner):
    """Publishes the rows of one outbox, a batch at a time."""

    trace_name = "outbox"  # the connection's name in copies for the firehose

    def __init__(self, broker: Broker, published: PublishedRows) -> None:
        super().__init__(broker)
        self.recognized = 0  # rows that had been published before
        self._published = published
        self._sessions: dict[str, Session] = {}  # by virtual host
        self._batch: _Batch | None = None
        self._unremembered: list[bytes] = []  # rows enqueued in this turn
        self._returned = False

    def publish(self, rows: Sequence[OutboxRow], user: User, then: Then) -> None:
        """Publish rows as ``user``; call ``then`` once with the result, or with an exception of the broker.

        The previous batch must be complete. Part of the work may follow in later turns.
        """
        assert self._batch is None
        self.user = user
        self._batch = _Batch(then)
        try:
            work = self.broker.backlog.start("publishing rows of an outbox", self._publish_all(rows))
        except Exception as error:
            self.crash(error)
            return
        if work is not None:
            work.listeners.append(self._over)

    def close(self) -> None:
        """Close the sessions; an unfinished batch has no result."""
        self._batch = None
        for session in self._sessions.values():
            session.close()
        self._sessions = {}

    def sessions(self) -> Mapping[int, Session]:
        """Return the open sessions."""
        return dict(enumerate(self._sessions.values(), 1))

    # -- handing messages to their queues --------------------------------------------------------------------

    def _publish_all(self, rows: Sequence[OutboxRow]) -> Slices:
        batch, budget = self._batch, self.broker.budget
        assert batch is not None
        try:
            for row in rows:
                if self._batch is not batch:
                    return  # it has ended with an exception
                yield from self._publish_row(row, batch)
                if budget.spent():
                    self._remember()
                    yield
        finally:
            self._remember()
        if batch.published:
            # Their notes may be part of a commit that is not on disk yet, after an exception of the broker.
            storage = self.broker.storage
            batch.last_commit = storage.hold() or storage.batch - 1
        batch.sliced = True
        self.broker.commit_waiters.add(self)

    def _publish_row(self, row: OutboxRow, batch: _Batch) -> Slices:
        identity = row.identity
        if identity in self._published:
            self.recognized += 1
            batch.published.append(row)
            return
        settings = self.broker.settings.amqp
        try:
            session = self._session(row.virtual_host)
            message = make_message(
                row, frame_max=settings.frame_max, max_message_size=settings.max_message_size
            )
            confirms = session.confirms
            assert confirms is not None
            before = confirms.published
            self._returned = False
            session.publish(message)
        except AmqpError as error:
            batch.failed.append(FailedRow(row, f"{error.code} {error}"))
            return
        if session.work.unfinished is not None:
            yield from self._finish_wide(session)
        if confirms.published == before:
            batch.failed.append(FailedRow(row, CUT_OFF, temporary=True))
        elif self._returned:
            batch.failed.append(FailedRow(row, NO_ROUTE.format(row.exchange, row.routing_key)))
        elif confirms.last_refused:
            batch.failed.append(FailedRow(row, FULL, temporary=True))
        else:
            self._unremembered.append(identity)
            batch.unconfirmed.setdefault(session, deque()).append((confirms.published, row))

    def _finish_wide(self, session: Session) -> Slices:
        """Wait for a message whose queues are too many for this turn; it is committed with its note."""
        storage = self.broker.storage
        storage.begin_whole()
        try:
            while session.work.unfinished is not None:
                yield
        finally:
            storage.end_whole()

    def _remember(self) -> None:
        if self._unremembered:
            self._published.remember(self._unremembered)
            self._unremembered = []

    def _session(self, name: str) -> Session:
        """Return the session in a virtual host. Raises NotAllowed, as opening the virtual host would."""
        vhost = self.broker.vhost(name)
        user = self.user
        assert user is not None
        if not user.may_enter(name):
            raise NotAllowed(f"access to vhost '{name}' refused for user '{user.name}'")
        session = self._sessions.get(name)
        if session is not None and (
            session.finished or session.vhost is not vhost or session.user is not user
        ):
            session.close()
            session = None
        if session is None:
            session = self._sessions[name] = Session(
                self.broker, vhost, user, self, self, number=len(self._sessions) + 1
            )
            session.select_confirms()
        return session

    def _over(self, error: Exception | None) -> None:
        if error is not None:
            self.crash(error)

    # -- Client ----------------------------------------------------------------------------------------------

    def tell(self, *, settled_early: bool) -> bool:
        """Take the confirms that are due; return True if others are outstanding."""
        batch = self._batch
        if batch is None:
            return False
        if not batch.sliced or self.broker.storage.committed_batch < batch.last_commit:
            return True
        for session, unconfirmed in batch.unconfirmed.items():
            for verdict in session.verdicts():
                while unconfirmed and unconfirmed[0][0] <= verdict.number:
                    _, row = unconfirmed.popleft()
                    if verdict.accepted:
                        batch.published.append(row)
                    else:
                        self._published.forget(row.identity)
                        batch.failed.append(FailedRow(row, UNSTORED, temporary=True))
        if any(batch.unconfirmed.values()):
            return True
        self._batch = None
        batch.then(BatchResult(batch.published, batch.failed))
        return False

    def go_on(self) -> None:
        """Do nothing: rows are published without commands that wait."""

    def end(self, error: AmqpError) -> None:
        """Do nothing: an outbox outlives its virtual hosts."""

    def crash(self, error: Exception) -> None:
        """End the batch with an exception of the broker."""
        batch = self._batch
        self.close()
        if batch is not None:
            batch.then(error)

    # -- SessionSink -----------------------------------------------------------------------------------------

    def writable(self) -> bool:
        return False

    def overfull(self) -> bool:
        return False

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        raise InternalError("a delivery for an outbox, which has no consumers")

    def owes_confirms(self, batch: int) -> None:
        self.broker.commit_waiters.add(self)

    def returned(self, message: Message, code: int, text: str) -> None:
        self._returned = True

    def cancelled(self, consumer: Consumer) -> None:
        raise InternalError("a cancelled consumer of an outbox, which has none")

    def fail(self, error: AmqpError) -> None:
        raise error
