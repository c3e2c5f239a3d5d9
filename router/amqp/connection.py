"""An AMQP connection, sans-IO: the loop over commands, refusals, and the close.

Each refused command closes a channel or the connection here. Not for the handshake (see ``handshake``), the
state of channels (``channels``), the commands on an open channel (``commands``), and the parts that
connections of all protocols share (``session.client_connection``).
"""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Acks, Command, Heartbeat, Publishes
from leveret.protocol.amqp.connection import ConnectionState, Offer
from leveret.protocol.amqp.message import ParsedMessage
from leveret.protocol.errors import AmqpError
from leveret.router.amqp.channel import Channel
from leveret.router.amqp.channels import LIFE, Channels
from leveret.router.amqp.closing import close_for
from leveret.router.amqp.commands import handle
from leveret.router.amqp.handshake import ENDING, AmqpHandshake
from leveret.router.auth import LoginPostponed, LoginRefused
from leveret.router.broker.broker import Broker
from leveret.router.broker.incoming import LITTLE
from leveret.router.queue.paging import NextMessagePending
from leveret.router.session.client_connection import FEW
from leveret.router.session.session import Session
from leveret.router.session.transport import UNKNOWN, ConnectionEnds, ConnectionLog, ConnectionOutbox
from leveret.router.turns.backlog import LongWork, Postponed, Slices

PUBLISHED = (ParsedMessage, Publishes)
FLOOD = frozenset((*PUBLISHED, m.BasicAck, Acks))  # need no ``Broker.catch_up_for`` before them
NOT_TUNED = (ConnectionState.HEADER, ConnectionState.START_OK, ConnectionState.TUNE_OK)
OPENING = (*NOT_TUNED, ConnectionState.OPEN)


