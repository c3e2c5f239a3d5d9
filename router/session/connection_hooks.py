"""Interface that each protocol implements for its connections.

``client_connection`` has the part that all protocols share.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from leveret.protocol.errors import AmqpError
from leveret.router.auth import LoginPostponed, LoginRefused, User
from leveret.router.broker.broker import Broker
from leveret.router.session.session import Session
from leveret.router.turns.backlog import Slices
from leveret.router.vhost.vhost import VHost


class Phase(Enum):
    """The state of a connection; the values are those that RabbitMQ's management API shows."""

    NEW = "new"  # the client has not finished its first command
    LOGIN = "starting"
    OPEN = "running"  # in a virtual host
    CLOSING = "closing"  # no more commands, but replies or the answer to a close are outstanding


class SessionOwner(ABC):
    """A client of the broker with its sessions: a connection, or one HTTP request.

    ``user`` and ``vhost`` are None until the client has logged in and opened a virtual host.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.user: User | None = None
        self.vhost: VHost | None = None

    @abstractmethod
    def sessions(self) -> Mapping[int, Session]:
        """Return the open sessions by channel number; a protocol without channels has one session, 1."""

    @property
    def channel_count(self) -> int:
        """The number of open channels, for the user's limit."""
        return len(self.sessions())

    def recheck(self) -> Slices:
        """Cancel the consumers that the user's permissions no longer allow, in slices."""
        for session in list(self.sessions().values()):
            yield from session.recheck()
            yield


class ConnectionHooks(ABC):
    """The part of a connection that depends on the protocol. A new protocol implements these and the abstract
    method of ``SessionOwner``, in a subclass of ``ClientConnection``.

    ``frame_max`` is in bytes, 0 for no limit.
    """

    protocol: str
    channel_max: int
    frame_max: int
    heartbeat_bytes: ClassVar[bytes]

    @property
    @abstractmethod
    def phase(self) -> Phase: ...

    @abstractmethod
    def receive(self, data: bytes) -> int:
        """Handle all commands that ``data`` completes, and return their number; ``b""`` continues with
        commands that waited. Sets ``last_received``.
        """

    @abstractmethod
    def logged_in(self, user: User) -> None:
        """Continue the handshake of a client that has logged in as this user."""

    @abstractmethod
    def login_refused(self, outcome: LoginRefused | LoginPostponed) -> None:
        """Close the connection, with an answer if the protocol allows one."""

    @abstractmethod
    def send_confirms(self, *, settled_early: bool) -> bool:
        """Write the publisher confirms of messages that are on disk. Return True if more are outstanding.

        ``settled_early`` means that a batch which is not on disk yet may have confirms as well.
        """

    @abstractmethod
    def replies_sent(self) -> None:
        """Finish a CLOSING connection that has no outstanding reply or confirm, unless other work is left."""

    @abstractmethod
    def has_incomplete_publish(self) -> bool:
        """Return True if a part of a message has arrived."""

    @abstractmethod
    def drop_input(self) -> None:
        """Drop received input that is not handled: timers may keep a finished connection in memory
        for long.
        """

    @abstractmethod
    def close_sessions(self) -> Slices:
        """Close all sessions, in slices. May be called again before the last slice."""

    @abstractmethod
    def refuse(self, error: AmqpError) -> None:
        """End the connection for an error that no command of the client caused; send the error if
        possible.
        """

    @abstractmethod
    def timed_out(self) -> None:
        """Handle a deadline of ``wake_in`` that has passed while the connection was not open."""

    def notify_blocked(self, reason: str | None) -> None:  # noqa: B027 - optional
        """Notify the client that it is blocked, with the reason, or (None) unblocked."""

    def body_room(self) -> memoryview | None:
        """See ``CoreConnection``; only AMQP's large messages are read without a copy."""
        return None

    def body_arrived(self, count: int) -> bytes:
        """See ``CoreConnection``; called if ``body_room`` has returned room."""
        raise NotImplementedError
