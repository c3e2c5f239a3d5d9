"""One AMQP client's tasks: a reader that feeds the core, a writer that empties the outbox.

The only awaits on a message's way are here, one a batch on either side. The one exception boundary of a connection is here too.
"""

from functools import partial
from typing import Protocol

import structlog
import trio

from protocol.amqp.connection import Offer, State
from protocol.errors import InternalError
from router.amqp.connection import AmqpConnection
from router.server.driver import Driver
from router.server.outbox import Outbox

LINGER = 1  # seconds a client may take to read what a closing connection still has for it
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Peer(Protocol):
    """Who is at the other end."""

    @property
    def name(self) -> str: ...
    @property
    def loopback(self) -> bool: ...


async def serve_amqp(stream: trio.abc.HalfCloseableStream, peer: Peer, driver: Driver, offer: Offer) -> None:
    """Serve one client until either side is done. Nothing that goes wrong here reaches another connection."""
    settings = driver.broker.settings
    log = structlog.get_logger().bind(peer=peer.name)
    outbox = Outbox(settings.server.outbox_high, settings.server.outbox_low, driver.begin())
    connection = AmqpConnection(driver.broker, offer, outbox, log, loopback=peer.loopback)
    driver.end()
    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(partial(_write, stream, outbox, connection, driver))
            try:
                await _read(stream, outbox, connection, driver)
            finally:
                connection.finished = True
                outbox.close()
                # The writer sends what is left, then ends; a client that does not read must not keep it.
                nursery.cancel_scope.deadline = trio.current_time() + LINGER
    except* BROKEN as group:
        log.debug("connection broken", error=str(group.exceptions[0]))
    except* Exception as group:
        log.error("connection failed", exc_info=group)
    finally:
        driver.begin()
        if connection.wire.state is State.RUNNING and connection in driver.broker.clients:
            log.warning("connection lost", user=connection.user.name if connection.user else None)
        connection.finished = True
        connection.end_sessions()
        driver.end()


async def _read(stream: trio.abc.ReceiveStream, outbox: Outbox, connection: AmqpConnection, driver: Driver) -> None:
    """Feed the core until the connection is finished, pausing while the client does not read its answers."""
    size = driver.broker.settings.server.read_size
    while not connection.finished:
        data = await stream.receive_some(size)
        if not data:
            return
        driver.begin()
        try:
            connection.receive(bytes(data))
        except Exception:
            connection.end(InternalError("the broker failed; its log says why"))
            raise
        finally:
            driver.end()
        if not outbox.writable():
            await outbox.room()


async def _write(
    stream: trio.abc.SendStream, outbox: Outbox, connection: AmqpConnection, driver: Driver
) -> None:
    """Send what the core has written, in pieces as large as have gathered."""
    while data := await outbox.take():
        await stream.send_all(data)
        if outbox.sent(len(data), driver.begin()) and not connection.finished:
            connection.drained()
            driver.end()


