"""Clients that other brokers of the cluster relay to this one, at its listeners for AMQP.

Responsible for recognizing such a connection by its first byte, for the handshake, and for passing the client
on to the endpoint of its protocol, with its own address. Not for the other side (see ``relay``).
"""

import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import trio
from msgspec.structs import replace

from leveret.router.cluster.relay_handshake import (
    HELLO,
    IDENTITY_HEAD,
    MAGIC,
    ListenerName,
    RelayedClient,
    RelayedHandshake,
    RelayError,
)
from leveret.router.server.places import LogRefusal, Occupant, Places
from leveret.router.server.relay import read_exactly
from leveret.router.server.socket_peer import ServeClient, SocketPeer, show
from leveret.router.values.network_errors import explain

FIRST_BYTE_TIMEOUT = 2  # seconds; a relaying broker sends its hello at once
HANDSHAKE_TIMEOUT = 5  # seconds
REFUSED = "relayed connection refused"


class RelayMembership(Protocol):
    """This broker's part in the cluster: the secret, and its role."""

    @property
    def secret(self) -> bytes: ...
    @property
    def is_active(self) -> bool: ...


class RelayedService(NamedTuple):
    """The tasks of a protocol's clients, and the limit on their number."""

    serve: ServeClient
    places: Places


class RelayedClients:
    """Accepts relayed connections. ``services`` are the protocols by the listener at the relaying broker."""

    def __init__(
        self,
        membership: RelayMembership,
        services: Mapping[ListenerName, RelayedService],
        log_refusal: LogRefusal,
    ) -> None:
        self._membership = membership
        self._services = services
        self._log_refusal = log_refusal

    async def is_relayed(self, stream: trio.SocketStream) -> bool:
        """Wait for the first byte of a connection, without reading it; return True if it begins a preface.

        Returns False too if no byte arrives in time, and if the connection is broken.
        """
        with trio.move_on_after(FIRST_BYTE_TIMEOUT):
            try:
                return await stream.socket.recv(1, socket.MSG_PEEK) == MAGIC[:1]
            except OSError:
                return False
        return False

    async def identify(self, stream: trio.SocketStream, peer: SocketPeer) -> RelayedClient | None:
        """Run the handshake with ``peer``, the relaying broker; return its client.

        Returns None, after a log line, if the handshake fails. The caller closes the connection.
        """
        membership = self._membership
        is_active = membership.is_active and membership.secret != b""
        handshake = RelayedHandshake(membership.secret, active=is_active)
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT):
                await stream.send_all(handshake.challenge(await read_exactly(stream, HELLO)))
                if not is_active:
                    return None
                size = handshake.identity_size(await read_exactly(stream, IDENTITY_HEAD))
                return handshake.client(await read_exactly(stream, size))
        except trio.TooSlowError:
            self._log_refusal(REFUSED, "the handshake timed out", peer.name)
        except (RelayError, trio.BrokenResourceError) as error:
            self._log_refusal(REFUSED, explain(error), peer.name)
        return None

    async def serve(
        self, stream: trio.SocketStream, peer: SocketPeer, occupant: Occupant, client: RelayedClient
    ) -> None:
        """Serve a client as its endpoint does. It is never local to this machine, wherever it came from."""
        name, host = show(client.ends.peer), client.ends.peer[0]
        occupant.identify(name, host)
        serve, places = self._services[client.listener]
        with places.take(occupant) as taken:
            if not taken:
                places.refuse(name)
                return
            relayed = replace(peer, name=name, loopback=False, local=client.local, user=client.user)
            await serve(stream, replace(relayed, direct=True, ends=client.ends))


def relayed_clients(
    membership: RelayMembership,
    log_refusal: LogRefusal,
    clients: Places,
    requests: Places,
    *,
    amqp: ServeClient,
    stomp: ServeClient,
    http: ServeClient,
    web_stomp: ServeClient,
) -> RelayedClients:
    """Return the relayed clients of all protocols; ``clients`` limits those of messaging protocols."""
    services: dict[ListenerName, RelayedService] = {
        "amqp": RelayedService(amqp, clients),
        "stomp": RelayedService(stomp, clients),
        "http": RelayedService(http, requests),
        "web_stomp": RelayedService(web_stomp, requests),
    }
    return RelayedClients(membership, services, log_refusal)
