"""The broker: its virtual hosts, users and connections, and its parts.

Responsible for logins and connection limits, and for the reaction to an exception in the broker's code. The
order of a batch is in ``scheduler``, confirms and replies that wait for a commit are in ``commit_waiters``.
The caller (a socket, a test) sets ``now`` and ``wall`` before each batch and calls ``scheduler.end_batch``
after it.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import NotAllowed
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
from leveret.router.broker.client import Client
from leveret.router.broker.commit_waiters import CommitWaiters
from leveret.router.broker.incoming import Incoming
from leveret.router.broker.recovery import Recovery
from leveret.router.broker.refusals import Refusals
from leveret.router.broker.scheduler import Scheduler
from leveret.router.persistence.api import NoStorage, Storage
from leveret.router.queue.interface import AnyQueue
from leveret.router.settings import Settings
from leveret.router.turns.backlog import Backlog
from leveret.router.turns.budget import Budget
from leveret.router.turns.offload import InlineOffload, Offload
from leveret.router.turns.timers import Timed, Timers
from leveret.router.turns.turn_times import TurnTimes
from leveret.router.values.bounds import refused_name
from leveret.router.values.counters import Churn
from leveret.router.values.limits import check_user_channels, check_user_connections, check_vhost_connections
from leveret.router.vhost.dead_letters import DeadLetters
from leveret.router.vhost.drops import Drops
from leveret.router.vhost.vhost import VHost

if TYPE_CHECKING:
    from leveret.router.broker.outbox_state import OutboxState

LATER = 1000  # ms until a timer's target that raised is called again


class Broker:
    """One broker. The time of the current batch is ``now`` in ms of the monotonic clock, ``wall`` in seconds
    since the epoch.
    """

    def __init__(self, settings: Settings, now: int = 0, storage: Storage | None = None) -> None:
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
        self.work: Offload = InlineOffload()
        self.login_queue = LoginQueue(self, self.logins, throttle)
        self.vhosts: dict[str, VHost] = {}
        self.global_parameters: dict[str, Any] = {}
        self.clients: dict[Client, None] = {}
        self._entered: dict[Client, tuple[User, VHost]] = {}  # clients in a virtual host
        self.storage: Storage = storage or NoStorage()
        self.timers = Timers()
        self.budget = Budget()
        self.turn_times, self.round_times = TurnTimes(now), TurnTimes(now)
        self.backlog = Backlog(self.budget)
        self.churn = Churn()
        self.alarms = Alarms()
        self.drops = Drops(self.schedule)
        self.refusals = Refusals(self.schedule)
        self.incoming = Incoming(settings.server.max_incoming_size)
        self.outboxes: list[OutboxState] = []  # the transactional outboxes that this broker publishes from
        self.set_aside: Counter[str] = Counter()  # stored content that could not be read, by its kind
        self.dead_letters = DeadLetters(self, self.alarms.raised)
        self.recovery = Recovery(self)
        self.scheduler = Scheduler(self)
        self.commit_waiters = CommitWaiters(self.backlog.start)

    @property
    def cluster_name(self) -> str:
        """The global parameter ``cluster_name`` if it is a text of at most 255 bytes, or the node's name."""
        name = self.global_parameters.get("cluster_name")
        return name if isinstance(name, str) and not refused_name("cluster name", name) else self.node_name

    # -- virtual hosts and connections ---------------------------------------------------------------------

    def add_vhost(self, name: str) -> VHost:
        """Return the virtual host of this name, after making it if it does not exist."""
        found = self.vhosts.get(name)
        if found is None:
            found = self.vhosts[name] = VHost(name, self)
        return found

    def vhost(self, name: str) -> VHost:
        """Return the virtual host of this name. Raises NotAllowed."""
        found = self.vhosts.get(name)
        if found is None:
            raise NotAllowed(f"vhost {name} not found")
        return found

    def forget_vhost(self, vhost: VHost) -> None:
        """Remove a virtual host whose objects and permissions are deleted."""
        del self.vhosts[vhost.name]

    def log_in(self, login: Login, then: Callable[[Outcome], None]) -> User | WaitingLogin:
        """Return the user of these credentials, or a login that waits because its check takes long. ``then``
        is called with the outcome of a waiting login, perhaps before this returns.

        Raises LoginRefused if no check is needed to refuse the credentials.
        """
        found = self.logins.begin(login, self.now)
        return self.login_queue.add(login, found, then) if isinstance(found, Check) else found

    def enter(self, client: Client, user: User, vhost: VHost) -> None:
        """Connect a client to a virtual host as this user. Raises NotAllowed if the user or the virtual host
        has reached its limit of connections.
        """
        check_vhost_connections(vhost.limits, vhost.connections, vhost=vhost.name, user=user.name)
        check_user_connections(user.limits, user.connections, user=user.name)
        user.connections += 1
        vhost.connections += 1
        self._entered[client] = user, vhost

    def check_channels(self, user: User) -> None:
        """Raise NotAllowed if the user has reached its limit of channels."""
        if user.limits:
            count = sum(client.channel_count for client in self.clients if client.user is user)
            check_user_channels(user.limits, count, user=user.name)

    def forget(self, client: Client) -> None:
        """Remove a client whose connection has ended."""
        self.clients.pop(client, None)
        if client in self._entered:
            user, vhost = self._entered.pop(client)
            user.connections -= 1
            vhost.connections -= 1
        self.scheduler.forget(client)
        self.incoming.forget(client)

    # -- batches -------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """See ``Scheduler.catch_up``."""
        self.scheduler.catch_up()

    def catch_up_for(self, client: Client) -> bool:
        """See ``Scheduler.catch_up_for``."""
        return self.scheduler.catch_up_for(client)

    def go_on_for(self, client: Client) -> None:
        """See ``Scheduler.go_on_for``."""
        self.scheduler.go_on_for(client)

    def over_for(self, client: Client) -> None:
        """See ``Scheduler.over_for``."""
        self.scheduler.over_for(client)

    def defer(self, client: Client, *, after_deliveries: bool = False) -> None:
        """See ``Scheduler.defer``."""
        self.scheduler.defer(client, after_deliveries=after_deliveries)

    def await_message(self, client: Client, queue: AnyQueue) -> None:
        """See ``Scheduler.await_message``."""
        self.scheduler.await_message(client, queue)

    def trace(self, vhost: VHost, copy: Message) -> None:
        """See ``Scheduler.trace``."""
        self.scheduler.trace(vhost, copy)

    def notify_committed(self) -> None:
        """See ``CommitWaiters.notify_committed``."""
        self.commit_waiters.notify_committed()

    # -- failures and deadlines ----------------------------------------------------------------------------

    def failed(self, error: BaseException) -> bool:
        """Handle an exception that code of this broker raised. Return True if the storage failed: then
        nothing more is confirmed, and the broker stops.

        After another exception, the queues in its traceback are repaired at the end of the turn. Every caller
        that catches an exception of the broker calls this.
        """
        if self.storage.failed(error):
            return True
        self.recovery.examine(error)
        return False

    def report(self, what: str, error: Exception) -> None:
        """Log an exception that no client has caused, and do what ``failed`` does."""
        structlog.get_logger().error(what, exc_info=error)
        self.failed(error)

    def on_timers(self) -> None:
        """Call the targets of the timers whose deadlines have come."""
        self.timers.run(self.now, self.budget.spent, self._deadline_failed)

    def _deadline_failed(self, target: Timed, error: Exception) -> None:
        """Schedule a timer's target that raised an exception again, so that other targets are still
        called.
        """
        self.report("timer callback raised an exception", error)
        self.schedule(self.now + LATER, target)

    def schedule(self, when: int, target: Timed) -> None:
        """Call ``target.on_timer`` at ``when`` ms."""
        self.timers.schedule(when, target)

    def schedule_repair(self, queue: AnyQueue) -> None:
        """See ``Recovery.schedule_repair``."""
        self.recovery.schedule_repair(queue)
