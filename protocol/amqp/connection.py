"""The server's end of a connection, sans-IO: protocol header, handshake, limits, and the closing.

Owns which connection-level command may come when, as one table, and what was negotiated. It decides nothing
that needs to know users or virtual hosts: those commands are handed on to the caller, who answers them.

Sources: AMQP 0-9-1 2.2.4 and 4.2.2, RabbitMQ for the limits of tuning and for the reply texts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command, Heartbeat
from leveret.protocol.amqp.constants import FRAME_MIN_SIZE, PROTOCOL_HEADER, PROTOCOL_HEADERS
from leveret.protocol.amqp.reader import Reader, Scope
from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import ChannelError, NotAllowed


class State(Enum):
    """What the server waits for."""

    HEADER = "header"
    START_OK = "starting"
    TUNE_OK = "tuning"
    OPEN = "opening"
    RUNNING = "running"
    CLOSING = "closing"  # the server sent connection.close
    CLOSED = "closed"


# (state, what the client sends) -> state. Sending connection.close leads from anywhere to CLOSING.
TRANSITIONS: dict[tuple[State, type], State] = {
    (State.START_OK, m.ConnectionStartOk): State.TUNE_OK,
    (State.TUNE_OK, m.ConnectionTuneOk): State.OPEN,
    (State.OPEN, m.ConnectionOpen): State.RUNNING,
    (State.RUNNING, m.ConnectionUpdateSecret): State.RUNNING,
    (State.RUNNING, m.ConnectionClose): State.CLOSED,
    (State.CLOSING, m.ConnectionClose): State.CLOSED,
    (State.CLOSING, m.ConnectionCloseOk): State.CLOSED,
}


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """What the server proposes in connection.start and connection.tune, and its limits before the login.

    Sizes in bytes, ``heartbeat`` in seconds. There is one for all clients, or few.
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

    ``channel_max``, ``frame_max`` (bytes) and ``heartbeat`` (seconds) hold what was negotiated.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.state = State.HEADER
        self.channel_max = 0
        self.frame_max = offer.initial_frame_max
        self.heartbeat = 0
        self.reader = Reader(offer.initial_frame_max, offer.body_max, scope=Scope.CONTROL, together=True)
        self._header = b""

    def receive(self, data: bytes) -> Iterable[tuple[int, Command]]:
        """The commands that ``data`` completes, in order.

        Until the connection is open, each has to be handled before the next is asked for.
        What is wrong with the bytes behind them stands in ``reader.error`` once they were all asked for.
        """
        if self.state is State.RUNNING:
            return self.reader.receive(data)
        if self.state is State.HEADER:
            data = self._read_header(data)
            if self.state is State.HEADER:
                return ()
        return self._one_by_one(data)

    def _one_by_one(self, data: bytes) -> Iterator[tuple[int, Command]]:
        """Read a command, let it be handled, and only then the next: it may change how that is read."""
        commands = self.reader.receive(data)
        while commands:
            yield from commands
            commands = self.reader.receive(b"")

    def _read_header(self, data: bytes) -> bytes:
        """Take the protocol header off; a wrong one closes the connection."""
        missing = len(PROTOCOL_HEADER) - len(self._header)
        self._header += data[:missing]
        if not any(header.startswith(self._header) for header in PROTOCOL_HEADERS):
            self.state = State.CLOSED
        elif len(self._header) == len(PROTOCOL_HEADER):
            self.state = State.START_OK
        return data[missing:]

    @property
    def refused_header(self) -> bool:
        """Whether the client spoke another protocol; ``PROTOCOL_HEADER`` is the answer, and no more."""
        return self.state is State.CLOSED and self._header not in PROTOCOL_HEADERS

    def start(self) -> bytes:
        """The frame to send for a right protocol header."""
        return _start_frame(self.offer)

    def accept(self, command: Command) -> None:
        """Go on to the state that a command on channel 0 leads to.

        Raises ChannelError when it may not come now, NotAllowed for a connection.tune-ok beyond the offer.
        """
        if isinstance(command, Heartbeat) or self.state is State.CLOSED:
            return
        after = TRANSITIONS.get((self.state, type(command)))
        if after is None:
            if self.state is State.CLOSING:
                return
            raise ChannelError(f"unexpected method in connection state {self.state.value}")
        if isinstance(command, m.ConnectionTuneOk):
            self._tune(command)
        elif after is State.RUNNING:
            self.reader.scope = Scope.CHANNELS
        self.state = after

    def tune(self) -> m.ConnectionTune:
        """What to send once the client has authenticated itself."""
        return m.ConnectionTune(self.offer.channel_max, self.offer.frame_max, self.offer.heartbeat)

    def _tune(self, tuned: m.ConnectionTuneOk) -> None:
        """Hold the client to what it chose. Raises NotAllowed when that is beyond what was offered."""
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
        """The server has sent connection.close: everything but its answer is ignored from here on."""
        self.state = State.CLOSING
        self.reader.scope = Scope.CLOSES
        self.reader.drop_contents()
        self.reader.error = None


@lru_cache(8)
def _start_frame(offer: Offer) -> bytes:
    """Packed once, not for each of the clients that come and go."""
    return method_frame(
        0,
        m.ConnectionStart(server_properties=offer.server_properties, mechanisms=offer.mechanisms.encode()),
    )
