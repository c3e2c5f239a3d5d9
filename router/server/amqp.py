"""Connection tasks of AMQP clients."""

import trio

from leveret.protocol.amqp.connection import Offer
from leveret.router.amqp.connection import AmqpConnection
from leveret.router.server.client_peer import ClientPeer
from leveret.router.server.client_tasks import serve_client
from leveret.router.server.driver import Driver
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.session.transport import ConnectionLog


async def serve_amqp(
    stream: trio.abc.HalfCloseableStream, peer: ClientPeer, driver: Driver, offer: Offer
) -> None:
    """Serve one client until either side ends the connection. Its failures never reach other connections."""

    def connect(outbox: BufferedOutbox, log: ConnectionLog) -> AmqpConnection:
        return AmqpConnection(
            driver.broker, offer, outbox, log, loopback=peer.loopback, proven_user=peer.user, ends=peer.ends
        )

    await serve_client(stream, peer, driver, connect)
