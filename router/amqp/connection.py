"""An AMQP connection: from bytes that arrived to bytes to be sent, without a socket.

Owns the login, the table of channels and the one place where errors become channel.close and
connection.close. The handshake's order is the protocol's, commands on channels are the channels'.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Protocol

from protocol.amqp import methods as m
from protocol.amqp.codec import method_frame
from protocol.amqp.connection import Offer, ServerConnection, State
from protocol.amqp.constants import PROTOCOL_HEADER
from protocol.amqp.encode import HEARTBEAT
from protocol.amqp.message import Message
from protocol.amqp.reader import Command, Delivery, Heartbeat, Oversized, too_many_channels
from protocol.amqp.sasl import credentials
from protocol.errors import AccessRefused, AmqpError, ChannelError, InternalError, NotAllowed
from router.amqp.channel import Channel, Outbox
from router.amqp.commands import handle
from router.auth import User
from router.broker import Broker
from router.session.gate import Gate
from router.session.session import Session
from router.vhost import VHost

UNLIMITED = 1 << 31
NOT_TUNED = (State.HEADER, State.START_OK, State.TUNE_OK)
REPLY_TEXT_MAX = 255  # bytes


class ConnectionLog(Protocol):
    """Where the connection's story goes."""

    def bind(self, **fields: Any) -> "ConnectionLog":
        """The same log with fields that all later lines have."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...


class ConnectionOutbox(Outbox, Protocol):
    """The same, with what heartbeats and the end of a connection need."""

    def last_sent(self) -> int:
        """When bytes were last sent, in ms."""

    def close(self) -> None:
        """Nothing more will be written or is to be read; once all is sent the socket may be closed."""


class AmqpConnection:
    """One client. ``loopback`` says whether it is on this machine; ``finished`` that it is over."""

    def __init__(
        self, broker: Broker, offer: Offer, outbox: ConnectionOutbox, log: ConnectionLog, *, loopback: bool
    ) -> None:
        self.broker = broker
        self.outbox = outbox
        self.wire = ServerConnection(offer, broker.now)
        self.user: User | None = None
        self.vhost: VHost | None = None
        self.client_properties: dict[str, Any] = {}
        self.channels: dict[int, Channel] = {}
        self.finished = False
        self.frame_max = UNLIMITED
        self.cancel_notify = False
        self._loopback = loopback
        self._log = log
        self._closing_channels: set[int] = set()  # channel.close was sent, its answer is still to come
        self._confirming: dict[Channel, None] = {}
        self._put_off: Iterator[tuple[int, Command]] = iter(())  # commands read and not yet handled
        self.replies = Gate(outbox, broker.keeper)
        self._deadline = 0  # when on_timer has something to do
        broker.clients[self] = None
        self._wake_in(broker.settings.amqp.handshake_timeout)

    # -- in --------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Handle everything that ``data`` completes."""
        before = self.wire.state
        commands = chain(self._put_off, self.wire.receive(data, self.broker.now))
        self._put_off = iter(())
        if before is State.HEADER and self.wire.state is not before:
            self._answer_header()
        channels = self.channels
        number, command = 0, None
        while not self.finished:
            try:
                for number, command in commands:
                    channel = channels.get(number)
                    if channel is None:
                        self._without_channel(number, command)
                    elif type(command) is Message:
                        channel.session.publish(command)
                    elif type(command) is m.ChannelClose:
                        self.close_channel(channel)
                    else:
                        handle(channel, command)
                        if type(command) is m.BasicGet and not self.outbox.writable():
                            # A few bytes can ask for much: the rest waits until the client has read this.
                            self._put_off = commands
                            break
                else:
                    number, command = 0, None
                if (
                    command is None
                    and self.wire.reader.error is not None
                    and self.wire.state is not State.CLOSING
                ):
                    raise self.wire.reader.error
                break
            except AmqpError as error:
                self._fail(number, error, command)
                if command is None:
                    break
        if self._confirming or self.replies.waiting:
            self.broker.owe(self)

    def _answer_header(self) -> None:
        if self.wire.refused_header:
            self._log.warning("connection refused", reason="not an AMQP 0-9-1 protocol header")
            self.outbox.write(PROTOCOL_HEADER)
            self._finish()
        else:
            self._send(self.wire.start())

    def _without_channel(self, number: int, command: Command) -> None:
        """A command of the connection itself, or of a channel that is not open."""
        if self.finished:
            return  # it stood in the same read, behind what ended the connection
        if number == 0:
            self._control(command)
        elif self.wire.state is State.CLOSING:
            return
        elif number in self._closing_channels:
            self._on_closing_channel(number, command)
        elif len(self.channels) + len(self._closing_channels) >= self.wire.channel_max:
            self._close(too_many_channels(self.wire.channel_max))
        elif isinstance(command, m.ChannelOpen):
            self._open_channel(number)
        else:
            raise ChannelError("expected 'channel.open'")

    def _control(self, command: Command) -> None:
        """A command on channel 0."""
        self.wire.accept(command)
        if self.wire.state is State.CLOSED:
            if isinstance(command, m.ConnectionClose):
                self._log.info("connection closed by client", code=command.reply_code)
                self._tell_verdicts()
                self._send(m.ConnectionCloseOk())
            self._finish()
        elif self.wire.state is not State.CLOSING and not isinstance(command, Heartbeat):
            COMMANDS[type(command)](self, command)

    def _on_closing_channel(self, number: int, command: Command) -> None:
        """Until channel.close is answered, all else is ignored: it was sent before the client knew."""
        if isinstance(command, m.ChannelCloseOk):
            self._closing_channels.discard(number)
        elif isinstance(command, m.ChannelClose):
            self._send(m.ChannelCloseOk(), number)
        elif isinstance(command, m.ChannelOpen):
            raise ChannelError("second 'channel.open' seen")

    def confirms(self, channel: Channel) -> None:
        """A channel's publishes are to be confirmed."""
        self._confirming[channel] = None

    def tell(self) -> bool:
        """Send the replies and confirms that need wait no longer. True when others still do."""
        if self.finished:
            return False
        if self.replies.open():
            self.drained()
        waiting = False
        for channel in self._confirming:
            channel.tell_verdicts()
            waiting = waiting or channel.session.waiting()
        return waiting or bool(self.replies.waiting)

    def _tell_verdicts(self) -> None:
        for channel in self._confirming:
            channel.tell_verdicts()

    # -- handshake -------------------------------------------------------------------------------------------

    def start_ok(self, method: m.ConnectionStartOk) -> None:
        """Log the client in, or tell it that it may not."""
        self.client_properties = method.client_properties
        capabilities = method.client_properties.get("capabilities")
        capabilities = capabilities if isinstance(capabilities, dict) else {}
        self.cancel_notify = capabilities.get("consumer_cancel_notify") is True
        name, password = credentials(method.mechanism, method.response)
        try:
            self.user = self.broker.users.login(name, password, self._loopback, method.mechanism)
        except AccessRefused as error:
            self._log.warning("login refused", user=name)
            if capabilities.get("authentication_failure_close") is True:
                self._say_close(error)
            else:
                self._finish()
            return
        self._send(self.wire.tune())

    def tune_ok(self, method: m.ConnectionTuneOk) -> None:
        self.frame_max = self.wire.frame_max

    def open(self, method: m.ConnectionOpen) -> None:
        """Enter the virtual host."""
        assert self.user is not None
        vhost = self.broker.vhost(method.virtual_host)
        if not self.user.may_enter(vhost.name):
            raise NotAllowed(f"access to vhost '{vhost.name}' refused for user '{self.user.name}'")
        self.vhost = vhost
        self._send(m.ConnectionOpenOk())
        if self.wire.heartbeat:
            self._wake_in(500 * self.wire.heartbeat)
        product = self.client_properties.get("product")
        self._log = self._log.bind(user=self.user.name, vhost=vhost.name, client=product)
        self._log.info("connection opened")

    def update_secret(self, method: m.ConnectionUpdateSecret) -> None:
        """Passwords are checked at login only, so there is nothing to renew."""
        self._send(m.ConnectionUpdateSecretOk())

    # -- channels --------------------------------------------------------------------------------------------

    def _open_channel(self, number: int) -> None:
        assert self.user is not None
        assert self.vhost is not None
        vhost, user = self.vhost, self.user
        channel = Channel(number, self, lambda sink: Session(self.broker, vhost, user, self, sink))
        self.channels[number] = channel
        channel.send(m.ChannelOpenOk())

    def _close_channel(self, number: int) -> None:
        channel = self.channels.pop(number)
        self._confirming.pop(channel, None)
        channel.session.close()
        del channel.session  # which knows the channel: not to leave a cycle

    def close_channel(self, channel: Channel) -> None:
        """The client closes a channel: what it published so far is confirmed first."""
        channel.tell_verdicts()
        self._close_channel(channel.number)
        self._send(m.ChannelCloseOk(), channel.number)

    # -- errors and the end ----------------------------------------------------------------------------------

    def fail(self, number: int, error: AmqpError) -> None:
        """End a channel, or the connection, for something that no command of the client's has caused."""
        self._fail(number, error, None)

    def _fail(self, number: int, error: AmqpError, command: Any) -> None:
        """The one place where an error becomes a frame."""
        class_id, method_id = blame(error.cause or command)
        if error.scope == "channel" and number in self.channels:
            self._log.warning("channel closed", channel=number, error=str(error))
            channel = self.channels[number]
            channel.tell_verdicts()
            self._close_channel(number)
            self._closing_channels.add(number)
            self._send(m.ChannelClose(error.code, reply_text(error), class_id, method_id), number)
        else:
            self._close(error, class_id, method_id)

    def end(self, error: AmqpError) -> None:
        """The broker ends the connection."""
        if not self.finished and self.wire.state is not State.CLOSING:
            self._close(error)

    def _close(self, error: AmqpError, class_id: int = 0, method_id: int = 0) -> None:
        """End the connection; as in RabbitMQ, nobody is told why before the tuning is agreed on."""
        self._log.warning("connection closed", error=str(error))
        if self.wire.state in NOT_TUNED:
            self._finish()
            return
        self._tell_verdicts()
        self._end_sessions()
        self._say_close(error, class_id, method_id)

    def _say_close(self, error: AmqpError, class_id: int = 0, method_id: int = 0) -> None:
        """Send connection.close and wait for its answer, but not for long."""
        self._send(m.ConnectionClose(error.code, reply_text(error), class_id, method_id))
        self.wire.closing()
        self._wake_in(self.broker.settings.server.shutdown_timeout)

    def crash(self, error: Exception) -> None:
        """The broker failed while it served this client."""
        self._log.error("connection failed", exc_info=error)
        self.end(InternalError("the broker failed; its log says why"))

    def lost(self) -> None:
        """The client is gone; nothing is said of it if that was to be expected."""
        if self.finished:
            return
        if self.wire.state is State.HEADER:
            self._log.debug("connection lost", state="HEADER")  # somebody looked whether the port is open
        elif self.wire.state is not State.CLOSING:
            self._log.warning("connection lost", state=self.wire.state.name)
        self._finish()

    def _finish(self) -> None:
        """Nothing is to be read or written any more."""
        self.finished = True
        self.outbox.close()
        self.broker.clients.pop(self, None)
        self._end_sessions()

    def _end_sessions(self) -> None:
        """Close every session and delete the queues that were this connection's alone."""
        for number in list(self.channels):
            self._close_channel(number)
        if self.vhost is not None:
            for found in self.vhost.owned_by(self):
                self.vhost.delete_queue(found)

    def drained(self) -> None:
        """The outbox has room again: go on with what was put off, and the consumers may be given more."""
        self.receive(b"")
        for channel in self.channels.values():
            channel.session.wake()

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
        elif state is not State.RUNNING:
            self._log.warning("connection closed", error=f"no answer in time while waiting for {state.name}")
            self._finish()
        elif heartbeat:
            # Over its high mark nothing is read from the client, so its silence says nothing.
            if self.wire.silent(now) and self.outbox.writable():
                self._log.warning("connection closed", error=f"missed heartbeats, timeout {heartbeat} s")
                self._finish()
                return
            if now - self.outbox.last_sent() >= 500 * heartbeat:
                self.outbox.write(HEARTBEAT)
            self._wake_in(500 * heartbeat)

    def _send(self, method: m.Method, number: int = 0) -> None:
        self.replies.write(method_frame(number, method))


COMMANDS: dict[type, Callable[[AmqpConnection, Any], None]] = {
    m.ConnectionStartOk: AmqpConnection.start_ok,
    m.ConnectionTuneOk: AmqpConnection.tune_ok,
    m.ConnectionOpen: AmqpConnection.open,
    m.ConnectionUpdateSecret: AmqpConnection.update_secret,
}


def blame(command: Any) -> tuple[int, int]:
    """Class and method id of what an error is blamed on: a command, or the class of one; 0, 0 for none."""
    if isinstance(command, Message | Oversized):
        command = m.BasicPublish
    elif isinstance(command, Delivery):
        command = command.method
    return getattr(command, "CLASS_ID", 0), getattr(command, "METHOD_ID", 0)


def reply_text(error: AmqpError) -> str:
    """The error's text, cut to what a short string holds."""
    text = str(error).encode("utf-8", "replace")
    if len(text) > REPLY_TEXT_MAX:
        text = text[: REPLY_TEXT_MAX - 3] + b"..."
    return text.decode("utf-8", "ignore")
