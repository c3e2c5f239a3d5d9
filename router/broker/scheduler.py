"""The order of a batch: dead letters, deliveries, copies for the firehose, and postponed clients.

Responsible for the work that waits for the end of a batch, and for the part of it that one turn does. Clients
must not notice the delay: before a command that could show it, ``catch_up`` does the waiting work.
``docs/internals/turns.md`` explains the rules.
"""

from collections import deque
from itertools import count
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.broker.client import Client
from leveret.router.broker.commit_waiters import CommitWaiters
from leveret.router.broker.incoming import Incoming
from leveret.router.broker.recovery import Recovery
from leveret.router.persistence.api import Storage
from leveret.router.queue.interface import AnyQueue
from leveret.router.turns.backlog import Backlog, Slicing, TakesLong, in_time
from leveret.router.turns.budget import Budget
from leveret.router.vhost.dead_letters import LETTERS, DeadLetter, DeadLetters
from leveret.router.vhost.trace import publish_copy
from leveret.router.vhost.vhost import VHost

DELIVERIES = 0.0015  # seconds that a turn may take at least for deliveries, whatever its commands took
ROUNDS = 4  # of ``run_deliveries`` that catching up may add to a batch: enough for one read


class SchedulerHost(Protocol):
    """Interface of the broker to the scheduler."""

    now: int
    budget: Budget
    backlog: Backlog
    storage: Storage
    incoming: Incoming
    dead_letters: DeadLetters
    recovery: Recovery
    commit_waiters: CommitWaiters

    def failed(self, error: BaseException) -> bool: ...
    def report(self, what: str, error: Exception) -> None: ...


class WaitingSession(Protocol):
    """A session that may receive messages, and has consumers that wait for its credit."""

    def wake(self) -> None: ...


class Marker:
    """A place in the list of queues that deliver later, after the queues that a client's commands touched.

    ``late`` has the last marker of each client that has one. ``waiting`` is True if commands of the client
    wait for it; the client is then added to ``deferred``.
    """

    __slots__ = ("_client", "_deferred", "_late", "waiting")
    name = vhost = ""

    def __init__(self, client: Client, late: "dict[Client, Marker]", deferred: deque[Client]) -> None:
        earlier = late.get(client)
        self.waiting: bool = earlier is not None and earlier.waiting
        self._client = client
        self._late = late
        self._deferred = deferred
        late[client] = self

    def run_deliveries(self, now: int) -> bool:
        if self._late.get(self._client) is self:
            del self._late[self._client]
            if self.waiting:
                self._deferred.append(self._client)
        return False


