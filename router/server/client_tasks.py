"""Tasks of one client's connection: a reader that feeds the core, a writer that empties the outbox.

A message passes only two awaits, both here: one for each read, one for each write. Exceptions of a connection
are caught here too. Not for the protocol of the client (see ``amqp`` and ``stomp``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Protocol

import structlog
import trio

from leveret.router.server.client_peer import ClientPeer
from leveret.router.server.client_reads import ClientReads
from leveret.router.server.driver import Driver
from leveret.router.server.outbox import BufferedOutbox
from leveret.router.session.transport import ConnectionLog
from leveret.router.values.network_errors import explain
from leveret.router.vhost.vhost import VHost

LINGER = 5  # seconds that a client has to read the rest of a finished connection, and to disconnect
DISCONNECT_CHECK = 5  # seconds between two checks if a client that is not read from has disconnected
SMALL = 512  # bytes of a message in a read, with frames; below this a read has many messages
LARGE = 1 << 13  # bytes of a message in a read; from this on a read has few messages
AT_ONCE = 4  # times as many bytes are then read at a time
IGNORED = 1 << 16  # bytes of a read whose content does not matter
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class CoreConnection(Protocol):
    """Core side of a client's connection, of any protocol. The client is not read from while ``unfinished``
    is True: commands that it has sent are still being executed. ``finished`` is True once its session has
    ended.
    """

    unfinished: bool
    finished: bool

    @property
    def vhost(self) -> VHost | None:
        """Return the virtual host that the client has opened."""

    def receive(self, data: bytes) -> int:
        """Handle all commands that these bytes complete; return their number."""

    def body_room(self) -> memoryview | None:
        """Return a buffer to read the next bytes into, without a copy; None if ``receive`` must get them."""

    def body_arrived(self, count: int) -> bytes:
        """Count bytes that were read to ``body_room``; return the bytes to pass to ``receive``. The caller
        must call ``receive`` even with no bytes.
        """

    def drained(self) -> None:
        """Continue after the outbox has room again."""

    def lost(self) -> None:
        """End the session of a client that has disconnected."""

    def crash(self, error: Exception) -> None:
        """End the connection after an exception in the broker."""


Connect = Callable[[BufferedOutbox, ConnectionLog], CoreConnection]


async def serve_client(
    stream: trio.abc.HalfCloseableStream, peer: ClientPeer, driver: Driver, connect: Connect
) -> None:
    """Serve one client until either side ends the connection; ``connect`` makes its core side.

    Its failures never reach other connections.
    """
    settings = driver.broker.settings.server
    log = structlog.get_logger().bind(peer=peer.name)
    now, high, low = driver.begin(), settings.outbox_high, settings.outbox_low
    outbox = BufferedOutbox(high, low, now, send=peer.send, shared=driver.outboxes)
    connection = connect(outbox, log)
    driver.end()
    try:
        # The listener closes a socket at once, where ``async with`` would wait for all other tasks first.
        async with nullcontext() if peer.direct else stream, trio.open_nursery() as nursery:
            outbox.start_writer_with(
                partial(nursery.start_soon, _write, stream, peer, outbox, connection, driver)
            )
            try:
                with outbox.open:
                    await _read(stream, peer, outbox, connection, driver)
            finally:
                if peer.occupant is not None:
                    await peer.occupant.take_turn()
                if not connection.finished:
                    with _batch(driver, connection, f"the end of {peer.name}"):
                        connection.lost()
            nursery.cancel_scope.deadline = trio.current_time() + LINGER
            if not outbox.writer_started:
                await peer.send_eof(stream)
            await _ignore(stream, peer)
    except* trio.TooSlowError:
        log.warning("connection closed", error="the client does not read its data")
    except* BROKEN as group:
        log.debug("connection broken", error=explain(group.exceptions[0]))
    except* Exception as group:
        driver.broker.failed(group)
        log.error("connection failed", exc_info=group)


@contextmanager
def _batch(driver: Driver, connection: CoreConnection, what: str) -> Iterator[None]:
    """Run a batch for a client, whose connection ends if the batch raises an exception."""
    driver.begin(what)
    try:
        yield
    except Exception as error:
        connection.crash(error)
    finally:
        driver.end()


async def _read(
    stream: trio.abc.ReceiveStream,
    peer: ClientPeer,
    outbox: BufferedOutbox,
    connection: CoreConnection,
    driver: Driver,
) -> None:
    """Feed the core until the client ends its side; pause while it does not read replies or may not
    publish.
    """
    size = most = driver.broker.settings.server.read_size
    what = f"commands of {peer.name}"
    occupant = peer.occupant
    reads = ClientReads(stream, peer, outbox, driver)
    while True:
        data: bytes | bytearray = b""
        room = connection.body_room() if peer.direct else None
        if room is None:
            data = await reads.read(size)
            received = len(data)
        else:
            received = await peer.receive_into(room)
        if not received:
            return
        outbox.traffic.read(received)
        count = 0
        driver.begin(what)
        try:  # as ``_batch`` does, without the cost of a context manager for each read
            if room is not None:
                data = connection.body_arrived(received)
            count = connection.receive(bytes(data))
        except Exception as error:
            connection.crash(error)
        finally:
            driver.end()
        if outbox.closed:
            return  # without waiting for the cancellation
        # The duration of a batch depends on messages more than on bytes, and other tasks wait for its end.
        # Large messages are sent as fast as they are read, so larger reads do not accumulate. A read without
        # a whole command may be of a body in tiny frames, each of which takes as long as a small message.
        each = received // count if count else 0
        size = most // 2 if each < SMALL else most
        if each >= LARGE and not driver.outboxes.full:
            size = AT_ONCE * most
        if occupant is not None and connection.vhost is not None:
            occupant.engage()
            occupant = None
        await driver.throttle(received)
        while not outbox.readable():
            with trio.move_on_after(DISCONNECT_CHECK):
                await outbox.wait_readable()
            if outbox.paused and not connection.unfinished and peer.has_disconnected():
                return


async def _write(
    stream: trio.abc.HalfCloseableStream,
    peer: ClientPeer,
    outbox: BufferedOutbox,
    connection: CoreConnection,
    driver: Driver,
) -> None:
    """Send the contents of the outbox, in large pieces; at the end half-close the stream."""

    def sent(size: int) -> None:
        if outbox.sent(size, driver.begin()):
            with _batch(driver, connection, f"room for {peer.name}"):
                connection.drained()

    while parts := await outbox.take():
        await peer.send_all(stream, parts, sent, driver.send_timeouts)
    await peer.send_eof(stream)


async def _ignore(stream: trio.abc.ReceiveStream, peer: ClientPeer) -> None:
    """Discard input until the client disconnects: closing a socket with unread bytes would destroy the bytes
    that were sent last.
    """
    while await peer.receive(stream, IGNORED):
        pass
