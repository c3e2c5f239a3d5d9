"""A STOMP connection, sans-IO: the loop over frames, login, errors, and the end.

Errors become ERROR frames here only. Not for the frames between login and end (see ``commands``), nor for the
parts that connections of all protocols share (``session.client_connection``).

Sources: STOMP 1.2, "Connecting", "Heart-beating", "ERROR", "DISCONNECT"; RabbitMQ for the texts.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from secrets import token_urlsafe
from typing import TypeAlias

from leveret.protocol.amqp.sasl import EXTERNAL, PLAIN
from leveret.protocol.errors import AmqpError, NotAllowed
from leveret.protocol.recognition import STOMP, FirstBytes, wrong_port
from leveret.protocol.stomp.errors import StompError
from leveret.protocol.stomp.frames import (
    BEFORE_LOGIN,
    HEARTBEAT,
    V1_2,
    VERSIONS,
    Frame,
    FrameLimits,
    FrameReader,
    encode_frame,
)
from leveret.protocol.stomp.negotiation import heartbeat_header, negotiate
from leveret.router.auth import LoginPostponed, LoginRefused, User
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import LITTLE
from leveret.router.session.client_connection import FEW, ClientConnection
from leveret.router.session.connection_hooks import Phase
from leveret.router.session.session import Session
from leveret.router.session.transport import UNKNOWN, ConnectionEnds, ConnectionLog, ConnectionOutbox
from leveret.router.stomp.commands import handle, make_body_buffer
from leveret.router.stomp.conversation import Conversation
from leveret.router.turns.backlog import Slices


class StompState(Enum):
    """State of a connection: the frame or event that the broker waits for."""

    LOGIN = auto()
    PROOF = auto()  # the result of the login
    RUNNING = auto()
    LEAVING = auto()  # receipts that wait for the disk, after a DISCONNECT or ahead of an ERROR frame
    CLOSED = auto()


class StompEvent(Enum):
    """A cause of a transition that is not a client's command."""

    PROVEN = auto()  # the client has logged in and opened its virtual host
    REFUSED = auto()  # an error ends the connection, and replies before the ERROR frame wait for the disk
    OVER = auto()  # all replies are written, or the connection was lost


# (state, command or event) -> state. The commands of ``commands`` are allowed in RUNNING only, and nothing is
# read in PROOF and LEAVING.
TRANSITIONS: dict[tuple[StompState, str | StompEvent], StompState] = {
    (StompState.LOGIN, "CONNECT"): StompState.PROOF,
    (StompState.LOGIN, "STOMP"): StompState.PROOF,
    (StompState.PROOF, StompEvent.PROVEN): StompState.RUNNING,
    (StompState.RUNNING, "DISCONNECT"): StompState.LEAVING,
    (StompState.RUNNING, StompEvent.REFUSED): StompState.LEAVING,
    (StompState.LEAVING, StompEvent.REFUSED): StompState.LEAVING,
    (StompState.LOGIN, StompEvent.OVER): StompState.CLOSED,
    (StompState.PROOF, StompEvent.OVER): StompState.CLOSED,
    (StompState.RUNNING, StompEvent.OVER): StompState.CLOSED,
    (StompState.LEAVING, StompEvent.OVER): StompState.CLOSED,
}
READING = frozenset((StompState.LOGIN, StompState.RUNNING))
PHASES = {
    StompState.LOGIN: Phase.NEW,
    StompState.PROOF: Phase.LOGIN,
    StompState.RUNNING: Phase.OPEN,
    StompState.LEAVING: Phase.CLOSING,
    StompState.CLOSED: Phase.CLOSING,
}
LIFE = frozenset(("CONNECT", "STOMP", "DISCONNECT"))
LONG_HEAD = 2048  # bytes of a frame's head; handling a longer one may take as long as FEW short frames
FLOOD = frozenset(("SEND", "ACK"))  # need no ``Broker.catch_up_for`` before them

Error: TypeAlias = StompError | AmqpError