class Scheduler:
    """The work of one broker that waits for the end of a batch or for a later turn.

    ``acting`` has the clients whose commands this turn handles; each client appends itself. ``deliveries``
    counts the deliveries to sessions (each delivers one or more messages).
    """

    def __init__(self, host: SchedulerHost) -> None:
        self.acting: list[Client] = []
        self.deliveries = count(1)
        self._host = host
        self._budget, self._letters = host.budget, host.dead_letters
        self._touched: deque[AnyQueue | Marker] = deque()  # queues that this turn's commands have touched
        self._left: deque[AnyQueue | Marker] = deque()  # queues that earlier turns had no time for
        self._again: deque[AnyQueue | Marker] = deque()  # queues that have delivered and have more
        self._wakeable: dict[WaitingSession, None] = {}  # with credit and waiting consumers
        self._traces: deque[tuple[VHost, Message]] = deque()
        self._letter: Slicing[int] | None = None  # the first dead letter, if its publishing has begun
        self._copy: Slicing[None] | None = None  # the first of ``_traces``, if its publishing has begun
        self._deferred: deque[Client] = deque()  # clients that go on in a later turn
        self._unfinished: dict[Client, None] = {}  # clients with an unfinished command
        self._late: dict[Client, Marker] = {}  # clients that have left queues to deliver
        self._awaiting: dict[Client, AnyQueue] = {}  # clients that wait for a queue's next message
        self._rounds = ROUNDS  # how many more this batch may add
        self._earlier = 0  # how many of ``_again`` earlier batches have left
        self._advancing = False  # deliveries and dead letters are under way
        self._delivering = ("", "")  # queue and virtual host of this turn's last delivery

    @property
    def doing(self) -> str:
        """A description of the last work at the end of this turn, for the log; "" if there was none."""
        queue, vhost = self._delivering
        delivering = f"delivering of queue '{queue}' in vhost '{vhost}'" if queue else ""
        return ", ".join(filter(None, (self._host.backlog.doing, delivering)))

    # -- the end of a batch --------------------------------------------------------------------------------

    def end_batch(self, *, left_over: bool = True) -> bool:
        """Publish dead letters, make touched queues deliver, pass the batch to the storage, and notify the
        clients whose changes are on disk. Return True if work is left for another turn.

        With ``left_over`` the unfinished work of earlier batches continues too. A client's batch does only
        its own work.
        """
        host, letters, backlog = self._host, self._letters, self._host.backlog
        self._delivering = "", ""
        backlog.doing = ""
        if host.incoming.over:
            host.incoming.relieve()
        if letters.held_bytes:
            letters.release_held()
        try:
            if left_over and (self._deferred or backlog.works):
                self._resume()
            if left_over:
                letters.left = LETTERS
            if self._budget.clock is not None:
                self._budget.extend(DELIVERIES)
            self._advance(bounded=True, earlier=len(self._left) + len(self._again) if left_over else 0)
            if host.recovery.to_repair:
                host.recovery.run()
                self._advance(bounded=True)
            if self._touched:
                self._put_off_touched()
            self.acting.clear()
            self._earlier = len(self._again)
            while self._awaiting and self._go_on():
                self._advance()
                self.acting.clear()
        finally:
            if host.storage.end_turn():  # after a failure too: what was done belongs to this batch
                host.commit_waiters.settled_early = True
            letters.left = 0 if letters.pending else LETTERS
            self._rounds, self._earlier = ROUNDS, len(self._again)
        if host.commit_waiters.owed or host.commit_waiters.settled_early:
            host.commit_waiters.end_batch()
        more = self._left or self._again or letters.pending or self._touched or self._wakeable or self._traces
        return bool(more or self._deferred or backlog.works or host.recovery.to_repair)

    def _resume(self) -> None:
        """Continue deferred clients and unfinished work, at least one client and one slice of work."""
        for _ in range(len(self._deferred)):
            self._deferred.popleft().go_on()
            if self._budget.spent():
                break
        backlog = self._host.backlog
        try:
            backlog.run()
        except Exception as error:
            self._host.report(f"work failed: {backlog.doing}", error)

    def _put_off_touched(self) -> None:
        """Leave the queues that this turn had no time for to later turns.

        The next commands of clients that have touched these queues wait for the deliveries. Commands of other
        clients do not: otherwise queues that are never empty would block all clients.
        """
        self._left += self._touched
        self._touched.clear()
        for client in dict.fromkeys((*self.acting, *self._unfinished)):
            self._left.append(Marker(client, self._late, self._deferred))

    def _take_left(self) -> None:
        """Put the queues that earlier turns had no time for first in this turn."""
        self._left += self._touched
        self._touched, self._left = self._left, self._touched
        self._left.clear()

    # -- clients that go on later --------------------------------------------------------------------------

    def go_on_for(self, client: Client) -> None:
        """Record that a command of this client continues in later turns, until ``over_for`` is called."""
        self._unfinished[client] = None

    def over_for(self, client: Client) -> None:
        """Record that the client's unfinished command has ended."""
        self._unfinished.pop(client, None)

    def defer(self, client: Client, *, after_deliveries: bool = False) -> None:
        """Resume a client in a later turn.

        With ``after_deliveries`` each queue that the client has touched delivers at least one round before.
        """
        if after_deliveries and client in self._late:
            self._late[client].waiting = True
        else:
            self._deferred.append(client)

    def await_message(self, client: Client, queue: AnyQueue) -> None:
        """Resume a client once the queue's next message has been read from disk, or there is none."""
        self._awaiting[client] = queue

    def _go_on(self) -> bool:
        """Resume the clients whose message has been read; return False if there are none."""
        found = [client for client, queue in self._awaiting.items() if not queue.awaits_disk()]
        for client in found:
            del self._awaiting[client]
        for client in found:
            client.go_on()
        return bool(found)

    def forget(self, client: Client) -> None:
        """Remove a client whose connection has ended."""
        self._awaiting.pop(client, None)
        self._late.pop(client, None)
        self._unfinished.pop(client, None)

    # -- catching up ---------------------------------------------------------------------------------------

    def catch_up_for(self, client: Client) -> bool:
        """Call ``catch_up`` for a command of this client, within the turn's time budget.

        Return False if the command has to wait for a later turn (see ``defer``): the budget is spent, or
        queues that the client's earlier commands have touched have not delivered yet.
        """
        if client in self._late:
            return False
        if self._advancing or self._advance(bounded=True):
            self._add_rounds()
            return True
        return False

    def catch_up(self) -> None:
        """Publish the dead letters and make the deliveries that previous commands of this batch have caused.

        Called before each command that could see or change their effects: all except publishes and
        acknowledgements, for which the queues call it if needed. A client then sees the same as if each of
        its commands had been a batch of its own.
        """
        if not self._advancing:  # or a connection ends because a delivery to it failed
            self._take_left()
            self._advance()
            self._add_rounds()

    def _add_rounds(self) -> None:
        """Let queues of this batch with more than one round of deliveries make a few more rounds."""
        while self._rounds and not self._advancing and len(self._again) > self._earlier:
            self._rounds -= 1
            self._touched.append(self._again.pop())
            self._advance()

    def deliver_touched(self) -> None:
        """Make the deliveries of ``catch_up``, without publishing dead letters; called in the middle of a
        publish.
        """
        if not self._advancing:
            self._advancing = True
            self._take_left()
            try:
                while self._touched or self._wakeable:
                    if self._touched:
                        self._run_deliveries(self._touched.popleft())
                    else:
                        self._wake_next_session()
            finally:
                self._advancing = False

    # -- deliveries, dead letters and traces ---------------------------------------------------------------

    def touch(self, queue: AnyQueue) -> None:
        """Schedule the deliveries of a queue for the end of this batch."""
        self._touched.append(queue)

    def schedule_wake(self, session: WaitingSession) -> None:
        """Schedule ``wake`` for the session's waiting consumers after the touched queues have delivered."""
        self._wakeable[session] = None

    def trace(self, vhost: VHost, copy: Message) -> None:
        """Publish a copy for the firehose at the end of this batch."""
        self._traces.append((vhost, copy))

    def _advance(self, *, bounded: bool = False, earlier: int = 0) -> bool:
        """Publish dead letters, make touched queues deliver, and publish traces, until only work of other
        turns is left. With ``bounded`` return False if the turn's budget was spent before that.

        ``earlier`` is the number of queues left by earlier turns that deliver as well. The kinds of work
        alternate, so that neither endless dead letters nor endless deliveries delay the others.
        """
        letters = self._letters
        self._advancing = True
        try:
            while True:
                if earlier:
                    earlier -= 1
                    self._run_deliveries((self._left or self._again).popleft())
                    if bounded and self._budget.spent():
                        return not (self._touched or self._wakeable or self._traces)
                if letters.pending and letters.left > 0:
                    letters.left -= self._send_letter(letters.pending[0])
                elif self._touched:
                    self._run_deliveries(self._touched.popleft())
                elif self._wakeable:  # after the last delivery, when the unused credit is known
                    self._wake_next_session()
                elif self._traces:
                    if self._send_trace(*self._traces[0]):
                        return False
                elif not earlier:
                    return True
                delivering = self._touched or self._wakeable or self._traces
                if bounded and (delivering or letters.pending) and self._budget.spent():
                    return not delivering
        finally:
            self._advancing = False

    def _wake_next_session(self) -> None:
        """Wake more consumers of the next session that has unused credit."""
        session = next(iter(self._wakeable))
        del self._wakeable[session]
        session.wake()

    def _run_deliveries(self, queue: AnyQueue | Marker) -> None:
        """Make a queue deliver one round; further rounds are left to another turn. An exception ends no
        client, and other queues still deliver.
        """
        self._delivering = queue.name, queue.vhost
        recovery = self._host.recovery
        try:
            if queue.run_deliveries(self._host.now):
                self._again.append(queue)
        except Exception as error:
            self._host.report(
                f"queue delivery raised an exception: queue '{queue.name}' in vhost '{queue.vhost}'", error
            )
            if not isinstance(queue, Marker):
                recovery.delivery_failed(queue, error)
        else:
            if recovery.failures and not isinstance(queue, Marker):
                recovery.failures.pop(queue, None)

    def _send_letter(self, dead: DeadLetter) -> int:
        """Publish a dead letter, or continue to publish it; return the work done, in messages.

        Returns ``DeadLetters.left`` if the turn's budget is spent: the caller then leaves the other letters
        to later turns, even in ``catch_up``. If publishing fails, the letter is published again later; queues
        that have enqueued it already get it twice.
        """
        slices, self._letter = self._letter or self._letters.publish(dead), None
        try:
            copies = in_time(slices, self._budget)
        except TakesLong:
            self._letter = slices
            return self._letters.left
        except Exception as error:
            if not self._host.failed(error):
                self._host.recovery.letter_failed(dead, error)
            copies = 1
        else:
            self._host.recovery.letter_published(dead)
        self._letters.pending.popleft()  # not before, because ``Recovery.run`` looks for it there
        return self._letters.left if self._budget.spent() else copies + 1

    def _send_trace(self, vhost: VHost, copy: Message) -> bool:
        """Publish the first copy for the firehose, or continue to publish it; a copy that fails is dropped.

        Returns True if the turn's budget is spent: the caller then leaves the other copies to later turns.
        """
        slices, self._copy = self._copy or publish_copy(vhost, copy), None
        try:
            in_time(slices, self._budget)
        except TakesLong:
            self._copy = slices
            return True
        except Exception as error:
            self._host.report(f"a copy for the firehose of vhost '{vhost.name}' was dropped", error)
        self._traces.popleft()
        return self._budget.spent()
