"""A client's connection in any protocol: login, pauses, alarms, heartbeats and the end.

Sans-IO: ``receive`` takes bytes, and the outbox has the bytes to send. The protocol defines the commands,
their order, and the form of replies and errors, see ``connection_hooks``.
"""

from collections.abc import Callable

from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import AmqpError, InternalError
from leveret.protocol.heartbeats import Heartbeats
from leveret.router.auth import Login, LoginRefused, Outcome, User, WaitingLogin
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import owner_of
from leveret.router.session.connection_hooks import ConnectionHooks, Phase, SessionOwner
from leveret.router.session.deliveries import SERVED
from leveret.router.session.reply_gate import Gate
from leveret.router.session.transport import UNKNOWN, ConnectionEnds, ConnectionLog, ConnectionOutbox
from leveret.router.turns.backlog import LongWork, Slices
from leveret.router.vhost.vhost import VHost

FEW = 16  # cheap commands between two checks of the turn's time budget


class ClientConnection(SessionOwner, ConnectionHooks):
    """One client's connection from its first bytes to its end.

    A protocol's subclass implements ``ConnectionHooks``. Its ``receive`` parses commands and hands them to
    sessions. It calls ``log_in`` and ``enter`` for the client's login, and ``postpone`` or ``resume_after``
    when commands must wait for a later turn. At the end of each read it joins ``Broker.commit_waiters`` if
    replies or confirms are outstanding, and calls ``block_publisher`` while an alarm is raised, and
    ``count_incomplete`` for commands that have arrived in part.

    ``loopback`` is True for a client on this machine, ``proven_user`` is the user name in its verified
    certificate. ``since`` is the start in seconds since the epoch. ``unfinished`` is True if commands wait
    for a later turn, ``paused`` if commands wait for any reason; the broker reads nothing from the connection
    meanwhile. ``finished`` is True once nothing is read or written any more.
    """

    def __init__(
        self,
        broker: Broker,
        outbox: ConnectionOutbox,
        log: ConnectionLog,
        *,
        loopback: bool,
        proven_user: str | None = None,
        ends: ConnectionEnds = UNKNOWN,
    ) -> None:
        super().__init__(broker)
        self.outbox = outbox
        self.ends = ends
        self.since = broker.wall
        self.mechanism = ""  # a SASL mechanism
        self.client_properties: Table = {}
        self.replies = Gate(outbox, broker.storage)
        self.heartbeats = Heartbeats()
        self.last_received = broker.now
        self.unfinished = False
        self.paused = False
        self.finished = False
        self.log = log
        self.proven_user = proven_user
        self._loopback = loopback
        self._login: WaitingLogin | None = None  # while the password is being checked
        self.incomplete = 0  # bytes counted in ``Broker.incoming``
        self._deadline = 0  # ms at which ``on_timer`` has something to do; 0: never
        broker.clients[self] = None
        self.wake_in(broker.settings.amqp.handshake_timeout)

    # -- state for the management API ------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """The state of the connection, as RabbitMQ's management API names it."""
        if self.finished:
            return "closed"
        blocked = self.phase is Phase.OPEN and self.broker.alarms.blocks(self)
        return "blocked" if blocked else self.phase.value

    @property
    def heartbeat(self) -> int:
        """The negotiated heartbeat interval, in seconds; 0: no heartbeats."""
        return -(-self.heartbeats.expects // 1000)

    # -- login -----------------------------------------------------------------------------------------------

    def log_in(self, credentials: tuple[str, str] | None, mechanism: str) -> None:
        """Check a name and password, or accept the certificate's user if ``credentials`` is None.

        Calls ``logged_in`` or ``login_refused``, at once or in a later turn. Commands wait until then.
        """
        self.pause()
        outcome: Outcome | WaitingLogin
        try:
            if credentials is None:
                assert self.proven_user is not None
                outcome = self.broker.logins.proven(
                    self.proven_user, loopback=self._loopback, mechanism=mechanism
                )
            else:
                login = Login(*credentials, self.ends.peer[0], self._loopback, mechanism)
                outcome = self.broker.log_in(login, self._end_late_login)
        except LoginRefused as refused:
            outcome = refused
        if not isinstance(outcome, WaitingLogin):
            self._end_login(outcome)
        elif outcome.then is not None:
            self._login = outcome

    def _end_late_login(self, outcome: Outcome) -> None:
        """End a login whose password check took time, and handle the input that has arrived since."""
        self._login = None
        if self.finished:
            return
        self.wake_in(self.broker.settings.amqp.handshake_timeout)  # the password check does not count
        try:
            self._end_login(outcome)
        except Exception as error:
            self.crash(error)
        self.go_on()

    def _end_login(self, outcome: Outcome) -> None:
        self.paused = False
        self.outbox.resume()
        if isinstance(outcome, User):
            self.logged_in(outcome)
            return
        if isinstance(outcome, LoginRefused):
            self.log.warning("login refused", user=outcome.user, reason=outcome.reason)
        else:
            self.log_end("login postponed", user=outcome.user, reason=outcome.reason)
        self.login_refused(outcome)

    def enter(self, user: User, vhost: VHost, client: object) -> None:
        """Open a virtual host; ``client`` names the client's software in the log.

        Raises NotAllowed if the user or the virtual host has reached its limit of connections.
        """
        self.broker.enter(self, user, vhost)
        self.user, self.vhost = user, vhost
        self.broker.churn.connection_created += 1
        self._deadline = 0
        if interval := self.heartbeats.interval():
            self.wake_in(interval)
        self.log = self.log.bind(user=user.name, vhost=vhost.name, client=client)
        self.log.info("connection opened")

    # -- commands that wait ----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading until ``go_on`` is called; the subclass keeps the commands that it has read."""
        self.paused = True
        self.outbox.pause()

    def postpone(self, *, after_deliveries: bool = False) -> None:
        """Handle the remaining commands in a later turn.

        With ``after_deliveries`` they wait until the queues that the client has touched have delivered once.
        """
        self.unfinished = True
        self.pause()
        self.broker.defer(self, after_deliveries=after_deliveries)

    def resume_after(self, work: LongWork, over: Callable[[Exception | None], None] | None = None) -> None:
        """Handle the remaining commands when ``work`` has ended.

        ``over`` is called before, with the exception of the work or None. Without ``over`` an exception ends
        the connection.
        """

        def done(error: Exception | None) -> None:
            self.broker.over_for(self)
            if over is not None:
                over(error)
            elif error is not None:
                self.crash(error)
            self.go_on()

        work.listeners.append(done)
        self.broker.go_on_for(self)
        self.unfinished = True
        self.pause()

    def go_on(self) -> None:
        """Handle the commands that waited, and read on."""
        self.paused = self.unfinished = False
        if not self.broker.alarms.blocks(self):
            self.outbox.resume()
        try:
            self.receive(b"")
        except Exception as error:
            self.crash(error)

    def tell(self, *, settled_early: bool) -> bool:
        """Write the replies and confirms whose changes are on disk. Return True if more are outstanding."""
        if self.finished:
            return False
        if self.replies.open():
            self.drained()
        waiting = self.send_confirms(settled_early=settled_early) or self.replies.holding
        if not waiting and self.phase is Phase.CLOSING:
            self.replies_sent()
        return waiting and not self.finished

    def drained(self) -> None:
        """Wake the consumers when the outbox has room, first those of the session served longest ago."""
        for deliveries in sorted((each.deliveries for each in self.sessions().values()), key=SERVED):
            deliveries.wake()

    # -- bounds on what clients send -------------------------------------------------------------------------

    def block_publisher(self, *, published: bool) -> None:
        """Stop reading while an alarm is raised, if the client ``published`` in this read.

        A publish that has arrived in part counts too: otherwise many clients could each fill a large body.
        All commands of this read are still handled. RabbitMQ stops at the content header of the first
        publish; it handles this publish and the commands after it when the alarm is cleared.
        """
        alarms = self.broker.alarms
        if self.phase is not Phase.OPEN or alarms.blocks(self):
            return
        if published or self.has_incomplete_publish():
            alarms.block(self)
            self.outbox.pause()
            self.log.debug("publisher blocked", reason=alarms.reason())
            self.notify_blocked(alarms.reason())

    def unblock(self) -> None:
        """Read on and expect heartbeats from now on, since the last alarm is cleared."""
        self.last_received = self.broker.now
        if not self.paused:
            self.outbox.resume()
        self.log.debug("publisher unblocked")
        self.notify_blocked(None)

    def count_incomplete(self, held: int) -> None:
        """Set the bytes of incomplete commands that count against the limits of ``Broker.incoming``.

        Need not be called while at most ``LITTLE`` bytes are incomplete and none are counted.
        """
        if not self.finished:
            self.broker.incoming.grow(self, owner_of(self.user, self.ends.peer[0]), held - self.incomplete)
            self.incomplete = held

    # -- the clock -------------------------------------------------------------------------------------------

    def wake_in(self, delay: int) -> None:
        """Schedule ``on_timer`` in ``delay`` ms, in place of the previous deadline."""
        self._deadline = self.broker.now + delay
        self.broker.schedule(self._deadline, self)

    def on_timer(self, now: int) -> None:
        """Check heartbeats, or end a connection whose handshake or close takes too long."""
        if self.finished or not self._deadline or now < self._deadline:
            return
        if self.phase is Phase.OPEN:
            self.check_heartbeats(now)
        elif self._login is None:  # else the broker is late, not the client
            self.timed_out()

    def check_heartbeats(self, now: int) -> None:
        """End the connection if the client is silent for too long; send a heartbeat if one is due."""
        heartbeats = self.heartbeats
        # Heartbeats cannot arrive while the broker does not read from the client: it is blocked, its commands
        # wait, or it does not read its replies. A closing client need not send any.
        waits = self.paused or self.broker.alarms.blocks(self) or not self.outbox.writable()
        if not waits and self.phase is Phase.OPEN and heartbeats.missed(self.last_received, now):
            self.close_with_log(f"missed heartbeats, one is expected every {heartbeats.expects} ms")
            return
        if heartbeats.due(self.outbox.last_sent(), now):
            self.outbox.write(self.heartbeat_bytes)
        self.wake_in(heartbeats.interval())

    # -- the end ---------------------------------------------------------------------------------------------

    def end(self, error: AmqpError) -> None:
        """Close the connection on behalf of the broker."""
        self.refuse(error)

    def crash(self, error: Exception) -> None:
        """End the connection after an exception in the broker while it served this client."""
        self.broker.failed(error)
        self.log.error("connection failed", exc_info=error)
        self.refuse(InternalError("internal error, see the broker's log"))

    def lost(self) -> None:
        """End the connection after the client has closed its side; warn in the log if that was unexpected."""
        if self.finished:
            return
        if self.phase is Phase.NEW:
            self.log.debug("connection lost", state=self.status)  # a port scan or a health check
        elif self.phase is not Phase.CLOSING:
            self.log_end("connection lost", state=self.status)
        self.finish()

    def close_with_log(self, error: str) -> None:
        """End the connection with a warning in the log, and send the client nothing."""
        self.log_end("connection closed", error=error)
        self.finish()

    def log_end(self, event: str, **fields: str) -> None:
        """Log why the connection ends. Before a virtual host is opened, lines of many clients become one."""
        if self.vhost is None:
            self.broker.refusals.add(self.log, event, self.broker.now, **fields)
        else:
            self.log.warning(event, **fields)

    def finish(self) -> None:
        """End the connection: close the outbox, and return everything that the client holds."""
        if self.finished:
            return
        self.finished = True
        self.drop_input()
        if self._login is not None:
            self._login.cancel()
            self._login = None
        self.outbox.close()
        self.broker.forget(self)
        if self.vhost is not None:
            self.broker.churn.connection_closed += 1
        self.leave()

    def leave(self) -> LongWork | None:
        """Close all sessions, then delete the connection's exclusive queues; return the unfinished work.

        Also unblocks the connection, because the client's reply to a close must be read during an alarm too.
        """
        self.broker.alarms.forget(self)
        self.outbox.resume()
        return self.broker.backlog.start("the end of a connection", self._leave())

    def _leave(self) -> Slices:
        yield from self.close_sessions()
        if self.vhost is not None:
            yield from self.vhost.delete_owned(self)
