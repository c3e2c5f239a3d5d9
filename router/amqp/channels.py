"""The channels of one connection: their states, their number, and their outstanding confirms.

Commands on open channels are in ``commands``.

Sources: AMQP 0-9-1 1.5 and 2.2.5; RabbitMQ for the reply texts and for what counts as a channel.
"""

from enum import Enum, auto
from typing import ClassVar

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command
from leveret.protocol.amqp.reader import too_many_channels
from leveret.protocol.errors import ChannelError
from leveret.router.amqp.channel import Channel
from leveret.router.session.reply_gate import Gate


class ChannelState(Enum):
    """The state of a channel number."""

    ABSENT = auto()
    OPEN = auto()
    CLOSING = auto()  # the broker sent channel.close and waits for channel.close-ok


# (state, the client's command) -> state. The broker's own channel.close leads from OPEN to CLOSING. An open
# channel handles all other commands; a closing one ignores them, since the client sent them before it knew.
TRANSITIONS: dict[tuple[ChannelState, type], ChannelState] = {
    (ChannelState.ABSENT, m.ChannelOpen): ChannelState.OPEN,
    (ChannelState.OPEN, m.ChannelClose): ChannelState.ABSENT,
    (ChannelState.CLOSING, m.ChannelClose): ChannelState.CLOSING,
    (ChannelState.CLOSING, m.ChannelCloseOk): ChannelState.ABSENT,
}
LIFE = frozenset((m.ChannelOpen, m.ChannelClose))  # handled here on an open channel too


class NoMethod:
    """The class and method in the refusal of too many channels: none, as in RabbitMQ."""

    CLASS_ID: ClassVar[int] = 0
    METHOD_ID: ClassVar[int] = 0


class Channels:
    """``open`` has the open ones by number; closing ones still count against the negotiated maximum."""

    def __init__(self, replies: Gate) -> None:
        self.open: dict[int, Channel] = {}
        self._closing: set[int] = set()
        self._due: dict[Channel, None] = {}  # channels with publishes that may be confirmed now
        self._waiting: dict[
            int, dict[Channel, None]
        ] = {}  # channels with such by the batch that they wait for
        self._replies = replies

    def state(self, number: int) -> ChannelState:
        if number in self.open:
            return ChannelState.OPEN
        return ChannelState.CLOSING if number in self._closing else ChannelState.ABSENT

    def receive(self, number: int, command: Command, channel_max: int) -> bool:
        """Handle a command in ``LIFE``, or any on a channel that is not open. Return True to open a channel.

        Raises NotAllowed if too many channels are open, ChannelError for a command that the channel's state
        does not allow.
        """
        before = self.state(number)
        if before is ChannelState.ABSENT and len(self.open) + len(self._closing) >= channel_max:
            error = too_many_channels(channel_max)
            error.cause = NoMethod
            raise error
        after = TRANSITIONS.get((before, type(command)))
        if after is None:
            if before is ChannelState.ABSENT:
                raise ChannelError("expected 'channel.open'")
            if isinstance(command, m.ChannelOpen):
                raise ChannelError("second 'channel.open' seen")
            return False
        if before is ChannelState.OPEN:
            self._end(self.open[number])
        elif after is ChannelState.ABSENT:
            self._closing.discard(number)
        if isinstance(command, m.ChannelClose):
            self._replies.write(method_frame(number, m.ChannelCloseOk()))
        return after is ChannelState.OPEN

    def add(self, channel: Channel) -> None:
        """Add an open channel and answer channel.open-ok."""
        self.open[channel.number] = channel
        channel.send(m.ChannelOpenOk())

    def close(self, number: int, close: m.ChannelClose) -> None:
        """Close an open channel on the broker's initiative."""
        self._end(self.open[number])
        self._closing.add(number)
        self._replies.write(method_frame(number, close))

    def end(self) -> None:
        """Close the sessions of all channels without a word to the client."""
        for channel in list(self.open.values()):
            self._remove(channel)

    def owe(self, channel: Channel, batch: int) -> None:
        """Note that publishes on the channel can be confirmed when this batch is on disk, or (0) now."""
        due = self._waiting.setdefault(batch, {}) if batch else self._due
        due[channel] = None

    def tell_verdicts(self, committed: int, *, early: bool = True) -> bool:
        """Send the publisher confirms that are certain with the batches up to ``committed`` on disk.

        True when there are more to come.

        ``early``: messages may have been settled before that, and confirms with them, on any channel.
        """
        due, self._due = self._due, {}
        for batch, channels in list(self._waiting.items()):
            if batch <= committed:
                del self._waiting[batch]
            elif not early:
                break
            due |= channels
        for channel in due:
            channel.tell_verdicts()
        return bool(self._waiting)

    def _end(self, channel: Channel) -> None:
        """Close an open channel after the confirms of its publishes so far."""
        channel.tell_verdicts()
        self._remove(channel)

    def _remove(self, channel: Channel) -> None:
        del self.open[channel.number]
        self._due.pop(channel, None)
        for batch, channels in list(self._waiting.items()):
            channels.pop(channel, None)
            if not channels:
                del self._waiting[batch]
        channel.session.close()
        del channel.session  # breaks a reference cycle: the session knows the channel
