"""The channels of one connection: their states and their number.

Commands on open channels are in ``commands``, owed publisher confirms in ``session/confirms``.

Sources: AMQP 0-9-1 1.5 and 2.2.5; RabbitMQ for the reply texts and for what counts as a channel.
"""

from enum import Enum, auto
from itertools import islice
from typing import ClassVar

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command
from leveret.protocol.amqp.reader import too_many_channels
from leveret.protocol.errors import ChannelError
from leveret.router.amqp.channel import Channel
from leveret.router.session.confirms import OwedConfirms
from leveret.router.session.reply_gate import Gate
from leveret.router.session.session import Session
from leveret.router.turns.backlog import Slices

ENDED = 32  # channels that end at a time


class ChannelState(Enum):
    """The state of a channel number."""

    ABSENT = auto()
    OPEN = auto()
    CLOSING = auto()  # the broker sent channel.close and waits for channel.close-ok


# (state, the client's command) -> state. The broker's own channel.close leads from OPEN to CLOSING. An open
# channel handles all other commands. A closing channel ignores them: the client sent them before it received
# channel.close.
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
    """The channels of one connection. ``open`` has the open ones by number.

    Closing channels still count against the negotiated maximum. ``owed`` has the channels with publishes that
    are not confirmed yet.
    """

    def __init__(self, replies: Gate) -> None:
        self.open: dict[int, Channel] = {}
        self.sessions: dict[int, Session] = {}  # of the open channels
        self._closing: set[int] = set()
        self.owed: OwedConfirms[Channel] = OwedConfirms()
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
        self.sessions[channel.number] = channel.session
        channel.send(m.ChannelOpenOk())

    def close(self, number: int, close: m.ChannelClose) -> None:
        """Close an open channel on the broker's initiative."""
        self._end(self.open[number])
        self._closing.add(number)
        self._replies.write(method_frame(number, close))

    def end(self) -> Slices:
        """Close the sessions of all channels, in slices; nothing is delivered to them any more."""
        self._replies.refuse_deliveries()
        while self.open:
            for channel in list(islice(self.open.values(), ENDED)):
                self._remove(channel)
            if self.open:
                yield

    def send_confirms(self, committed: int, *, settled_early: bool = True) -> bool:
        """Send the confirms that ``owed.take_due`` allows; return True if more are owed."""
        for channel in self.owed.take_due(committed, settled_early=settled_early):
            channel.send_confirms()
        return bool(self.owed)

    def _end(self, channel: Channel) -> None:
        """Close an open channel after the confirms of its publishes so far."""
        channel.send_confirms()
        self._remove(channel)

    def _remove(self, channel: Channel) -> None:
        del self.open[channel.number], self.sessions[channel.number]
        self.owed.forget(channel)
        channel.session.close()
        del channel.session  # breaks a reference cycle: the session knows the channel
