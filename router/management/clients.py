"""Interface of the management API to clients' connections of any protocol."""

from collections.abc import Mapping
from typing import Protocol

from leveret.protocol.amqp.table import Table
from leveret.protocol.errors import AmqpError
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.session.session import Session
from leveret.router.session.transport import ConnectionEnds, ConnectionOutbox
from leveret.router.vhost.vhost import VHost


class ListedConnection(Protocol):
    """A connection that has opened a virtual host. ``since`` is in seconds since the epoch."""

    user: User | None
    vhost: VHost | None
    ends: ConnectionEnds
    since: int
    client_properties: Table
    frame_max: int

    @property
    def outbox(self) -> ConnectionOutbox: ...
    @property
    def protocol(self) -> str: ...
    @property
    def mechanism(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def heartbeat(self) -> int: ...
    @property
    def channel_max(self) -> int: ...
    def sessions(self) -> Mapping[int, Session]:
        """Return the sessions of its channels, by number."""

    def end(self, error: AmqpError) -> None: ...


def connections(broker: Broker) -> list[ListedConnection]:
    """Return all connections that have opened a virtual host."""
    return [
        client  # type: ignore[misc]  # every served connection implements the protocol, see test_clients
        for client in broker.clients
        if client.user is not None and client.vhost is not None
    ]


def user_of(connection: ListedConnection) -> str:
    """Return the name of the connection's user."""
    return connection.user.name if connection.user is not None else ""


def vhost_of(connection: ListedConnection) -> str:
    """Return the name of the connection's virtual host."""
    return connection.vhost.name if connection.vhost is not None else ""
