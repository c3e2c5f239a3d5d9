"""A STOMP connection, without a socket; long, for login, alarms and end are one state machine.

Owns the login, heart-beats and the end of a connection; every refusal and every failure comes to it, and here
is the one place where errors become frames. What a client does in between is in ``commands``.

Sources: STOMP 1.2, "Connecting", "Heart-beating", "ERROR", "DISCONNECT"; RabbitMQ for the texts.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from secrets import token_urlsafe
from typing import TypeAlias

from leveret.protocol.amqp.sasl import EXTERNAL, PLAIN
from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import AmqpError, InternalError, NotAllowed
from leveret.protocol.recognition import STOMP, FirstBytes, wrong_port
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import (
    BEFORE_LOGIN,
    HEARTBEAT,
    V1_0,
    V1_2,
    VERSIONS,
    Frame,
    Limits,
    Reader,
    encode_frame,
)
from leveret.protocol.stomp.negotiation import Heartbeats, negotiate_heartbeats, negotiate_version
from leveret.router.auth import Login, LoginPostponed, LoginRefused, Outcome, User, WaitingLogin
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import LITTLE, owner_of
from leveret.router.session.reply_gate import Gate
from leveret.router.session.session import Session
from leveret.router.session.transport import UNKNOWN, ConnectionLog, ConnectionOutbox, Ends
from leveret.router.stomp.commands import handle
from leveret.router.stomp.conversation import Conversation
from leveret.router.vhost.vhost import VHost


class State(Enum):
    """What the broker waits for."""

    LOGIN = auto()
    PROOF = auto()  # nothing, until it is known who the client is
    RUNNING = auto()
    LEAVING = auto()  # the client said so, or was refused; replies still wait for the disk
    CLOSED = auto()


class Event(Enum):
    """What else than a client's command leads from one state to another."""

    PROVEN = auto()  # it is known who the client is, and it may enter
    REFUSED = auto()  # an error ends the connection, and replies before the ERROR frame wait for the disk
    OVER = auto()  # all was told to who leaves; or an error, a failure, the client has hung up


# (state, command or event) -> state. All other commands are those of ``commands``, and come while RUNNING;
# in PROOF and LEAVING nothing is read.
TRANSITIONS: dict[tuple[State, str | Event], State] = {
    (State.LOGIN, "CONNECT"): State.PROOF,
    (State.LOGIN, "STOMP"): State.PROOF,
    (State.PROOF, Event.PROVEN): State.RUNNING,
    (State.RUNNING, "DISCONNECT"): State.LEAVING,
    (State.RUNNING, Event.REFUSED): State.LEAVING,
    (State.LEAVING, Event.REFUSED): State.LEAVING,
    (State.LOGIN, Event.OVER): State.CLOSED,
    (State.PROOF, Event.OVER): State.CLOSED,
    (State.RUNNING, Event.OVER): State.CLOSED,
    (State.LEAVING, Event.OVER): State.CLOSED,
}
READING = frozenset((State.LOGIN, State.RUNNING))
FEW = 16  # frames that are handled before the connection looks whether the turn takes too long
LIFE = frozenset(("CONNECT", "STOMP", "DISCONNECT"))
FLOOD = frozenset(("SEND", "ACK"))  # before these nobody need catch up, see ``Broker``

Error: TypeAlias = StompError | AmqpError


