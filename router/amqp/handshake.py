"""The beginning of an AMQP connection: protocol header, login, tuning, and the choice of a virtual host.

``ServerConnection`` decides which commands are allowed in each state, and which values a client may choose.

Sources: AMQP 0-9-1 1.4.2 and 2.2.4; RabbitMQ for the capabilities and the reply texts.
"""

from typing import NamedTuple

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.connection import ConnectionState, Offer, ServerConnection
from leveret.protocol.amqp.constants import PROTOCOL_HEADER
from leveret.protocol.amqp.encode import HEARTBEAT
from leveret.protocol.amqp.sasl import EXTERNAL, credentials
from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import NotAllowed
from leveret.protocol.heartbeats import Heartbeats
from leveret.protocol.recognition import AMQP, recognize, wrong_port
from leveret.router.amqp.offer import current_offer
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.session.client_connection import ClientConnection
from leveret.router.session.connection_hooks import Phase
from leveret.router.session.transport import UNKNOWN, ConnectionEnds, ConnectionLog, ConnectionOutbox

HANDSHAKE = (ConnectionState.START_OK, ConnectionState.TUNE_OK, ConnectionState.OPEN)
ENDING = (ConnectionState.CLOSING, ConnectionState.CLOSED)
PHASES = {
    ConnectionState.HEADER: Phase.NEW,
    **dict.fromkeys(HANDSHAKE, Phase.LOGIN),
    ConnectionState.RUNNING: Phase.OPEN,
    **dict.fromkeys(ENDING, Phase.CLOSING),
}


class Capabilities(NamedTuple):
    """The notifications that a client accepts: basic.cancel, connection.blocked, and a connection.close that
    refuses its login.
    """

    cancel_notify: bool = False
    blocked_notify: bool = False
    close_notify: bool = False

    @staticmethod
    def of(client_properties: Table) -> "Capabilities":
        stated = client_properties.get("capabilities")
        table: Table = stated if isinstance(stated, dict) else {}
        names = ("consumer_cancel_notify", "connection.blocked", "authentication_failure_close")
        return Capabilities(*(table.get(name) is True for name in names))


class AmqpHandshake(ClientConnection):
    """The handshake of an ``AmqpConnection``. ``frame_max`` (bytes) limits the frames sent to the client."""

    protocol = "AMQP 0-9-1"
    heartbeat_bytes = HEARTBEAT

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
        super().__init__(broker, outbox, log, loopback=loopback, proven_user=proven_user, ends=ends)
        self.wire = ServerConnection(
            current_offer(offer, broker.cluster_name, external=proven_user is not None)
        )
        self.frame_max = self.wire.frame_max
        self.channel_max = 0
        self.capabilities = Capabilities()

    @property
    def phase(self) -> Phase:
        return PHASES[self.wire.state]

    def send(self, method: m.Method) -> None:
        """Send a method on channel 0."""
        self.replies.write(method_frame(0, method))

    def answer_header(self, data: bytes) -> None:
        """Start the handshake, or refuse a client that did not begin with the protocol header."""
        if self.wire.refused_header:
            reason = wrong_port(recognize(data), AMQP)
            self.log_end("connection refused", reason=reason)
            self.outbox.write(PROTOCOL_HEADER)
            self.finish()
        else:
            self.replies.write(self.wire.start())

    def start_ok(self, method: m.ConnectionStartOk) -> None:
        """Log the client in. Raises AmqpError for an unknown mechanism or a malformed response."""
        self.client_properties = method.client_properties
        self.capabilities = Capabilities.of(method.client_properties)
        self.mechanism = method.mechanism
        if method.mechanism == EXTERNAL and self.proven_user is not None:
            self.log_in(None, EXTERNAL)
        else:
            self.log_in(credentials(method.mechanism, method.response), method.mechanism)

    def logged_in(self, user: User) -> None:
        self.user = user
        self.send(self.wire.tune())

    def tune_ok(self, method: m.ConnectionTuneOk) -> None:
        """Apply the negotiated limits; ``ServerConnection.accept`` has refused any that are too high."""
        self.frame_max, self.channel_max = self.wire.frame_max, self.wire.channel_max
        self.heartbeats = Heartbeats(1000 * self.wire.heartbeat, 1000 * self.wire.heartbeat)

    def open(self, method: m.ConnectionOpen) -> None:
        """Open the virtual host. Raises NotAllowed if it is missing, closed to this user, or full."""
        assert self.user is not None
        vhost = self.broker.vhost(method.virtual_host)
        if not self.user.may_enter(vhost.name):
            raise NotAllowed(f"access to vhost '{vhost.name}' refused for user '{self.user.name}'")
        self.enter(self.user, vhost, self.client_properties.get("product"))
        self.send(m.ConnectionOpenOk())

    def update_secret(self, method: m.ConnectionUpdateSecret) -> None:
        """Accept the new secret without a check: passwords are checked at login only."""
        self.send(m.ConnectionUpdateSecretOk())