class AmqpConnection(AmqpHandshake):
    """One client's AMQP connection."""

    def __init__(
        self,
        broker: Broker,
        offer: Offer,
        outbox: ConnectionOutbox,
        log: ConnectionLog,
        *,
        loopback: bool,
        proven_user: str | None = None,
        ends: ConnectionEnds = UNKNOWN,
    ) -> None:
        super().__init__(broker, offer, outbox, log, loopback=loopback, proven_user=proven_user, ends=ends)
        self.channels = Channels(self.replies)
        self._put_off: list[tuple[int, Command]] = []  # commands that were read and must wait
        # A refused command whose channel is closed after the deliveries of the publishes before it.
        self._refused: tuple[int, AmqpError, Command] | None = None
        self._leaving: LongWork | None = None  # to be done before connection.close-ok is sent

    def sessions(self) -> dict[int, Session]:
        """The sessions of the open channels, by number."""
        return self.channels.sessions

    def close_sessions(self) -> Slices:
        return self.channels.end()

    # -- commands --------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> int:
        """Handle all commands that ``data`` completes; return their number, 0 during the handshake."""
        if self.finished:
            return 0
        self.last_received = self.broker.now
        before = self.wire.state
        commands = self.wire.receive(data)
        if self.unfinished:  # the commands of this read wait as well
            self._put_off += commands
            return 0
        if self._put_off:
            waited, self._put_off = self._put_off, []
            opening = self.wire.state in OPENING
            commands = chain(waited, commands) if opening else [*waited, *commands]
        if before is ConnectionState.HEADER and self.wire.state is not before:
            self.answer_header(data)
        self.broker.scheduler.acting.append(self)
        if self._refused is None or self._refuse(commands):
            self._handle(commands)
        if not (self._put_off or self.unfinished):
            self._handle_fault()
            if self.wire.reader.more and not self.finished:
                self.postpone()
        if self.replies.holding:
            self.broker.commit_waiters.add(self)
        if self.broker.alarms.raised:
            self.block_publisher(published=any(type(command) in PUBLISHED for _, command in commands))
        if (held := self.wire.reader.held) > LITTLE or self.incomplete:
            self.count_incomplete(held)
        if not isinstance(commands, list):
            return 0
        return sum(
            [
                len(each.messages) if type(each) is Publishes else len(each.tags) if type(each) is Acks else 1
                for _, each in commands
            ]
        )

    def body_room(self) -> memoryview | None:
        return None if self.finished else self.wire.reader.body_room()

    def body_arrived(self, count: int) -> bytes:
        return self.wire.reader.body_arrived(count)

    def _handle(self, commands: Iterable[tuple[int, Command]]) -> None:  # noqa: PLR0912 - each way to stop
        """Handle commands in their order; a refused one ends its channel, or the connection.

        When the turn's time budget is spent, the rest waits for a later turn.
        """
        channels = self.channels.open
        commands = iter(commands)
        left, budget = FEW, self.broker.budget
        for number, command in commands:
            if type(command) not in FLOOD:
                if not self.broker.catch_up_for(self):
                    self._put_off = [(number, command), *self._rest(commands)]
                    self.postpone(after_deliveries=True)
                    break
                left = 1  # check the budget: a selector or a large table may take long
            channel = channels.get(number)
            session = None if channel is None else channel.session  # a closed channel has none
            answer = None
            try:
                if channel is None or session is None or type(command) in LIFE:
                    self._without_channel(number, command)
                    if self.paused:
                        self._put_off = self._rest(commands)
                        break
                elif type(command) is ParsedMessage:
                    session.publish(command)
                elif type(command) is Publishes:
                    session.publish_all(command.messages, command.size)
                elif type(command) is m.BasicAck:
                    session.ack(command.delivery_tag, multiple=command.multiple)
                elif type(command) is Acks:
                    session.ack_all(command.tags)
                else:
                    answer = handle(channel, command)
                    if type(command) is m.BasicGet and not self.outbox.writable():
                        # A few bytes can request many replies: later commands wait until the client has read
                        # these.
                        self._put_off = self._rest(commands)
                        break
            except AmqpError as error:
                self._refused = number, error, command
                if not self._refuse(commands):
                    break
            except (Postponed, NextMessagePending) as wait:
                self._await(wait, (number, command), *self._rest(commands))
                break
            if session is not None and session.work.unfinished is not None and not self.finished:
                self._put_off = self._rest(commands)
                self.resume_after(session.work.unfinished, self._over(channel, command, answer))
                break
            left = left - 1 or FEW
            if (budget.over or (left == FEW and budget.spent())) and (rest := self._rest(commands)):
                self._put_off = rest
                self.postpone()
                break

    def _rest(self, commands: Iterable[tuple[int, Command]]) -> list[tuple[int, Command]]:
        """Return the commands that are left to be handled later.

        Until the connection is open there are none: later bytes of the client stay in the reader,
        since handling a command may change how the next one is read.
        """
        return [] if self.wire.state in OPENING else list(commands)

    def _refuse(self, later: Iterable[tuple[int, Command]]) -> bool:
        """Close the channel or the connection of the refused command. Return False if the close must wait for
        a later turn; the commands ``later``, which follow it, wait too.
        """
        assert self._refused is not None
        if not self.broker.catch_up_for(self):
            self._put_off = list(later)
            self.postpone(after_deliveries=True)
            return False
        refused, self._refused = self._refused, None
        self.fail(*refused)
        return True

    def _over(
        self, channel: Channel | None, command: Command, answer: Callable[[], None] | None
    ) -> Callable[[Exception | None], None]:
        """Return the function that sends the reply, or closes the channel, when a command's work has
        ended.
        """

        def over(error: Exception | None) -> None:
            is_open = channel is not None and self.channels.open.get(channel.number) is channel
            if isinstance(error, AmqpError) and channel is not None and is_open:
                self.broker.catch_up()
                self.fail(channel.number, error, command)
            elif error is not None:
                self.crash(error)
            elif is_open and answer is not None:
                answer()

        return over

    def _await(self, wait: Postponed | NextMessagePending, *commands: tuple[int, Command]) -> None:
        """Keep these commands until the first of them need not wait any longer."""
        self._put_off = list(commands)
        if isinstance(wait, Postponed):
            self.resume_after(wait.work)
        else:
            self.broker.await_message(self, wait.queue)
            self.pause()

    def has_incomplete_publish(self) -> bool:
        return self.wire.reader.incomplete()

    def notify_blocked(self, reason: str | None) -> None:
        """Notify the client, ahead of replies that wait for the disk: the disk may be the reason of the
        alarm.
        """
        if self.capabilities.blocked_notify:
            method = m.ConnectionUnblocked() if reason is None else m.ConnectionBlocked(reason)
            self.outbox.write(method_frame(0, method))

    def _handle_fault(self) -> None:
        """End the connection if the bytes after the last command are malformed."""
        error = self.wire.reader.error
        if error is not None and not self.finished and self.wire.state not in ENDING:
            self.broker.catch_up()
            self.fail(0, error)

    def _without_channel(self, number: int, command: Command) -> None:
        """Handle a command on channel 0, or one that opens or closes a channel."""
        if self.finished or self.wire.state is ConnectionState.CLOSED:
            return  # sent before the client received connection.close
        if number == 0:
            self._control(command)
        elif self.wire.state is not ConnectionState.CLOSING and self.channels.receive(
            number, command, self.wire.channel_max
        ):
            self._open_channel(number)

    def _control(self, command: Command) -> None:
        """Handle a command on channel 0."""
        self.wire.accept(command)
        if self.wire.state is ConnectionState.CLOSED:
            if isinstance(command, m.ConnectionClose):
                self.log.info("connection closed by client", code=command.reply_code)
                self.channels.send_confirms(self.broker.storage.committed_batch)
                self._leaving = self.leave()
                if self._leaving is None:
                    self._end_close()
                else:  # after close-ok the client may declare the same queues again
                    self._leaving.listeners.append(self._end_close)
                return
            self.finish()
        elif self.wire.state is not ConnectionState.CLOSING and not isinstance(command, Heartbeat):
            COMMANDS[type(command)](self, command)

    def _end_close(self, error: Exception | None = None) -> None:
        """Send close-ok after the exclusive queues of a closing client are deleted; finish when all replies
        are written.
        """
        self._leaving = None
        if error is not None:
            self.crash(error)
        if self.finished:
            return
        self.send(m.ConnectionCloseOk())
        if self.replies.holding:
            self.broker.commit_waiters.add(self)
            self.wake_in(self.broker.settings.server.shutdown_timeout)
        else:
            self.finish()

    def owes_confirms(self, channel: Channel, batch: int) -> None:
        """Schedule confirms for a channel: when this batch is on disk, or (0) at the end of the turn."""
        self.channels.owed.add(channel, batch)
        self.broker.commit_waiters.add(self)

    def send_confirms(self, *, settled_early: bool) -> bool:
        return self.channels.send_confirms(self.broker.storage.committed_batch, settled_early=settled_early)

    def replies_sent(self) -> None:
        if self.wire.state is ConnectionState.CLOSED and self._leaving is None:
            self.finish()

    def login_refused(self, outcome: LoginRefused | LoginPostponed) -> None:
        if self.capabilities.close_notify:
            self._close(outcome)
        else:
            self.finish()

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
        """End a channel, or the connection, for an error that ``command`` caused (None: no command did).

        As in RabbitMQ, a connection ends without connection.close before the tuning is agreed on.
        """
        if error.scope == "channel" and number in self.channels.open:
            self.log.warning("channel closed", channel=number, error=str(error), **error.log_fields)
            self.channels.close(number, close_for(m.ChannelClose, error, command))
            return
        self.log_end("connection closed", error=str(error), **error.log_fields)
        if self.wire.state in NOT_TUNED:
            self.finish()
            return
        self.channels.send_confirms(self.broker.storage.committed_batch)
        self.leave()
        self._close(error, command)

    def refuse(self, error: AmqpError) -> None:
        if not self.finished and self.wire.state not in ENDING:
            self.fail(0, error)

    def _close(self, error: AmqpError, command: Command | None = None) -> None:
        """Send connection.close and wait for connection.close-ok, for the shutdown timeout at most."""
        self.send(close_for(m.ConnectionClose, error, command))
        self.wire.closing()
        self.wake_in(self.broker.settings.server.shutdown_timeout)

    def drop_input(self) -> None:
        self.wire.reader.forget()
        self._put_off.clear()
        self._refused = None

    def drained(self) -> None:
        """Handle the commands that waited for room in the outbox, and wake consumers."""
        self.receive(b"")
        super().drained()

    def timed_out(self) -> None:
        state = self.wire.state
        if state is ConnectionState.CLOSING:
            self.log.debug("connection.close was not answered")
            self.finish()
        elif state is ConnectionState.CLOSED:
            self.close_with_log("the last replies waited too long for the disk")
        else:
            self.close_with_log(f"no answer in time while waiting for {state.name}")


# Any: each method takes the type of command in its key.
COMMANDS: dict[type, Callable[[AmqpConnection, Any], None]] = {
    m.ConnectionStartOk: AmqpConnection.start_ok,
    m.ConnectionTuneOk: AmqpConnection.tune_ok,
    m.ConnectionOpen: AmqpConnection.open,
    m.ConnectionUpdateSecret: AmqpConnection.update_secret,
}