class StompConnection:
    """One client. ``loopback`` says whether it is on this machine; ``finished`` that it is over.

    ``proven_user`` is the name that its certificate proves, if any: who it is unless it says who.
    """

    def __init__(
        self,
        broker: Broker,
        outbox: ConnectionOutbox,
        log: ConnectionLog,
        *,
        loopback: bool,
        proven_user: str | None = None,
        ends: Ends = UNKNOWN,
    ) -> None:
        self.broker = broker
        self.outbox = outbox
        self.ends = ends
        self.since = broker.wall
        self.client_properties: Table = {}
        self.user: User | None = None
        self.vhost: VHost | None = None
        self.replies = Gate(outbox, broker.keeper)
        self.state = State.LOGIN
        self.mechanism = PLAIN  # in AMQP's words: a password, unless the certificate is the login
        self.version = V1_2  # to read with; until a version is agreed on, it escapes what the others do
        self.heartbeats = Heartbeats()
        self._reader = Reader(BEFORE_LOGIN)
        self._put_off: Frame | None = None  # read and not yet handled
        self.unfinished = False  # whether what a frame does, or the next one, waits for a later turn
        self._conversation: Conversation | None = None
        self._first_bytes = FirstBytes(STOMP)
        self._loopback = loopback
        self._proven_user = proven_user
        self._log = log
        self._login: WaitingLogin | None = None  # whose password is to be checked
        self._receipt: str | None = None  # of DISCONNECT
        self._refused = False  # the ERROR frame that ends the connection is written
        self._last_received = broker.now
        self._incomplete = 0  # bytes that ``Broker.incoming`` counts for frames and transactions
        self._deadline = 0  # when on_timer has something to do
        broker.clients[self] = None
        self._wake_in(broker.settings.amqp.handshake_timeout)

    @property
    def finished(self) -> bool:
        return self.state is State.CLOSED

    # -- what it tells of itself -----------------------------------------------------------------------------

    frame_max = 0
    channel_max = 1

    @property
    def protocol(self) -> str:
        return f"STOMP {self.version}"

    @property
    def status(self) -> str:
        """What it is doing, in the words of RabbitMQ's management API."""
        if self.state is State.RUNNING:
            return "blocked" if self.broker.alarms.blocks(self) else "running"
        return {
            State.LOGIN: "starting",
            State.PROOF: "starting",
            State.LEAVING: "closing",
            State.CLOSED: "closed",
        }[self.state]

    @property
    def heartbeat(self) -> int:
        """Seconds from one sign of life of the client to the next, at the most; 0: none is expected."""
        return -(-self.heartbeats.expects // 1000)

    def sessions(self) -> dict[int, Session]:
        """Its session, as if it were the first channel."""
        return {} if self._conversation is None else {1: self._conversation.session}

    # -- in --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> int:
        """Handle everything that ``data`` completes; return how many frames that are."""
        self._last_received = self.broker.now
        if self.state not in READING:
            return 0
        count = 0
        frame = None
        reader = self._reader
        reader.feed(data)
        if self.unfinished:
            return 0
        self.broker.scheduler.acting.append(self)
        published = False
        try:
            if self.state is State.LOGIN and (spoken := self._first_bytes.other(data)):
                raise StompError("Wrong protocol", f"{wrong_port(spoken, STOMP)}\n")
            while self.state in READING:
                frame = None  # an error in the bytes behind a frame is not that frame's
                frame, self._put_off = self._put_off or reader.next_frame(), None
                if frame is None:
                    break
                if frame.command not in FLOOD and not self.broker.catch_up_for(self):
                    self._put_off = frame
                    self._pause()
                    self.broker.defer(self, behind_deliveries=True)
                    break
                answer = self._handle(frame)
                count += 1
                if self._is_unfinished(frame, count, answer):
                    self._pause()
                    break
                published = published or frame.command == "SEND"
        except (StompError, AmqpError) as error:
            self.broker.catch_up()
            self._refuse(error, frame)
            return count
        conversation = self._conversation
        if conversation is None:
            self._count_incomplete(None)
            return count
        if self.state is State.LEAVING or self.replies.holding or conversation.waiting():
            self.broker.commit_waiters.add(self)
        if self.broker.alarms.raised:
            self._block_publisher(published)
        self._count_incomplete(conversation)
        return count

    def _handle(self, frame: Frame) -> Callable[[], None] | None:
        """Handle one frame; return what answers it once it is not ``unfinished`` any more. Raises StompError
        for one that may not come now.
        """
        conversation = self._conversation
        if conversation is not None and frame.command not in LIFE:
            return handle(conversation, frame)
        after = TRANSITIONS.get((self.state, frame.command))
        if after is None:
            told = "You are logged in already" if conversation else "You must log in using CONNECT first"
            raise StompError("Illegal command", told)
        if after is State.LEAVING:
            self._receipt = frame.headers.get("receipt")
            self._log.info("connection closed by client")
            self._leave()
            self.state = after
        else:
            self.state = after
            self._log_in(frame)
        return None

    def _count_incomplete(self, conversation: Conversation | None) -> None:
        """Count the memory of what the client has begun to send."""
        held = self._reader.held
        if conversation is not None and conversation.transactions:
            held += sum(each.size for each in conversation.transactions.values())
        if (held > LITTLE or self._incomplete) and not self.finished:
            owner = owner_of(self.user, self.ends.peer[0])
            self.broker.incoming.grow(self, owner, held - self._incomplete)
            self._incomplete = held

    def _block_publisher(self, published: bool) -> None:
        """While an alarm is raised, read nothing more from a client that has published, or begun to."""
        alarms = self.broker.alarms
        if self.state is not State.RUNNING or alarms.blocks(self):
            return
        if published or self._reader.incomplete():
            alarms.block(self)
            self.outbox.pause()
            self._log.debug("publisher blocked", reason=alarms.reason())

    def unblock(self) -> None:
        """No alarm is raised any more: read on, and expect heart-beats from now on."""
        self._last_received = self.broker.now
        if not self.unfinished:
            self.outbox.resume()
        self._log.debug("publisher unblocked")

    def recheck(self) -> None:
        """The user's rights have changed: subscriptions that it may have no longer are cancelled."""
        if self._conversation is not None:
            self._conversation.session.recheck()

    @property
    def channel_count(self) -> int:
        return 0 if self._conversation is None else 1

    def _is_unfinished(self, frame: Frame, count: int, answer: Callable[[], None] | None) -> bool:
        """Return True if frames behind this one have to wait: for what it does, or, if it is one of some, the
        read's ``count`` th, for a later turn.
        """
        session = None if self._conversation is None else self._conversation.session
        if session is not None and session.work.unfinished is not None:

            def over(error: Exception | None) -> None:
                self.broker.over_for(self)
                if isinstance(error, StompError | AmqpError):
                    self.broker.catch_up()
                    self._refuse(error, frame)
                elif error is not None:
                    self.crash(error)
                elif answer is not None and self.state is State.RUNNING:
                    answer()
                self.go_on()

            session.work.unfinished.over = over
            self.broker.go_on_for(self)
            return True
        budget = self.broker.budget
        if budget.over or (count % FEW == 0 and budget.spent()):
            self.broker.defer(self)
            return True
        return False

    def _pause(self) -> None:
        """Handle nothing, and read nothing, until ``go_on``."""
        self.unfinished = True
        self.outbox.pause()

    def go_on(self) -> None:
        """It is this client's turn again."""
        self.unfinished = False
        if not self.broker.alarms.blocks(self):
            self.outbox.resume()
        try:
            self.receive(b"")
        except Exception as error:
            self.crash(error)

    def tell(self, *, early: bool) -> bool:
        """Send the receipts that need wait no longer. True when others still do."""
        conversation = self._conversation
        if conversation is None:
            return False
        if self.replies.open():
            conversation.session.deliveries.wake()
        waiting = conversation.tell_verdicts() or self.replies.holding
        if self.state is State.LEAVING and not waiting:
            if self._receipt is not None:
                conversation.send_receipt(self._receipt)
            self._finish()
        return waiting and not self.finished

    # -- login -----------------------------------------------------------------------------------------------

    def _log_in(self, frame: Frame) -> None:
        """Find out who the client is, and let it in. Raises StompError when it may not enter, or speaks no
        version known here.
        """
        negotiated(frame)
        self.outbox.pause()  # unless it is known at once
        try:
            found = self._authenticate(frame)
        except LoginRefused as error:
            self._let_in(frame, error)
            return
        if isinstance(found, User):
            self._let_in(frame, found)
        elif self.state is State.PROOF:
            self._login = found

    def _authenticate(self, frame: Frame) -> User | WaitingLogin:
        """The user that the frame proves; for one that names none the certificate, or else the settings. A
        login if that will be known later. Raises LoginRefused.
        """
        headers, settings = frame.headers, self.broker.settings.stomp
        proven = None if "login" in headers else self._proven_user
        if proven:
            self.mechanism = EXTERNAL
            return self.broker.logins.proven(proven, loopback=self._loopback, mechanism="STOMP")
        name = headers.get("login", settings.default_user)
        if not name:
            raise StompError(
                "Bad CONNECT", "Access refused: there is no header 'login', and no default user\n"
            )
        password = headers.get("passcode", settings.default_pass)
        login = Login(name, password, self.ends.peer[0], self._loopback, "STOMP")
        return self.broker.log_in(login, lambda outcome: self._proven_later(frame, outcome))

    def _proven_later(self, frame: Frame, outcome: Outcome) -> None:
        """It is known who the client is, if it is anybody: go on with what it has said meanwhile."""
        self._login = None
        if self.finished:
            return
        try:
            self._let_in(frame, outcome)
            self.receive(b"")
        except (StompError, AmqpError) as error:
            self._refuse(error, frame)
        except Exception as error:
            self.crash(error)

    def _let_in(self, frame: Frame, outcome: Outcome) -> None:
        """Let the client in. Raises StompError when it may not enter."""
        self.outbox.resume()
        if isinstance(outcome, LoginPostponed):
            self._log.warning("login postponed", user=outcome.user, reason=outcome.reason)
            raise StompError("Try again later", f"{outcome.reason}\n")
        if isinstance(outcome, LoginRefused):
            self._log.warning("login refused", user=outcome.user, reason=outcome.reason)
            raise StompError("Bad CONNECT", f"Access refused for user '{outcome.user}'\n") from None
        user, headers, settings = outcome, frame.headers, self.broker.settings
        version, heartbeats = negotiated(frame)
        name = headers.get("host", settings.stomp.default_vhost)
        vhost = self.broker.vhosts.get(name)
        if vhost is None or not user.may_enter(name):
            raise StompError("Bad CONNECT", f"Virtual host '{name}' access denied")
        try:
            self.broker.enter(self, user, vhost)
        except NotAllowed as error:
            self._log.warning("login refused", user=user.name, reason=str(error))
            raise StompError("Bad CONNECT", f"Virtual host '{name}' access denied") from None
        self.broker.churn.connection_created += 1
        session_id = f"session-{token_urlsafe(16)}"
        self.state = TRANSITIONS[self.state, Event.PROVEN]
        self.user, self.vhost = user, vhost
        self.version = self._reader.version = version
        self.heartbeats = heartbeats
        self._reader.limits = replace(Limits(), body=settings.amqp.max_message_size)
        self._conversation = Conversation(
            self, lambda sink: Session(self.broker, vhost, user, self, sink), version, session_id
        )
        connected = {
            "server": f"{settings.amqp.product}/{settings.amqp.version}",
            "session": session_id,
            "heart-beat": heartbeats.header(),
            "version": version,
        }
        self.outbox.write(encode_frame(Frame("CONNECTED", connected), version))
        self._deadline = 0
        if interval := heartbeats.interval():
            self._wake_in(interval)
        self._log = self._log.bind(user=user.name, vhost=vhost.name, client=f"STOMP {version}")
        self._log.info("connection opened")

    # -- errors and the end ----------------------------------------------------------------------------------

    def _refuse(self, error: Error, frame: Frame | None = None) -> None:
        """End the connection for an error met in ``frame`` (None: in none of the client's).

        Receipts of publishes are sent if these are confirmed by now. Other receipts are sent before the ERROR
        frame in any case, though both may have to wait for the disk.
        """
        conversation = self._conversation
        if conversation is not None:
            conversation.tell_verdicts()
        if self.finished or self._refused:
            return
        if isinstance(error, StompError):
            message, detail = str(error), error.detail
        else:
            message, detail = error.name.lower(), str(error)
        fields = {} if isinstance(error, StompError) else error.log_fields
        self._log.warning("connection closed", error=f"{message}: {detail.rstrip()}", **fields)
        headers = {}
        if frame is not None and "receipt" in frame.headers:
            headers["receipt-id"] = frame.headers["receipt"]
        self._write_error(message, detail, headers)
        if conversation is not None and self.replies.holding:
            conversation.forget_receipts()
            self._refused = True
            self._receipt = None
            self._leave()
            self.state = TRANSITIONS[self.state, Event.REFUSED]
            self.broker.commit_waiters.add(self)
            self._wake_in(self.broker.settings.server.shutdown_timeout)
        else:
            self._finish()

    def _write_error(self, message: str, detail: str, headers: dict[str, str]) -> None:
        """Write an ERROR frame."""
        told = {"message": message, "content-type": "text/plain", "version": ",".join(VERSIONS), **headers}
        body = detail.encode("utf-8", "surrogateescape")
        self.replies.write(encode_frame(Frame("ERROR", told, body), self.version))

    def tell_error(self, message: str, detail: str, **headers: str) -> None:
        """Tell the client of something that does not end the connection."""
        if self.state is State.RUNNING:
            self._write_error(message, detail, headers)

    def fail(self, error: AmqpError) -> None:
        """Tell the client of an error that was met outside of any of its frames, and end."""
        self._refuse(error)

    def end(self, error: AmqpError) -> None:
        """The broker ends the connection; who did not log in yet is not told why."""
        if self._conversation is None:
            self._finish()
        else:
            self._refuse(error)

    def crash(self, error: Exception) -> None:
        """The broker failed while it served this client."""
        self.broker.failed(error)
        self._log.error("connection failed", exc_info=error)
        self._refuse(InternalError("the broker failed; its log says why"))

    def lost(self) -> None:
        """The client is gone; nothing is said of it if that was to be expected."""
        if self.state is State.LOGIN:
            self._log.debug("connection lost", state="LOGIN")  # somebody looked whether the port is open
        elif self.state is State.RUNNING:
            self._log.warning("connection lost", state="RUNNING")
        self._finish()

    def _finish(self) -> None:
        """Nothing is to be read or written any more."""
        if self.finished:
            return
        self.state = TRANSITIONS[self.state, Event.OVER]
        self._reader.forget()  # whoever still knows this connection, as a timer may, keeps no bodies
        if self._login is not None:
            self._login.cancel()
            self._login = None
        self.outbox.close()
        self.broker.forget(self)
        if self.vhost is not None:
            self.broker.churn.connection_closed += 1
        self._leave()
        if self._conversation is not None:
            del self._conversation.session  # which knows the conversation: not to leave a cycle
            self._conversation = None

    def _leave(self) -> None:
        """Close the session and delete the queues that were this connection's alone; block it no longer."""
        self.broker.alarms.forget(self)
        self.outbox.resume()
        if self._conversation is not None:
            self._conversation.close()
        if self.vhost is not None:
            self.vhost.delete_owned(self)

    # -- the outbox and the clock ----------------------------------------------------------------------------

    def drained(self) -> None:
        """The outbox has room again: subscriptions may be given more."""
        if self._conversation is not None:
            self._conversation.session.deliveries.wake()

    def _wake_in(self, delay: int) -> None:
        """Have ``on_timer`` called in ``delay`` ms, and what was asked for before ignored."""
        self._deadline = self.broker.now + delay
        self.broker.schedule(self._deadline, self)

    def on_timer(self, now: int) -> None:
        """The login took too long, or a heart-beat is due or missing."""
        if self.finished or not self._deadline or now < self._deadline:
            return
        if self._refused:
            self._log.warning("connection closed", error="the ERROR frame waited too long for the disk")
            self._finish()
            return
        if self._login is not None:
            return  # the broker is late, not the client
        if self.state is State.LOGIN:
            time = self.broker.settings.amqp.handshake_timeout
            self._refuse(StompError("Login timeout", f"You did not log in within {time} ms\n"))
            return
        # Blocked, over its high mark or behind with its frames it is not read from; who leaves has no more to
        # say.
        blocked = self.unfinished or self.broker.alarms.blocks(self)
        listening = self.outbox.writable() and not blocked
        if listening and self.state is State.RUNNING and self.heartbeats.missed(self._last_received, now):
            self._log.warning(
                "connection closed", error=f"missed heart-beats, one every {self.heartbeats.expects} ms"
            )
            self._finish()
            return
        if self.heartbeats.due(self.outbox.last_sent(), now):
            self.outbox.write(HEARTBEAT)
        self._wake_in(self.heartbeats.interval())


def negotiated(frame: Frame) -> tuple[str, Heartbeats]:
    """The version and heart-beats that a CONNECT leads to. Raises StompError."""
    version = negotiate_version(frame.headers.get("accept-version"))
    if version == V1_0:
        return version, Heartbeats()
    return version, negotiate_heartbeats(frame.headers.get("heart-beat"))
