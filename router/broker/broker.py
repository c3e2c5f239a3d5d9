"""The broker: virtual hosts, users, connections, and the work that waits for the end of a batch.

Owns what spans virtual hosts, and the order of a batch: commands are handled, then dead letters are
published, then every touched queue delivers. Clients must not see that deliveries are put off: before any
command that could, ``catch_up`` does what the commands before it have left to do. Whoever feeds the broker (a
socket, a test) sets ``now`` and ``wall`` before each batch and calls ``flush`` after it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import chain, count
from typing import Any, Protocol

import structlog

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError, NotAllowed
from leveret.router.auth import (
    Check,
    Login,
    LoginQueue,
    Logins,
    Outcome,
    Throttle,
    User,
    Users,
    WaitingLogin,
)
from leveret.router.broker.alarms import Alarms
from leveret.router.broker.incoming import Incoming
from leveret.router.broker.recovery import Recovery
from leveret.router.exchange.routing import routing_keys
from leveret.router.persistence.api import Keeper, NoKeeper
from leveret.router.queue.interface import AnyQueue
from leveret.router.settings import Settings
from leveret.router.turns.backlog import Backlog
from leveret.router.turns.budget import Budget
from leveret.router.turns.offload import AtOnce, Work
from leveret.router.turns.timers import Timed, Timers
from leveret.router.turns.turn_times import TurnTimes
from leveret.router.values.bounds import refused_name
from leveret.router.values.counters import Churn
from leveret.router.values.limits import check_user_channels, check_user_connections, check_vhost_connections
from leveret.router.vhost.death_headers import FEW_COPIES, copies_so_far, count_copies, is_cycle, make_letter
from leveret.router.vhost.drops import DropReason, Drops
from leveret.router.vhost.host import DeadLetter
from leveret.router.vhost.trace import TRACE
from leveret.router.vhost.vhost import VHost

LETTERS = 512  # dead letters and their copies in queues before others have their turn
LETTERS_HELD = 1 << 24  # bytes of dead letters that wait for the last alarm to be cleared
LETTER_COST = 600  # bytes that one takes up besides its message's body
DELIVERIES = 0.0015  # seconds that a turn may take at least for deliveries, whatever its commands took
LATER = 1000  # ms until a target of the timers is called again that raised
ROUNDS = 4  # of ``Queue.deliver`` that catching up may add to a batch: enough for the messages of one read


class Client(Protocol):
    """A connection, as the broker sees it."""

    user: User | None
    vhost: VHost | None

    def end(self, error: AmqpError) -> None:
        """Tell the client why and close."""

    def tell(self, *, early: bool) -> bool:
        """Tell the client what is certain by now. True when it still waits for more.

        ``early``: some of it may be certain before the commit that it waits for.
        """

    def crash(self, error: Exception) -> None:
        """End the connection: the broker failed while it served this client."""

    def recheck(self) -> None:
        """The user's rights have changed: cancel the consumers that it may have no longer."""

    @property
    def channel_count(self) -> int:
        """How many channels it has open."""

    def go_on(self) -> None:
        """What it waits for is there: a message in memory (or never will be), or its next turn. It raises
        nothing.
        """


class Feeder(Protocol):
    """A session, as far as it has consumers that wait for room."""

    def wake(self) -> None: ...


