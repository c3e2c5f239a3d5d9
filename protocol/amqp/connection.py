"""The server's side of an AMQP connection, sans-IO: protocol header, handshake, limits, close.

Responsible for the connection-level commands that are legal in each state, as one table, and for the
negotiated values. Not for users or virtual hosts: commands that need them are returned to the caller, which
answers them (see ``router/amqp/connection.py``).

Sources: AMQP 0-9-1 2.2.4 and 4.2.2, RabbitMQ for the limits of tuning and for the reply texts.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache

from msgspec import Struct

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command, Heartbeat
from leveret.protocol.amqp.constants import FRAME_MIN_SIZE, PROTOCOL_HEADER, PROTOCOL_HEADERS
from leveret.protocol.amqp.reader import CommandReader, Scope
from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import ChannelError, NotAllowed

FRAMES = 512  # frames that are parsed in one turn, at most: tiny ones take 2 us each


class ConnectionState(Enum):
    """States of the server's side; each but the last three names the next thing expected of the client."""

    HEADER = "header"
    START_OK = "starting"
    TUNE_OK = "tuning"
    OPEN = "opening"
    RUNNING = "running"
    CLOSING = "closing"  # the server sent connection.close
    CLOSED = "closed"


# (state, command of the client) -> state. Sending connection.close leads from any state to CLOSING.
TRANSITIONS: dict[tuple[ConnectionState, type], ConnectionState] = {
    (ConnectionState.START_OK, m.ConnectionStartOk): ConnectionState.TUNE_OK,
    (ConnectionState.TUNE_OK, m.ConnectionTuneOk): ConnectionState.OPEN,
    (ConnectionState.OPEN, m.ConnectionOpen): ConnectionState.RUNNING,
    (ConnectionState.RUNNING, m.ConnectionUpdateSecret): ConnectionState.RUNNING,
    (ConnectionState.RUNNING, m.ConnectionClose): ConnectionState.CLOSED,
    (ConnectionState.CLOSING, m.ConnectionClose): ConnectionState.CLOSED,
    (ConnectionState.CLOSING, m.ConnectionCloseOk): ConnectionState.CLOSED,
}


class Offer(Struct, frozen=True, eq=False):
    """The server's values in connection.start and connection.tune, and the limits before the login.

    Sizes are in bytes, ``heartbeat`` is in seconds. All clients share one, or a few.
    """

    server_properties: Table
    mechanisms: str
    channel_max: int
    frame_max: int
    heartbeat: int
    initial_frame_max: int
    body_max: int


class ServerConnection:
    """One connection.

    ``channel_max``, ``frame_max`` (bytes) and ``heartbeat`` (seconds) are the negotiated values.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.state = ConnectionState.HEADER
        self.channel_max = 0
        self.frame_max = offer.initial_frame_max
        self.heartbeat = 0
        self.reader = CommandReader(
            offer.initial_frame_max, offer.body_max, scope=Scope.CONTROL, together=True, at_once=FRAMES
        )
        self._header = b""

    def receive(self, data: bytes) -> Iterable[tuple[int, Command]]:
        """Return the commands that ``data`` completes, in order.

        Until the connection is open, each must be handled before the next is taken from the iterator. After
        the last one, ``reader.error`` holds the fault in the bytes that follow, if there is one. If
        ``reader.more`` is True, the caller must call this again, in a later turn.
        """
        if self.state is ConnectionState.RUNNING:
            return self.reader.receive(data)
        if self.state is ConnectionState.HEADER:
            data = self._read_header(data)
            if self.state is ConnectionState.HEADER:
                return ()
        return self._one_by_one(data)

    def _one_by_one(self, data: bytes) -> Iterator[tuple[int, Command]]:
        """Yield one command at a time: handling it may change how the next one is read."""
        commands = self.reader.receive(data)
        while commands:
            yield from commands
            commands = self.reader.receive(b"")

    def _read_header(self, data: bytes) -> bytes:
        """Remove the protocol header from ``data``; a wrong one closes the connection."""
        missing = len(PROTOCOL_HEADER) - len(self._header)
        self._header += data[:missing]
        if not any(header.startswith(self._header) for header in PROTOCOL_HEADERS):
            self.state = ConnectionState.CLOSED
        elif len(self._header) == len(PROTOCOL_HEADER):
            self.state = ConnectionState.START_OK
        return data[missing:]

    @property
    def refused_header(self) -> bool:
        """True if the client spoke another protocol; the only reply is ``PROTOCOL_HEADER``."""
        return self.state is ConnectionState.CLOSED and self._header not in PROTOCOL_HEADERS

    def start(self) -> bytes:
        """Return the frame that answers a correct protocol header."""
        return _start_frame(self.offer)

    def accept(self, command: Command) -> None:
        """Enter the state that a command on channel 0 leads to.

        Raises ChannelError if the command is illegal in this state, NotAllowed for a connection.tune-ok
        beyond the offer.
        """
        if isinstance(command, Heartbeat) or self.state is ConnectionState.CLOSED:
            return
        after = TRANSITIONS.get((self.state, type(command)))
        if after is None:
            if self.state is ConnectionState.CLOSING:
                return
            raise ChannelError(f"unexpected method in connection state {self.state.value}")
        if isinstance(command, m.ConnectionTuneOk):
            self._tune(command)
        elif after is ConnectionState.RUNNING:
            self.reader.scope = Scope.CHANNELS
        self.state = after

    def tune(self) -> m.ConnectionTune:
        """Return the connection.tune to send after the client's login."""
        return m.ConnectionTune(self.offer.channel_max, self.offer.frame_max, self.offer.heartbeat)

    def _tune(self, tuned: m.ConnectionTuneOk) -> None:
        """Apply the values that the client chose. Raises NotAllowed if they exceed the offer."""
        if 0 < tuned.frame_max < FRAME_MIN_SIZE:
            raise NotAllowed(
                f"negotiated frame_max = {tuned.frame_max} is lower than the minimum allowed value "
                f"({FRAME_MIN_SIZE})"
            )
        for name, chosen, offered in (
            ("frame_max", tuned.frame_max, self.offer.frame_max),
            ("channel_max", tuned.channel_max, self.offer.channel_max),
        ):
            if chosen == 0 or chosen > offered:
                shown = f"{chosen}{'' if chosen else ' (no limit)'}"
                raise NotAllowed(
                    f"negotiated {name} = {shown} is higher than the maximum allowed value ({offered})"
                )
        self.frame_max = self.reader.frame_max = tuned.frame_max
        self.channel_max = self.reader.contents_max = tuned.channel_max
        self.heartbeat = tuned.heartbeat

    def closing(self) -> None:
        """Enter CLOSING after the server has sent connection.close: all commands except connection.close-ok
        are ignored from now on.
        """
        self.state = ConnectionState.CLOSING
        self.reader.scope = Scope.CLOSES
        self.reader.drop_contents()
        self.reader.error = None


@lru_cache(8)
def _start_frame(offer: Offer) -> bytes:
    """Pack connection.start once for all clients."""
    return method_frame(
        0,
        m.ConnectionStart(server_properties=offer.server_properties, mechanisms=offer.mechanisms.encode()),
    )
