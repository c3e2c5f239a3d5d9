"""A client of the broker that exists for one request: it publishes, takes messages, waits for the disk.

Owns the session and what the broker tells it; what is done with that is the caller's. Nothing is delivered to
it, for it has no consumers.
"""

from collections.abc import Sequence

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, InternalError
from leveret.protocol.http import HttpError
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.paging import NotAtHand
from leveret.router.session.session import Session
from leveret.router.session.topology import Topology
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps, Wait

UNSTORED = "the message could not be stored; the broker's log says why"
LATE = "the disk did not answer in time; what was asked for may have been done"


class RequestClient:
    """``vhost`` is None for one that only waits."""

    def __init__(self, broker: Broker, vhost: VHost | None, user: User) -> None:
        self.user: User | None = user
        self.vhost = vhost
        self._asker = user
        self._broker = broker
        self._wait: Wait | None = None
        self._batch = 0  # that a commit is waited for; 0 for confirms
        self._accepted: bool | None = None
        self._returned = False
        self._session: Session | None = None
        self._failure: Exception | None = None

    @property
    def session(self) -> Session:
        """Its session, to be closed."""
        assert self.vhost is not None
        if self._session is None:
            self._session = Session(self._broker, self.vhost, self._asker, self, self)
        return self._session

    @property
    def topology(self) -> Topology:
        """What it may declare."""
        assert self.vhost is not None
        return Topology(self.vhost, self._asker, self)

    def close(self) -> None:
        """Give back what it holds."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # -- what takes time -------------------------------------------------------------------------------------

    def publish(self, message: Message) -> ResponseSteps[bool]:
        """Publish a message, and say whether a queue has it, safely. Raises what ``Session.publish`` does."""
        self.session.select_confirms()
        self._accepted, self._returned, self._batch = None, False, 0
        self.session.publish(message)
        self._broker.commit_waiters.add(self)
        yield from self._pause()
        if self._accepted is None:
            raise HttpError(503, LATE)
        confirms = self.session.confirms
        if confirms is not None and confirms.unstored:
            raise HttpError(500, UNSTORED)
        return self._accepted and not self._returned

    def get(self, name: str) -> ResponseSteps[tuple[int, Entry, AnyQueue] | None]:
        """Take a message from a queue: its delivery tag, the entry and the queue; None for no message.

        Raises what ``Session.get`` does.
        """
        while True:
            try:
                taken = self.session.get(name, no_ack=False)
            except NotAtHand as absent:
                self._broker.await_message(self, absent.queue)
                yield from self._pause()
                continue
            return taken

    def committed(self) -> ResponseSteps[None]:
        """Wait until what was done in this turn is on disk. HttpError 503 when that takes too long."""
        self._batch = self._broker.keeper.hold()
        if self._batch > self._broker.keeper.committed:
            self._broker.commit_waiters.add(self)
            yield from self._pause()

    def _pause(self) -> ResponseSteps[None]:
        wait = self._wait = Wait()
        yield wait
        self._wait = None
        if self._failure is not None:
            raise self._failure
        if not wait.done:
            raise HttpError(503, LATE)

    # -- Client ----------------------------------------------------------------------------------------------

    def tell(self, *, early: bool) -> bool:
        """Something is certain by now."""
        if self._wait is None:
            return False
        if self._batch:
            if self._broker.keeper.committed < self._batch:
                return True
        else:
            verdicts = self.session.verdicts()
            if not verdicts:
                return True
            self._accepted = verdicts[-1].accepted
        self._wait.finish()
        return False

    def go_on(self) -> None:
        if self._wait is not None:
            self._wait.finish()

    @property
    def channel_count(self) -> int:
        return 0

    def recheck(self) -> None:
        """It has no consumers that could lose a right."""

    def end(self, error: AmqpError) -> None:
        """Nobody ends what is over in a moment."""

    def crash(self, error: Exception) -> None:
        self._failure = error
        self.go_on()

    # -- SessionSink -----------------------------------------------------------------------------------------

    def writable(self) -> bool:
        return False

    def overfull(self) -> bool:
        return False

    def deliver(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        raise InternalError("a delivery to a request")

    def owes_confirms(self, batch: int) -> None:
        """They are asked for at each turn."""

    def returned(self, message: Message, code: int, text: str) -> None:
        self._returned = True

    def cancelled(self, consumer: Consumer) -> None:
        raise InternalError("a request has no consumers")

    def fail(self, error: AmqpError) -> None:
        raise error