class Marker:
    """Stands behind the queues that a client's commands have left to deliver, and takes its turn as they do.

    ``late`` has the last marker of each client that has one. ``waiting`` says whether commands of the client
    wait for it; if so the client goes to ``deferred``.
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

    def deliver(self, now: int) -> bool:
        if self._late.get(self._client) is self:
            del self._late[self._client]
            if self.waiting:
                self._deferred.append(self._client)
        return False


class Broker:
    """One broker. The time of the current batch is ``now`` in ms of the monotonic clock, ``wall`` in seconds
    since the epoch.
    """

    def __init__(self, settings: Settings, now: int = 0, keeper: Keeper | None = None) -> None:
        self.settings = settings
        self.now = self.started = now
        self.wall = 0
        self.wall_offset = 0  # ms since the epoch less ``now``, both of the current batch
        self.node_name = "leveret@localhost"  # until the server knows better
        self.default_delivery_limit = settings.queue.default_delivery_limit
        self.users = Users()
        throttle = Throttle(settings.auth.failed_logins, settings.auth.failed_logins_per_minute)
        self.logins = Logins(
            self.users,
            loopback_only=settings.loopback_users,
            scheme=settings.auth.password_hash,
            throttle=throttle,
        )
        self.work: Work = AtOnce()
        self.login_queue = LoginQueue(self, self.logins, throttle)
        self.vhosts: dict[str, VHost] = {}
        self.global_parameters: dict[str, Any] = {}
        self.clients: dict[Client, None] = {}
        self._entered: dict[Client, tuple[User, VHost]] = {}  # clients in a virtual host
        self.keeper: Keeper = keeper or NoKeeper()
        self._owed: dict[Client, None] = {}  # clients that are to be told of their confirms when it ends
        self._waiting: dict[Client, None] = {}  # those that wait for a commit
        self._awaiting: dict[Client, AnyQueue] = {}  # those that wait for a queue's next message
        self.timers = Timers()
        self.budget = Budget()
        self.turn_times = TurnTimes(now)
        self.backlog = Backlog(self.budget)
        self._deferred: deque[Client] = deque()  # clients that go on in a later turn
        self.acting: list[Client] = []  # clients whose commands this turn handles: they append themselves;
        self._unfinished: dict[Client, None] = {}  # those with a command that goes on in later turns
        self._late: dict[Client, Marker] = {}  # those that have left queues to deliver
        self._delivering = ("", "")  # queue and virtual host of this turn's last delivery
        self.deliveries = count(1)  # numbers of deliveries to sessions, each of some messages
        self.churn = Churn()
        self.recovery = Recovery(self)
        self.drops = Drops(self.schedule)
        self.alarms = Alarms()
        self.set_aside: Counter[str] = Counter()  # stored content that could not be read, by its kind
        self._touched: deque[AnyQueue | Marker] = deque()  # queues that this turn's commands have touched,
        self._left: deque[AnyQueue | Marker] = deque()  # those that earlier turns had no time for,
        self._again: deque[AnyQueue | Marker] = deque()  # and those that have delivered and have more
        self.incoming = Incoming(settings.server.max_incoming_size)
        self._hungry: dict[Feeder, None] = {}  # sessions with room, and with consumers that wait for it
        self._letters: deque[DeadLetter] = deque()
        self._traces: deque[tuple[VHost, Message]] = deque()
        self._multiplying: list[DeadLetter] = []  # dead letters that wait for the last alarm to be cleared
        self.letters_held = 0  # bytes of them
        self._copies = LETTERS  # how many more this batch may publish
        self._rounds = ROUNDS  # how many more this batch may add
        self._earlier = 0  # how many of ``_again`` earlier batches have left
        self._advancing = False  # deliveries and dead letters are under way

    @property
    def cluster_name(self) -> str:
        """The global parameter ``cluster_name`` if it is a text of at most 255 bytes, or the node's name."""
        name = self.global_parameters.get("cluster_name")
        return name if isinstance(name, str) and not refused_name("cluster name", name) else self.node_name

    # -- virtual hosts and connections ---------------------------------------------------------------------

    def add_vhost(self, name: str) -> VHost:
        """The virtual host of this name, made if it is not there."""
        found = self.vhosts.get(name)
        if found is None:
            found = self.vhosts[name] = VHost(name, self)
        return found

    def vhost(self, name: str) -> VHost:
        """The virtual host of this name, or NotAllowed."""
        found = self.vhosts.get(name)
        if found is None:
            raise NotAllowed(f"vhost {name} not found")
        return found

    def forget_vhost(self, vhost: VHost) -> None:
        """A virtual host is gone; ``Users.forget_vhost`` has taken back all rights there."""
        del self.vhosts[vhost.name]

    def log_in(self, login: Login, then: Callable[[Outcome], None]) -> User | WaitingLogin:
        """The user that these credentials prove, or the login in the queue of those whose check takes long or
        has to wait; ``then`` is told its outcome, perhaps before this returns.

        Raises LoginRefused when it is known at once that they prove none.
        """
        found = self.logins.begin(login, self.now)
        return self.login_queue.add(login, found, then) if isinstance(found, Check) else found

    def enter(self, client: Client, user: User, vhost: VHost) -> None:
        """A client opens a virtual host as this user. Raises NotAllowed when either has reached a limit."""
        check_vhost_connections(vhost.limits, vhost.connections, vhost=vhost.name, user=user.name)
        check_user_connections(user.limits, user.connections, user=user.name)
        user.connections += 1
        vhost.connections += 1
        self._entered[client] = user, vhost

    def check_channels(self, user: User) -> None:
        """Raise NotAllowed when the user has as many channels as it may have."""
        if user.limits:
            count = sum(client.channel_count for client in self.clients if client.user is user)
            check_user_channels(user.limits, count, user=user.name)

    @property
    def doing(self) -> str:
        """What the end of this turn's batch did last, for people; empty if it did nothing of note."""
        queue, vhost = self._delivering
        delivering = f"delivering of queue '{queue}' in vhost '{vhost}'" if queue else ""
        return ", ".join(filter(None, (self.backlog.doing, delivering)))

    # -- one batch -----------------------------------------------------------------------------------------

    def flush(self, *, left_over: bool = True) -> bool:
        """End a batch: publish dead letters, have touched queues deliver. True when there is more for another
        turn.

        Unless ``left_over``, what earlier batches left is not done now: a client's batch pays for its own.
        """
        self._delivering = "", ""
        self.backlog.doing = ""
        if self.incoming.over:
            self.incoming.relieve()
        if self._multiplying and not self.alarms.raised:
            self._letters.extend(self._multiplying)
            self._multiplying.clear()
            self.letters_held = 0
        try:
            if left_over and (self._deferred or self.backlog.works):
                self._resume()
            if left_over:
                self._copies = LETTERS
            if self.budget.clock is not None:
                self.budget.extend(DELIVERIES)
            self._advance(bounded=True, earlier=len(self._left) + len(self._again) if left_over else 0)
            if self.recovery.suspects:
                self.recovery.run()
                self._advance(bounded=True)
            if self._touched:
                self._put_off_touched()
            self.acting.clear()
            self._earlier = len(self._again)
            while self._awaiting and self._go_on():
                self._advance()
                self.acting.clear()
        finally:
            self.keeper.end_turn()  # after a failure too: what was done belongs to this batch
            self._copies = 0 if self._letters else LETTERS
            self._rounds, self._earlier = ROUNDS, len(self._again)
        if self._owed or self.keeper.early:
            self._tell_owed()
        more = self._left or self._again or self._letters or self._touched or self._hungry or self._traces
        return bool(more or self._deferred or self.backlog.works or self.recovery.suspects)

    def _resume(self) -> None:
        """Let clients that have been put off go on, and work that is unfinished: some of each at least."""
        for _ in range(len(self._deferred)):
            self._deferred.popleft().go_on()
            if self.budget.spent():
                break
        try:
            self.backlog.run()
        except Exception as error:
            self.report(f"work failed: {self.backlog.doing}", error)

    def _put_off_touched(self) -> None:
        """Leave the queues that this turn had no time for to later turns. Only the clients that have touched
        them wait for that with their next commands: else queues that are never empty would keep everybody
        waiting.
        """
        self._left += self._touched
        self._touched.clear()
        for client in dict.fromkeys((*self.acting, *self._unfinished)):
            self._left.append(Marker(client, self._late, self._deferred))

    def _take_left(self) -> None:
        """Have the queues that earlier turns had no time for deliver in this one, first."""
        self._left += self._touched
        self._touched, self._left = self._left, self._touched
        self._left.clear()

    def go_on_for(self, client: Client) -> None:
        """Take note that a command of this client goes on in later turns, until ``over_for``."""
        self._unfinished[client] = None

    def over_for(self, client: Client) -> None:
        """Take note that the client's unfinished command is over."""
        self._unfinished.pop(client, None)

    def defer(self, client: Client, *, behind_deliveries: bool = False) -> None:
        """Have a client go on in a later turn; ``behind_deliveries``: once the queues that its commands have
        touched have delivered, a round at least.
        """
        if behind_deliveries and client in self._late:
            self._late[client].waiting = True
        else:
            self._deferred.append(client)

    def catch_up_for(self, client: Client) -> bool:
        """Do the same as ``catch_up`` within the turn's budget, before a command of this client. Return False
        if the budget is spent before all is done, or if queues that the client's earlier commands have
        touched are still to deliver. The command has to wait for a later turn then, see ``defer``.
        """
        if client in self._late:
            return False
        if self._advancing or self._advance(bounded=True):
            self._add_rounds()
            return True
        return False

    def catch_up(self) -> None:
        """Do now what the batch has put off: dead letters and deliveries of the commands so far.

        To be called before a command that could see or change what they see or change: any that is neither a
        publish nor an acknowledgement. For those two the queues know when it matters. A client then sees the
        same as if each of its commands had been a batch of its own.
        """
        if not self._advancing:  # or a connection ends because a delivery to it failed
            self._take_left()
            self._advance()
            self._add_rounds()

    def _add_rounds(self) -> None:
        """Have the queues of this batch that have more than a round of deliveries make some more of them."""
        while self._rounds and not self._advancing and len(self._again) > self._earlier:
            self._rounds -= 1
            self._touched.append(self._again.pop())
            self._advance()

    def deliver_touched(self) -> None:
        """The same without dead letters, in the middle of a publish."""
        if not self._advancing:
            self._advancing = True
            self._take_left()
            try:
                while self._touched or self._hungry:
                    self._deliver_next()
            finally:
                self._advancing = False

    def _advance(self, *, bounded: bool = False, earlier: int = 0) -> bool:
        """Publish dead letters, have touched queues deliver, publish traces, until there is nothing left but
        what is for other turns. With ``bounded`` return False if the turn's budget was spent before that.

        ``earlier``: so many queues that earlier turns have left deliver as well, by turns with all the rest:
        neither endless dead letters nor endless deliveries keep the others waiting.
        """
        self._advancing = True
        try:
            while True:
                if earlier:
                    earlier -= 1
                    self._deliver((self._left or self._again).popleft())
                    if bounded and self.budget.spent():
                        return not (self._touched or self._hungry or self._traces)
                if self._letters and self._copies > 0:
                    self._copies -= 1 + self._send_letter(self._letters[0])
                elif self._touched or self._hungry:
                    self._deliver_next()
                elif self._traces:
                    self._send_trace(*self._traces.popleft())
                elif not earlier:
                    return True
                delivering = self._touched or self._hungry or self._traces
                if bounded and (delivering or self._letters) and self.budget.spent():
                    return not delivering
        finally:
            self._advancing = False

    def _deliver_next(self) -> None:
        """Have the queue deliver that was touched first. After the last, wake more consumers of a session
        that has room left.
        """
        if self._touched:
            self._deliver(self._touched.popleft())
        else:
            session = next(iter(self._hungry))
            del self._hungry[session]
            session.wake()

    def _deliver(self, queue: AnyQueue | Marker) -> None:
        """Have a queue deliver; what it has beyond a round is for another turn. What it raises is no client's
        fault, and keeps no other queue from delivering.
        """
        self._delivering = queue.name, queue.vhost
        try:
            if queue.deliver(self.now):
                self._again.append(queue)
        except Exception as error:
            self.report(f"delivering failed: queue '{queue.name}' in vhost '{queue.vhost}'", error)
            if not isinstance(queue, Marker):
                self.recovery.delivery_failed(queue, error)
        else:
            if self.recovery.failures and not isinstance(queue, Marker):
                self.recovery.failures.pop(queue, None)

    def feed(self, session: Feeder) -> None:
        """Have a session wake its consumers once the queues that are touched have delivered."""
        self._hungry[session] = None

    def owe(self, client: Client) -> None:
        """Tell the client at the end of this batch what became of its publishes, or its declarations."""
        self._owed[client] = None

    def await_message(self, client: Client, queue: AnyQueue) -> None:
        """Have a client go on once the queue's next message has been read, or there is none."""
        self._awaiting[client] = queue

    def _go_on(self) -> bool:
        """Let those clients go on that wait no longer; False when there is none."""
        found = [client for client, queue in self._awaiting.items() if not queue.awaits_disk()]
        for client in found:
            del self._awaiting[client]
        for client in found:
            client.go_on()
        return bool(found)

    def forget(self, client: Client) -> None:
        """A client has gone."""
        self.clients.pop(client, None)
        if client in self._entered:
            user, vhost = self._entered.pop(client)
            user.connections -= 1
            vhost.connections -= 1
        self._awaiting.pop(client, None)
        self._late.pop(client, None)
        self._unfinished.pop(client, None)
        self.incoming.forget(client)

    def committed(self) -> None:
        """More is on disk: tell those who wait for it."""
        self._tell(list(self._waiting), early=False)

    def _tell_owed(self) -> None:
        """Tell the clients of this batch, and those that wait no longer since something was settled."""
        owed, self._owed = self._owed, {}
        early, self.keeper.early = self.keeper.early, False
        self._tell({**self._waiting, **owed} if early else owed, early=early)

    def _tell(self, clients: Iterable[Client], *, early: bool) -> None:
        for client in clients:
            self._waiting.pop(client, None)
            try:
                if client.tell(early=early):
                    self._waiting[client] = None
            except Exception as error:  # of this client's; the others are told all the same
                client.crash(error)

    def failed(self, error: BaseException) -> bool:
        """Whoever catches what this broker raised says so here; True when that was the store's failure.

        Then nothing is confirmed any more, and the broker stops. Other failures concern whoever's turn it
        was, and the queues that the exception came through: these are put right at the end of the turn.
        """
        if self.keeper.failed(error):
            return True
        self.recovery.examine(error)
        return False

    def report(self, what: str, error: Exception) -> None:
        """Log an exception that is the fault of no client, and do what ``failed`` does."""
        structlog.get_logger().error(what, exc_info=error)
        self.failed(error)

    def on_timers(self) -> None:
        """Let everything whose deadline has come act on it."""
        self.timers.run(self.now, self.budget.spent, self._deadline_failed)

    def _deadline_failed(self, target: Timed, error: Exception) -> None:
        """A target of the timers raised: the others are called all the same, and it is called again."""
        self.report("a deadline could not be kept", error)
        self.schedule(self.now + LATER, target)

    # -- VHostHost -----------------------------------------------------------------------------------------

    def touch(self, queue: AnyQueue) -> None:
        self._touched.append(queue)

    def schedule(self, when: int, target: Timed) -> None:
        self.timers.schedule(when, target)

    def dead_letter(self, letters: Iterable[DeadLetter]) -> None:
        self._letters.extend(letters)

    def letters_under_way(self) -> Iterable[DeadLetter]:
        return chain(self._letters, self._multiplying)

    def suspect(self, queue: AnyQueue) -> None:
        self.recovery.suspect(queue)

    def trace(self, vhost: VHost, copy: Message) -> None:
        """Publish what the firehose has to tell, at the end of this batch."""
        self._traces.append((vhost, copy))

    def _send_trace(self, vhost: VHost, copy: Message) -> None:
        """Publish a copy for the firehose; one that fails is dropped."""
        try:
            self._publish_trace(vhost, copy)
        except Exception as error:
            self.report(f"a copy for the firehose of vhost '{vhost.name}' was dropped", error)

    def _publish_trace(self, vhost: VHost, copy: Message) -> None:
        if TRACE in vhost.exchanges:
            plan = vhost.plan(copy.route)
            plan.published += 1
            targets = plan.queues
            if targets is None:
                targets = tuple(vhost.routes.route(plan.exchange, (plan.routing_key,), copy))
                plan.routed += len(targets)
            for target in targets:
                target.enqueue(copy, self.now)

    def _send_letter(self, dead: DeadLetter) -> int:
        """As ``_publish_letter``. If that fails it is tried again later; queues that have the letter already
        get it twice.
        """
        try:
            copies = self._publish_letter(dead)
        except Exception as error:
            if not self.failed(error):
                self.recovery.letter_failed(dead, error)
            copies = 1
        else:
            self.recovery.letter_published(dead)
        self._letters.popleft()  # not before: it would be in nobody's hands meanwhile
        return copies

    def _publish_letter(self, dead: DeadLetter) -> int:
        """Send a dead letter on, and say to how many queues; without its exchange it is dropped, and so it is
        at a queue it would only come back to, and when it has multiplied too often. One that would become
        several waits while an alarm is raised: queues that dead-letter into each other make many of one, and
        nobody blocks a queue.
        """
        copies = 0
        queue = dead.queue
        dropped: DropReason = "dead_letter_exchange_missing"
        exchange = dead.vhost.exchanges.get(dead.exchange)
        if exchange is not None:
            message = dead.entry.message
            letter = make_letter(
                message,
                queue.name,
                dead.reason,
                exchange=dead.exchange,
                own_key=dead.routing_key,
                wall=self.wall,
            )
            keys = [*routing_keys(letter.routing_key, letter.headers), *letter.blind_keys]
            dropped = "dead_letter_unroutable"
            found = dead.vhost.routes.route(exchange, keys, letter)
            targets = [target for target in found if not is_cycle(letter, target.name)]
            if len(targets) < len(found):
                dropped = "dead_letter_cycle"
            counted = count_copies(letter, message, dead.reason, len(targets))
            if counted is None:
                dropped, targets = "dead_letter_multiplied", []
            elif self.alarms.raised and len(targets) > 1:
                if self._hold_letter(dead):
                    return 1
                if len(targets) > FEW_COPIES or copies_so_far(message, dead.reason) > 1:
                    dropped, targets = "dead_letter_multiplied", []
            for target in targets:
                target.enqueue(counted or letter, self.now, again=True)
                copies += 1
        if not copies:
            self.drops.add(dead.vhost.name, queue.name, dropped, 1, self.now)
        queue.release([dead.entry])
        return copies

    def _hold_letter(self, dead: DeadLetter) -> bool:
        """Have a dead letter wait until no alarm is raised. Return False if too many wait already: they are
        in no queue, so they cannot be moved to disk and keep the alarm raised.
        """
        size = LETTER_COST + dead.entry.message.size
        if self.letters_held + size > LETTERS_HELD:
            return False
        self.letters_held += size
        self._multiplying.append(dead)
        return True
