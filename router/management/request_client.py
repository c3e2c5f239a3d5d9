"""A client of the broker for one HTTP request: it publishes, gets messages, and waits for the disk.

Owns the request's session, and the steps in which the response waits for the broker. It has no consumers.
"""

from collections.abc import Mapping, Sequence

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, InternalError
from leveret.protocol.http import HttpError
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.paging import NextMessagePending
from leveret.router.session.connection_hooks import SessionOwner
from leveret.router.session.session import Session
from leveret.router.session.topology import Topology
from leveret.router.vhost.vhost import VHost
from leveret.router.web.response_steps import ResponseSteps, Wait

UNSTORED = "the message could not be stored; the broker's log says why"
LATE = "the disk did not answer in time; the request may have taken effect"


class RequestClient(SessionOwner):
    """The client that makes a request. ``vhost`` is None for one that only waits for the disk."""

    def __init__(self, broker: Broker, vhost: VHost | None, user: User) -> None:
        super().__init__(broker)
        self.user = user
        self.vhost = vhost
        self._requester = user
        self._wait: Wait | None = None
        self._batch = 0  # the batch whose commit is waited for; 0: confirms are
        self._accepted: bool | None = None
        self._returned = False
        self._session: Session | None = None
        self._failure: Exception | None = None

    def sessions(self) -> Mapping[int, Session]:
        """The session as number 1, if the request has used it."""
        return {} if self._session is None else {1: self._session}

    @property
    def session(self) -> Session:
        """The request's session, opened at its first use; ``close`` ends it."""
        assert self.vhost is not None
        if self._session is None:
            self._session = Session(self.broker, self.vhost, self._requester, self, self)
        return self._session

    @property
    def topology(self) -> Topology:
        """The declarations and bindings of the user in the virtual host."""
        assert self.vhost is not None
        return Topology(self.vhost, self._requester, self)

    def close(self) -> None:
        """Close the session: messages that are not settled are requeued."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # -- steps that wait -------------------------------------------------------------------------------------

    def publish(self, message: Message) -> ResponseSteps[bool]:
        """Publish a message. Return True if it is confirmed and was routed to a queue.

        Raises HttpError 500 if it could not be stored, 503 if that takes too long, and what
        ``Session.publish`` raises.
        """
        self.session.select_confirms()
        self._accepted, self._returned, self._batch = None, False, 0
        self.session.publish(message)
        self.broker.commit_waiters.add(self)
        yield from self._pause()
        if self._accepted is None:
            raise HttpError(503, LATE)
        confirms = self.session.confirms
        if confirms is not None and confirms.unstored:
            raise HttpError(500, UNSTORED)
        return self._accepted and not self._returned

    def get(self, name: str) -> ResponseSteps[tuple[int, Entry, AnyQueue] | None]:
        """Get a message: its delivery tag, its entry and the queue; None if the queue is empty.

        Raises what ``Session.get`` does.
        """
        while True:
            try:
                taken = self.session.get(name, no_ack=False)
            except NextMessagePending as absent:
                self.broker.await_message(self, absent.queue)
                yield from self._pause()
                continue
            return taken

    def committed(self) -> ResponseSteps[None]:
        """Wait until this turn's changes are on disk. Raises HttpError 503 if that takes too long."""
        self._batch = self.broker.storage.hold()
        if self._batch > self.broker.storage.committed_batch:
            self.broker.commit_waiters.add(self)
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

    def tell(self, *, settled_early: bool) -> bool:
        """End the wait if the batch is committed or the publish is confirmed; return True if it goes on."""
        if self._wait is None:
            return False
        if self._batch:
            if self.broker.storage.committed_batch < self._batch:
                return True
        else:
            verdicts = self.session.verdicts()
            if not verdicts:
                return True
            self._accepted = verdicts[-1].accepted
        self._wait.finish()
        return False

    def go_on(self) -> None:
        """End the wait for a message that is read from the disk."""
        if self._wait is not None:
            self._wait.finish()

    def end(self, error: AmqpError) -> None:
        """Do nothing: a request ends by itself."""

    def crash(self, error: Exception) -> None:
        """End the wait and raise the error in the request."""
        self._failure = error
        self.go_on()

    # -- SessionSink -----------------------------------------------------------------------------------------

    def writable(self) -> bool:
        return False

    def overfull(self) -> bool:
        return False

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        raise InternalError("a delivery for an HTTP request, which has no consumers")

    def owes_confirms(self, batch: int) -> None:
        """Join the waiting clients again: a publish that took several turns was not complete when
        ``publish`` joined them, and may need no commit.
        """
        self.broker.commit_waiters.add(self)

    def returned(self, message: Message, code: int, text: str) -> None:
        self._returned = True

    def cancelled(self, consumer: Consumer) -> None:
        raise InternalError("a cancelled consumer of an HTTP request, which has none")

    def fail(self, error: AmqpError) -> None:
        raise error
