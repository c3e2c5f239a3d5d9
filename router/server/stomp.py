"""Connection tasks of STOMP clients."""

import trio

from leveret.router.server.client_peer import ClientPeer
from leveret.router.server.client_tasks import serve_client
from leveret.router.server.driver import Driver
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.session.transport import ConnectionLog
from leveret.router.stomp.connection import StompConnection


async def serve_stomp(stream: trio.abc.HalfCloseableStream, peer: ClientPeer, driver: Driver) -> None:
    """Serve one client until either side ends the connection. Its failures never reach other connections."""

    def connect(outbox: BufferedOutbox, log: ConnectionLog) -> StompConnection:
        return StompConnection(
            driver.broker, outbox, log, loopback=peer.loopback, proven_user=peer.user, ends=peer.ends
        )

    await serve_client(stream, peer, driver, connect)
