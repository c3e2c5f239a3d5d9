"""An AMQP connection, without a socket; long, for login, alarms and end are one state machine.

Owns the login and the end of a connection; every refusal and every failure comes to it and ends a channel or
the connection here. The handshake's order is the protocol's, the channels' life is that of ``channels``, and
commands on an open channel are ``commands``'.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Acks, Command, Heartbeat, Publishes
from leveret.protocol.amqp.connection import Offer, ServerConnection, State
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.sasl import EXTERNAL, credentials
from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import AmqpError, InternalError, NotAllowed
from leveret.protocol.recognition import AMQP, recognize, wrong_port
from leveret.router.amqp.channel import Channel
from leveret.router.amqp.channels import LIFE, Channels
from leveret.router.amqp.closing import close_for
from leveret.router.amqp.commands import handle
from leveret.router.auth import Login, LoginRefused, Outcome, User, WaitingLogin
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import LITTLE, owner_of
from leveret.router.queue.paging import NotAtHand
from leveret.router.session.reply_gate import Gate
from leveret.router.session.session import Session
from leveret.router.session.transport import UNKNOWN, ConnectionLog, ConnectionOutbox, Ends
from leveret.router.turns.backlog import LongWork, Postponed
from leveret.router.vhost.vhost import VHost

PUBLISHED = (Message, Publishes)
FLOOD = frozenset((*PUBLISHED, m.BasicAck, Acks))  # before these nobody need catch up, see ``Broker``
FEW = 16  # of FLOOD that are handled before the connection looks whether the turn takes too long
NOT_TUNED = (State.HEADER, State.START_OK, State.TUNE_OK)
ENDING = (State.CLOSING, State.CLOSED)  # nothing but a close-ok and replies before it is still to come


class AmqpConnection:
    """One client. ``loopback`` says whether it is on this machine, ``proven_user`` whom it has proven to be
    before it said anything; ``finished`` that it is over; ``since`` is when it came, in seconds since the
    epoch.

    ``frame_max`` (bytes) is for what is sent to it, ``cancel_notify`` whether it is told of consumers' ends.
    """

    def __init__(
        self,
        broker: Broker,
        offer: Offer,
        outbox: ConnectionOutbox,
        log: ConnectionLog,
        *,
        loopback: bool,
        proven_user: str | None = None,
        ends: Ends = UNKNOWN,
    ) -> None:
        named = {**offer.server_properties, "cluster_name": broker.cluster_name}
        offer = replace(offer, server_properties=named)
        if proven_user is not None:
            offer = replace(offer, mechanisms=f"{offer.mechanisms} {EXTERNAL}")
        self.broker = broker
        self.outbox = outbox
        self.ends = ends
        self.since = broker.wall
        self.mechanism = ""
        self.wire = ServerConnection(offer, broker.now)
        self.user: User | None = None
        self.vhost: VHost | None = None
        self.client_properties: Table = {}
        self.replies = Gate(outbox, broker.keeper)
        self.channels = Channels(self.replies)
        self.finished = False
        self.frame_max = self.wire.frame_max
        self.cancel_notify = False
        self._told_why = False  # whether it is told why its login is refused
        self._blocked_notify = False  # whether it is told that it is not read from
        self._loopback = loopback
        self._proven_user = proven_user
        self._log = log
        self._put_off: list[tuple[int, Command]] = []  # commands read and not yet handled
        # A command that was refused, before what the client had published was delivered: that comes first.
        self._refused: tuple[int, AmqpError, Command] | None = None
        self._awaiting = False  # something takes long: reading a message from the disk, the login
        self._leaving: LongWork | None = None  # what has to be over before close-ok
        self.unfinished = False  # whether what a command does, or the next one, waits for a later turn
        self._login: WaitingLogin | None = None  # whose password is to be checked
        self._incomplete = 0  # bytes that ``Broker.incoming`` counts for frames and contents
        self._deadline = 0  # when on_timer has something to do
        broker.clients[self] = None
        self._wake_in(broker.settings.amqp.handshake_timeout)

    # -- what it tells of itself -----------------------------------------------------------------------------

    protocol = "AMQP 0-9-1"

    @property
    def status(self) -> str:
        """What it is doing, in the words of RabbitMQ's management API."""
        if self.wire.state is State.RUNNING and self.broker.alarms.blocks(self):
            return "blocked"
        return self.wire.state.value

    @property
    def heartbeat(self) -> int:
        """Seconds that were agreed on."""
        return self.wire.heartbeat

    @property
    def channel_max(self) -> int:
        return self.wire.channel_max

    def sessions(self) -> dict[int, Session]:
        """The sessions of its channels, by number."""
        return {number: channel.session for number, channel in self.channels.open.items()}

    # -- in --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> int:
        """Handle everything that ``data`` completes; return how many commands that are, 0 during the
        handshake.
        """
        if self.finished:
            return 0
        before = self.wire.state
        commands = self.wire.receive(data, self.broker.now)
        if self._put_off or self.unfinished:
            commands = [*self._put_off, *commands]
            self._put_off = []
            if self.unfinished:  # those wait as well
                self._put_off = commands
                return 0
        if before is State.HEADER and self.wire.state is not before:
            self._answer_header(data)
        self.broker.scheduler.acting.append(self)
        if self._refused is None or self._refuse(commands):
            self._handle(commands)
        if not (self._put_off or self.unfinished):
            self._handle_fault()
        if self.replies.holding:
            self.broker.commit_waiters.add(self)
        if self.broker.alarms.raised:
            self._block_publisher(commands)
        held = self.wire.reader.held
        if (held > LITTLE or self._incomplete) and not self.finished:
            self.broker.incoming.grow(self, owner_of(self.user, self.ends.peer[0]), held - self._incomplete)
            self._incomplete = held
        if not isinstance(commands, list):
            return 0
        return sum(
            [
                len(each.messages) if type(each) is Publishes else len(each.tags) if type(each) is Acks else 1
                for _, each in commands
            ]
        )

    def _handle(self, commands: Iterable[tuple[int, Command]]) -> None:  # noqa: PLR0912 - each way to stop
        """Handle commands in their order; each that is refused ends its channel, or the connection.

        When the turn has taken long enough the rest is put off to another one.
        """
        channels = self.channels.open
        commands = iter(commands)
        left, budget = FEW, self.broker.budget
        for number, command in commands:
            if type(command) not in FLOOD:
                if not self.broker.catch_up_for(self):
                    self._pause_behind_deliveries((number, command), *commands)
                    break
                left = 1  # one alone may take long: a selector, a large table
            channel = channels.get(number)
            session = None if channel is None else channel.session  # which the channel loses when it ends
            answer = None
            try:
                if channel is None or session is None or type(command) in LIFE:
                    self._without_channel(number, command)
                    if self._awaiting:
                        self._put_off = list(commands)
                        break
                elif type(command) is Message:
                    session.publish(command)
                elif type(command) is Publishes:
                    session.publish_all(command.messages)
                else:
                    answer = handle(channel, command)
                    if type(command) is m.BasicGet and not self.outbox.writable():
                        # A few bytes can ask for much: the rest waits until the client has read this.
                        self._put_off = list(commands)
                        break
            except AmqpError as error:
                self._refused = number, error, command
                if not self._refuse(commands):
                    break
            except (Postponed, NotAtHand) as wait:
                self._await(wait, (number, command), *commands)
                break
            if session is not None and session.work.unfinished is not None and not self.finished:
                session.work.unfinished.over = self._over(channel, command, answer)
                self.broker.go_on_for(self)
                self._pause(*commands)
                break
            left = left - 1 or FEW
            if (budget.over or (left == FEW and budget.spent())) and (rest := list(commands)):
                self._pause(*rest)
                self.broker.defer(self)
                break

    def _refuse(self, behind: Iterable[tuple[int, Command]]) -> bool:
        """Refuse the command that was put off for this. Return False if it has to wait again, with all the
        commands ``behind`` it.
        """
        assert self._refused is not None
        if not self.broker.catch_up_for(self):
            self._pause_behind_deliveries(*behind)
            return False
        refused, self._refused = self._refused, None
        self.fail(*refused)
        return True

    def _pause(self, *rest: tuple[int, Command]) -> None:
        """Handle nothing, and read nothing, until ``go_on``."""
        self._put_off = list(rest)
        self._awaiting = self.unfinished = True
        self.outbox.pause()

    def _pause_behind_deliveries(self, *rest: tuple[int, Command]) -> None:
        """Handle nothing more until the queues that the client's commands have touched have delivered."""
        self._pause(*rest)
        self.broker.defer(self, behind_deliveries=True)

    def _over(
        self, channel: Channel | None, command: Command, answer: Callable[[], None] | None
    ) -> Callable[[Exception | None], None]:
        """What answers a command, and goes on with those behind it, when all that it does is done."""

        def over(error: Exception | None) -> None:
            self.broker.over_for(self)
            is_open = channel is not None and self.channels.open.get(channel.number) is channel
            if isinstance(error, AmqpError) and channel is not None and is_open:
                self.broker.catch_up()
                self.fail(channel.number, error, command)
            elif error is not None:
                self.crash(error)
            elif is_open and answer is not None:
                answer()
            self.go_on()

        return over

    def _await(self, wait: Postponed | NotAtHand, *rest: tuple[int, Command]) -> None:
        """Handle the command that has to wait, and those behind it, when it need wait no longer."""
        if isinstance(wait, Postponed):
            wait.work.over = self._repeat
            self.broker.go_on_for(self)
            self._pause(*rest)
        else:
            self.broker.await_message(self, wait.queue)
            self._put_off = list(rest)
            self._awaiting = True
            self.outbox.pause()

    def _repeat(self, error: Exception | None) -> None:
        """Handle a command anew, and those behind it, since what it had to wait for is over."""
        self.broker.over_for(self)
        if error is not None:
            self.crash(error)
        self.go_on()

    def _block_publisher(self, commands: Iterable[tuple[int, Command]]) -> None:
        """While an alarm is raised, read nothing more from a client that has published with these commands.

        What it has only begun to publish counts: otherwise many could each fill a large body. What follows
        the publish in the same read is handled; RabbitMQ leaves that, and the publish too, for later.
        """
        alarms = self.broker.alarms
        if self.wire.state is not State.RUNNING or alarms.blocks(self):
            return
        if self.wire.reader.incomplete() or any(type(command) in PUBLISHED for _, command in commands):
            alarms.block(self)
            self.outbox.pause()
            self._log.debug("publisher blocked", reason=alarms.reason())
            self._notify(m.ConnectionBlocked(alarms.reason()))

    def unblock(self) -> None:
        """No alarm is raised any more: read on, and expect heartbeats from now on."""
        self.wire.last_received = self.broker.now
        if not self._awaiting:
            self.outbox.resume()
        self._log.debug("publisher unblocked")
        self._notify(m.ConnectionUnblocked())

    def _notify(self, method: m.ConnectionBlocked | m.ConnectionUnblocked) -> None:
        """Tell the client if it can be told, ahead of replies that wait for a disk that may be the reason."""
        if self._blocked_notify:
            self.outbox.write(method_frame(0, method))

    def _handle_fault(self) -> None:
        """Refuse what was wrong with the bytes behind the last command."""
        error = self.wire.reader.error
        if error is not None and not self.finished and self.wire.state not in ENDING:
            self.broker.catch_up()
            self.fail(0, error)

    def _answer_header(self, data: bytes) -> None:
        """Start the handshake, or refuse a client that did not begin with the protocol header."""
        if self.wire.refused_header:
            spoken = recognize(data)
            self._log.warning("connection refused", reason=wrong_port(spoken, AMQP))
            self.outbox.write(PROTOCOL_HEADER)
            self._finish()
        else:
            self.replies.write(self.wire.start())

    def _without_channel(self, number: int, command: Command) -> None:
        """A command of the connection itself, or of a channel's life."""
        if self.finished or self.wire.state is State.CLOSED:
            return  # it was sent behind what ended the connection
        if number == 0:
            self._control(command)
        elif self.wire.state is not State.CLOSING and self.channels.receive(
            number, command, self.wire.channel_max
        ):
            self._open_channel(number)

    def _control(self, command: Command) -> None:
        """A command on channel 0."""
        self.wire.accept(command)
        if self.wire.state is State.CLOSED:
            if isinstance(command, m.ConnectionClose):
                self._log.info("connection closed by client", code=command.reply_code)
                self.channels.tell_verdicts(self.broker.keeper.committed)
                self._leaving = self._leave()
                if self._leaving is None:
                    self._close_ok()
                else:  # a client that has its close-ok may declare the same queues anew
                    self._leaving.over = self._left
                return
            self._finish()
        elif self.wire.state is not State.CLOSING and not isinstance(command, Heartbeat):
            COMMANDS[type(command)](self, command)

    def _left(self, error: Exception | None) -> None:
        """The exclusive queues of a client that closes have been deleted."""
        self._leaving = None
        if error is not None:
            self.crash(error)
        if not self.finished:
            self._close_ok()

    def _close_ok(self) -> None:
        """Answer the client's close; ``tell`` ends the connection when the replies before that are sent."""
        self._send(m.ConnectionCloseOk())
        if self.replies.holding:
            self.broker.commit_waiters.add(self)
            self._wake_in(self.broker.settings.server.shutdown_timeout)
        else:
            self._finish()

    def owes_confirms(self, channel: Channel, batch: int) -> None:
        """A channel has publishes to be confirmed."""
        self.channels.owe(channel, batch)
        self.broker.commit_waiters.add(self)

    def tell(self, *, early: bool) -> bool:
        """Send the replies and confirms that need wait no longer. True when others still do."""
        if self.finished:
            return False
        if self.replies.open():
            self.drained()
        waiting = self.channels.tell_verdicts(self.broker.keeper.committed, early=early)
        if self.replies.holding:
            return True
        if self.wire.state is State.CLOSED and self._leaving is None:
            self._finish()
        return waiting

    # -- handshake -------------------------------------------------------------------------------------------

    def start_ok(self, method: m.ConnectionStartOk) -> None:
        """Log the client in, or hang up; it is told why if it says that it understands that."""
        self.client_properties = method.client_properties
        stated = method.client_properties.get("capabilities")
        capabilities: Table = stated if isinstance(stated, dict) else {}
        self.cancel_notify = capabilities.get("consumer_cancel_notify") is True
        self._blocked_notify = capabilities.get("connection.blocked") is True
        self._told_why = capabilities.get("authentication_failure_close") is True
        self._awaiting = True  # unless it is known at once who that is
        self.outbox.pause()
        try:
            found = self._authenticate(method)
        except LoginRefused as error:
            self._logged_in(error)
            return
        if isinstance(found, User):
            self._logged_in(found)
        elif self._awaiting:
            self._login = found

    def _authenticate(self, method: m.ConnectionStartOk) -> User | WaitingLogin:
        """The user that the client is, or the login whose outcome ``_proven_later`` is told. Raises
        LoginRefused, and whatever is wrong with the response.
        """
        self.mechanism = method.mechanism
        if method.mechanism == EXTERNAL and self._proven_user is not None:
            return self.broker.logins.proven(self._proven_user, loopback=self._loopback, mechanism=EXTERNAL)
        name, password = credentials(method.mechanism, method.response)
        login = Login(name, password, self.ends.peer[0], self._loopback, method.mechanism)
        return self.broker.log_in(login, self._proven_later)

    def _proven_later(self, outcome: Outcome) -> None:
        """It is known who the client is, if it is anybody: go on with what it has said meanwhile."""
        self._login = None
        if not self.finished:
            # The client did not keep the broker waiting, but the other way round.
            self._wake_in(self.broker.settings.amqp.handshake_timeout)
            self._logged_in(outcome)
            self.go_on()

    def _logged_in(self, outcome: Outcome) -> None:
        self._awaiting = False
        self.outbox.resume()
        if isinstance(outcome, User):
            self.user = outcome
            self._send(self.wire.tune())
            return
        event = "login refused" if isinstance(outcome, LoginRefused) else "login postponed"
        self._log.warning(event, user=outcome.user, reason=outcome.reason)
        if self._told_why:
            self._close(outcome)
        else:
            self._finish()

    def tune_ok(self, method: m.ConnectionTuneOk) -> None:
        """Take note of what was agreed on; too much was refused before."""
        self.frame_max = self.wire.frame_max

    def open(self, method: m.ConnectionOpen) -> None:
        """Enter the virtual host. Raises NotAllowed when there is none of that name, or not for this user."""
        assert self.user is not None
        vhost = self.broker.vhost(method.virtual_host)
        if not self.user.may_enter(vhost.name):
            raise NotAllowed(f"access to vhost '{vhost.name}' refused for user '{self.user.name}'")
        self.broker.enter(self, self.user, vhost)
        self.vhost = vhost
        self.broker.churn.connection_created += 1
        self._send(m.ConnectionOpenOk())
        if self.wire.heartbeat:
            self._wake_in(500 * self.wire.heartbeat)
        product = self.client_properties.get("product")
        self._log = self._log.bind(user=self.user.name, vhost=vhost.name, client=product)
        self._log.info("connection opened")

    def update_secret(self, method: m.ConnectionUpdateSecret) -> None:
        """Passwords are checked at login only, so there is nothing to renew."""
        self._send(m.ConnectionUpdateSecretOk())

    def _open_channel(self, number: int) -> None:
        assert self.user is not None
        assert self.vhost is not None
        vhost, user = self.vhost, self.user
        self.broker.check_channels(user)
        self.channels.add(
            Channel(number, self, lambda sink: Session(self.broker, vhost, user, self, sink, number=number))
        )

    # -- errors and the end ----------------------------------------------------------------------------------

    def fail(self, number: int, error: AmqpError, command: Command | None = None) -> None:
        """End a channel, or the connection, for an error met in ``command`` (None: in none of the client's).

        As in RabbitMQ, nobody is told why the connection ends before the tuning is agreed on.
        """
        if error.scope == "channel" and number in self.channels.open:
            self._log.warning("channel closed", channel=number, error=str(error), **error.log_fields)
            self.channels.close(number, close_for(m.ChannelClose, error, command))
            return
        self._log.warning("connection closed", error=str(error), **error.log_fields)
        if self.wire.state in NOT_TUNED:
            self._finish()
            return
        self.channels.tell_verdicts(self.broker.keeper.committed)
        self._leave()
        self._close(error, command)

    def end(self, error: AmqpError) -> None:
        """The broker ends the connection."""
        if not self.finished and self.wire.state not in ENDING:
            self.fail(0, error)

    def crash(self, error: Exception) -> None:
        """The broker failed while it served this client."""
        self.broker.failed(error)
        self._log.error("connection failed", exc_info=error)
        self.end(InternalError("the broker failed; its log says why"))

    def lost(self) -> None:
        """The client is gone; nothing is said of it if that was to be expected."""
        if self.finished:
            return
        if self.wire.state is State.HEADER:
            self._log.debug("connection lost", state="HEADER")  # somebody looked whether the port is open
        elif self.wire.state not in ENDING:
            self._log.warning("connection lost", state=self.wire.state.name)
        self._finish()

    def _close(self, error: AmqpError, command: Command | None = None) -> None:
        """Send connection.close and wait for its answer, but not for long."""
        self._send(close_for(m.ConnectionClose, error, command))
        self.wire.closing()
        self._wake_in(self.broker.settings.server.shutdown_timeout)

    def _finish(self) -> None:
        """Nothing is to be read or written any more."""
        self.finished = True
        self.wire.reader.forget()  # whoever still knows this connection, as a timer may, keeps no bodies
        self._put_off.clear()
        self._refused = None
        if self._login is not None:
            self._login.cancel()
            self._login = None
        self.outbox.close()
        self.broker.forget(self)
        if self.vhost is not None:
            self.broker.churn.connection_closed += 1
        self._leave()

    def _leave(self) -> LongWork | None:
        """Close every session and delete the queues that were this connection's alone; block it no longer, so
        that the answer to a close is read. Return what is unfinished of the deletion.
        """
        self.broker.alarms.forget(self)
        self.outbox.resume()
        self.channels.end()
        return None if self.vhost is None else self.vhost.delete_owned(self)

    # -- the outbox and the clock ----------------------------------------------------------------------------

    def drained(self) -> None:
        """The outbox has room again: go on with what was put off, and the consumers may be given more."""
        self.receive(b"")
        self.channels.wake()

    def recheck(self) -> None:
        """The user's rights have changed: consumers that it may have no longer are cancelled."""
        self.channels.recheck()

    @property
    def channel_count(self) -> int:
        return len(self.channels.open)

    def go_on(self) -> None:
        """A message that was asked for is in memory, or it is this client's turn: go on."""
        self._awaiting = False
        if self.unfinished:
            self.unfinished = False
            self.wire.last_received = self.broker.now  # what it has sent meanwhile was not read
        if not self.broker.alarms.blocks(self):
            self.outbox.resume()
        try:
            self.receive(b"")
        except Exception as error:
            self.crash(error)

    def _wake_in(self, delay: int) -> None:
        """Have ``on_timer`` called in ``delay`` ms, and what was asked for before ignored."""
        self._deadline = self.broker.now + delay
        self.broker.schedule(self._deadline, self)

    def on_timer(self, now: int) -> None:
        """The handshake took too long, a heartbeat is due or missing, or a close was not answered."""
        state, heartbeat = self.wire.state, self.wire.heartbeat
        if self.finished or now < self._deadline:
            return
        if state is State.CLOSING:
            self._log.debug("connection.close was not answered")
            self._finish()
        elif state is State.CLOSED:
            self._log.warning("connection closed", error="the last replies waited too long for the disk")
            self._finish()
        elif state is not State.RUNNING:
            if self._login is not None:
                return  # the broker is late, not the client: see ``_proven_later``
            self._log.warning("connection closed", error=f"no answer in time while waiting for {state.name}")
            self._finish()
        elif heartbeat:
            # Blocked, waiting for the disk or over its high mark it is not read from, and must be silent.
            reading = self.outbox.writable() and not (self._awaiting or self.broker.alarms.blocks(self))
            if reading and self.wire.silent(now):
                self._log.warning("connection closed", error=f"missed heartbeats, timeout {heartbeat} s")
                self._finish()
                return
            if now - self.outbox.last_sent() >= 500 * heartbeat:
                self.outbox.write(HEARTBEAT)
            self._wake_in(500 * heartbeat)

    def _send(self, method: m.Method) -> None:
        self.replies.write(method_frame(0, method))


# Any: each takes the one type of command that it stands beside.
COMMANDS: dict[type, Callable[[AmqpConnection, Any], None]] = {
    m.ConnectionStartOk: AmqpConnection.start_ok,
    m.ConnectionTuneOk: AmqpConnection.tune_ok,
    m.ConnectionOpen: AmqpConnection.open,
    m.ConnectionUpdateSecret: AmqpConnection.update_secret,
}
