"""Serving AMQP clients."""

import trio

from protocol.amqp.connection import Offer
from router.amqp.connection import AmqpConnection
from router.server.driver import Driver
from router.server.outbox import Outbox
from router.server.serving import Peer, serve_client
from router.session.transport import ConnectionLog


async def serve_amqp(stream: trio.abc.HalfCloseableStream, peer: Peer, driver: Driver, offer: Offer) -> None:
    """Serve one client until either side is done. Nothing that goes wrong here reaches another connection."""

    def connect(outbox: Outbox, log: ConnectionLog) -> AmqpConnection:
        return AmqpConnection(
            driver.broker, offer, outbox, log, loopback=peer.loopback, proven_user=peer.user, ends=peer.ends
        )

    await serve_client(stream, peer, driver, connect)