class StompConnection(ClientConnection):
    """One client's STOMP connection. If CONNECT has no login, the client's certificate, if any, names the
    user.
    """

    channel_max = 1
    frame_max = 0
    heartbeat_bytes = HEARTBEAT

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
        super().__init__(broker, outbox, log, loopback=loopback, proven_user=proven_user, ends=ends)
        self.state = StompState.LOGIN
        self.mechanism = PLAIN
        self.version = V1_2  # for reading CONNECT too: the version with most escapes
        self.protocol = f"STOMP {V1_2}"
        self._reader = FrameReader(BEFORE_LOGIN, make_buffer=make_body_buffer)
        self._put_off: Frame | None = None  # read and not yet handled
        self._conversation: Conversation | None = None
        self._connect: Frame | None = None  # during the login
        self._first_bytes = FirstBytes(STOMP)
        self._receipt: str | None = None  # of DISCONNECT
        self._refused = False  # the ERROR frame that ends the connection is written

    @property
    def phase(self) -> Phase:
        return PHASES[self.state]

    def sessions(self) -> dict[int, Session]:
        """The connection's one session, as number 1."""
        return {} if self._conversation is None else {1: self._conversation.session}

    def close_sessions(self) -> Slices:
        if self._conversation is not None:
            self._conversation.close()
        yield from ()

    # -- frames ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> int:
        """Handle all frames that ``data`` completes; return their number."""
        self.last_received = self.broker.now
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
            if self.state is StompState.LOGIN and (spoken := self._first_bytes.other(data)):
                raise StompError("Wrong protocol", f"{wrong_port(spoken, STOMP)}\n")
            while self.state in READING:
                frame = None  # malformed bytes are no error of the frame before them
                frame, self._put_off = self._put_off or reader.next_frame(), None
                if frame is None:
                    break
                if frame.command not in FLOOD and not self.broker.catch_up_for(self):
                    self._put_off = frame
                    self.postpone(after_deliveries=True)
                    break
                answer = self._handle(frame)
                count += 1
                if self._is_unfinished(frame, count, answer):
                    break
                published = published or frame.command == "SEND"
        except (StompError, AmqpError) as error:
            self.broker.catch_up()
            self._refuse(error, frame)
            return count
        conversation = self._conversation
        if conversation is not None:
            if self.state is StompState.LEAVING or self.replies.holding or conversation.waiting():
                self.broker.commit_waiters.add(self)
            if self.broker.alarms.raised:
                self.block_publisher(published=published)
        if (held := self._held(conversation)) > LITTLE or self.incomplete:
            self.count_incomplete(held)
        return count

    def _handle(self, frame: Frame) -> Callable[[], None] | None:
        """Handle one frame; return a function that sends its receipt if the session has ``unfinished`` work.

        Raises StompError for a frame that the state does not allow.
        """
        conversation = self._conversation
        if conversation is not None and frame.command not in LIFE:
            return handle(conversation, frame)
        after = TRANSITIONS.get((self.state, frame.command))
        if after is None:
            detail = "You are logged in already" if conversation else "You must log in using CONNECT first"
            raise StompError("Illegal command", detail)
        if after is StompState.LEAVING:
            self._receipt = frame.headers.get("receipt")
            self.log.info("connection closed by client")
            if conversation is not None:
                conversation.end_deliveries()
            self.leave()
            self.state = after
        else:
            self.state = after
            self._log_in(frame)
        return None

    def _held(self, conversation: Conversation | None) -> int:
        """Return the bytes of incomplete frames and open transactions."""
        held = self._reader.held
        if conversation is not None and conversation.transactions:
            held += sum(each.size for each in conversation.transactions.values())
        return held

    def has_incomplete_publish(self) -> bool:
        return self._reader.incomplete()

    def _is_unfinished(self, frame: Frame, count: int, answer: Callable[[], None] | None) -> bool:
        """Return True if later frames must wait: for unfinished work of this frame, or for a later turn
        because the time budget is spent. ``count`` is the number of this frame within the read.
        """
        session = None if self._conversation is None else self._conversation.session
        if session is not None and session.work.unfinished is not None:

            def over(error: Exception | None) -> None:
                if isinstance(error, StompError | AmqpError):
                    self.broker.catch_up()
                    self._refuse(error, frame)
                elif error is not None:
                    self.crash(error)
                elif answer is not None and self.state is StompState.RUNNING:
                    answer()

            self.resume_after(session.work.unfinished, over)
            return True
        budget = self.broker.budget
        if budget.over or ((count % FEW == 0 or self._reader.head_size > LONG_HEAD) and budget.spent()):
            self.postpone()
            return True
        return False

    def send_confirms(self, *, settled_early: bool) -> bool:
        return self._conversation is not None and self._conversation.send_receipts()

    def messages_written(self) -> None:
        for session in self.sessions().values():
            self.broker.scheduler.schedule_wake(session.deliveries)

    def replies_sent(self) -> None:
        """Confirm a DISCONNECT, after which no frame may follow."""
        if self._receipt is not None and self._conversation is not None:
            self._conversation.send_receipt(self._receipt)
        self.finish()

    # -- login -----------------------------------------------------------------------------------------------

    def _log_in(self, frame: Frame) -> None:
        """Log in as the user of the frame, of the certificate, or of the settings, in this order.

        Raises StompError for a version that is not supported, and for a login without a user.
        """
        negotiate(frame.headers)
        headers, settings = frame.headers, self.broker.settings.stomp
        self._connect = frame
        if "login" not in headers and self.proven_user:
            self.mechanism = EXTERNAL
            self.log_in(None, "STOMP")
            return
        name = headers.get("login", settings.default_user)
        if not name:
            raise StompError(
                "Bad CONNECT", "Access refused: there is no header 'login', and no default user\n"
            )
        self.log_in((name, headers.get("passcode", settings.default_pass)), "STOMP")

    def login_refused(self, outcome: LoginRefused | LoginPostponed) -> None:
        if isinstance(outcome, LoginPostponed):
            error = StompError("Try again later", f"{outcome.reason}\n")
        else:
            error = StompError("Bad CONNECT", f"Access refused for user '{outcome.user}'\n")
        frame, self._connect = self._connect, None
        self._refuse(error, frame)

    def logged_in(self, user: User) -> None:
        frame, self._connect = self._connect, None
        assert frame is not None
        try:
            self._open(user, frame)
        except StompError as error:
            self._refuse(error, frame)

    def _open(self, user: User, frame: Frame) -> None:
        """Open the virtual host that CONNECT names, and answer CONNECTED. Raises StompError."""
        headers, settings = frame.headers, self.broker.settings
        version, heartbeats = negotiate(frame.headers)
        name = headers.get("host", settings.stomp.default_vhost)
        vhost = self.broker.vhosts.get(name)
        if vhost is None or not user.may_enter(name):
            raise StompError("Bad CONNECT", f"Virtual host '{name}' access denied")
        self.heartbeats = heartbeats
        try:
            self.enter(user, vhost, f"STOMP {version}")
        except NotAllowed as error:
            self.log.warning("login refused", user=user.name, reason=str(error))
            raise StompError("Bad CONNECT", f"Virtual host '{name}' access denied") from None
        session_id = f"session-{token_urlsafe(16)}"
        self.state = TRANSITIONS[self.state, StompEvent.PROVEN]
        self.version = self._reader.version = version
        self.protocol = f"STOMP {version}"
        self._reader.limits = replace(FrameLimits(), body=settings.amqp.max_message_size)
        self._conversation = Conversation(
            self, lambda sink: Session(self.broker, vhost, user, self, sink), version, session_id
        )
        connected = {
            "server": f"{settings.amqp.product}/{settings.amqp.version}",
            "session": session_id,
            "heart-beat": heartbeat_header(heartbeats),
            "version": version,
        }
        self.outbox.write(encode_frame(Frame("CONNECTED", connected), version))

    # -- errors and the end ----------------------------------------------------------------------------------

    def _refuse(self, error: Error, frame: Frame | None = None) -> None:
        """End the connection for an error that ``frame`` caused (None: no frame did).

        Receipts of publishes that are confirmed by now are sent. Other receipts are always sent before the
        ERROR frame, though both may have to wait for the disk.
        """
        conversation = self._conversation
        if conversation is not None:
            conversation.send_receipts()
        if self.finished or self._refused:
            return
        if conversation is not None:
            conversation.end_deliveries()
        if isinstance(error, StompError):
            message, detail = str(error), error.detail
        else:
            message, detail = error.name.lower(), str(error)
        fields = {} if isinstance(error, StompError) else error.log_fields
        self.log_end("connection closed", error=f"{message}: {detail.rstrip()}", **fields)
        headers = {}
        if frame is not None and "receipt" in frame.headers:
            headers["receipt-id"] = frame.headers["receipt"]
        self._write_error(message, detail, headers)
        if conversation is not None and self.replies.holding:
            conversation.forget_receipts()
            self._refused = True
            self._receipt = None
            self.leave()
            self.state = TRANSITIONS[self.state, StompEvent.REFUSED]
            self.broker.commit_waiters.add(self)
            self.wake_in(self.broker.settings.server.shutdown_timeout)
        else:
            self.finish()

    def _write_error(self, message: str, detail: str, headers: dict[str, str]) -> None:
        """Write an ERROR frame."""
        headers = {"message": message, "content-type": "text/plain", "version": ",".join(VERSIONS), **headers}
        body = detail.encode("utf-8", "surrogateescape")
        self.replies.write(encode_frame(Frame("ERROR", headers, body), self.version))

    def tell_error(self, message: str, detail: str, **headers: str) -> None:
        """Send an ERROR frame that does not end the connection."""
        if self.state is StompState.RUNNING:
            self._write_error(message, detail, headers)

    def refuse(self, error: AmqpError) -> None:
        self._refuse(error)

    def end(self, error: AmqpError) -> None:
        """End the connection, with an ERROR frame if the client has logged in."""
        if self._conversation is None:
            self.finish()
        else:
            self._refuse(error)

    def drop_input(self) -> None:
        self.state = TRANSITIONS[self.state, StompEvent.OVER]
        self._reader.forget()
        self._put_off = self._connect = None

    def finish(self) -> None:
        super().finish()
        if self._conversation is not None:
            del self._conversation.session  # breaks a reference cycle: the session knows the conversation
            self._conversation = None

    def timed_out(self) -> None:
        if self._refused:
            self.close_with_log("the ERROR frame waited too long for the disk")
        elif self.state is StompState.LOGIN:
            time = self.broker.settings.amqp.handshake_timeout
            self._refuse(StompError("Login timeout", f"You did not log in within {time} ms\n"))
        else:  # a receipt waits for the disk
            self.check_heartbeats(self.broker.now)
