"""One client's tasks: a reader that feeds the core, a writer that empties the outbox.

The only awaits on a message's way are here, one a batch on either side. The one exception boundary of a
connection is here too. What the client speaks is the connection's business, see ``amqp`` and ``stomp``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
import trio

from leveret.router.server.driver import Driver
from leveret.router.server.outbox import Outbox, Part
from leveret.router.server.places import Guest
from leveret.router.server.send_timeouts import SendTimeouts
from leveret.router.session.transport import ConnectionLog, Ends
from leveret.router.values.network_errors import explain
from leveret.router.vhost.vhost import VHost

LINGER = 5  # seconds a client may take to read what a finished connection still has for it, and to hang up
GLANCE = 5  # seconds until it is seen that a client hung up which is not read from
SMALL = 512  # bytes a message in a read, frames and all, below which it brings many messages
LARGE = 1 << 13  # and from which it brings few,
AT_ONCE = 4  # so that many times as many bytes are read at a time
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Peer(Protocol):
    """Who is at the other end."""

    @property
    def name(self) -> str: ...
    @property
    def loopback(self) -> bool: ...
    @property
    def ends(self) -> Ends: ...
    @property
    def guest(self) -> Guest | None:
        """Its connection, as the holder of places."""

    @property
    def user(self) -> str | None:
        """Whom its certificate proves it to be."""

    async def receive(self, stream: trio.abc.ReceiveStream, size: int) -> bytes | bytearray:
        """Up to ``size`` bytes from its stream, none at the end of that."""

    def send(self, parts: list[Part]) -> int:
        """Have it sent what can be sent at once; return how many bytes that are."""

    async def send_all(
        self,
        stream: trio.abc.SendStream,
        parts: list[Part],
        sent: Callable[[int], None],
        timeouts: SendTimeouts,
    ) -> None:
        """Send these through its stream, and tell ``sent`` of the bytes as they go. TooSlowError for a client
        that takes nothing for too long.
        """

    def hung_up(self) -> bool:
        """Whether it has ended its side, whatever of that was read."""


class Connection(Protocol):
    """The core's end of one client's connection, whatever that speaks. ``unfinished``: it is not read from
    before more of what it has sent is done.
    """

    unfinished: bool

    @property
    def vhost(self) -> VHost | None:
        """The virtual host that the client has entered."""

    def receive(self, data: bytes) -> int:
        """Handle everything that these bytes complete; return how many commands that are."""

    def drained(self) -> None:
        """The outbox has room again."""

    def lost(self) -> None:
        """The client is gone."""

    def crash(self, error: Exception) -> None:
        """The broker failed while it served this client."""


Connect = Callable[[Outbox, ConnectionLog], Connection]


async def serve_client(
    stream: trio.abc.HalfCloseableStream, peer: Peer, driver: Driver, connect: Connect
) -> None:
    """Serve one client until either side is done; ``connect`` makes its connection to the core.

    Nothing that goes wrong here reaches another connection.
    """
    settings = driver.broker.settings.server
    log = structlog.get_logger().bind(peer=peer.name)
    now, high, low = driver.begin(), settings.outbox_high, settings.outbox_low
    outbox = Outbox(high, low, now, send=peer.send, shared=driver.outboxes)
    connection = connect(outbox, log)
    driver.end()
    try:
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(_write, stream, peer, outbox, connection, driver)
            try:
                with outbox.open:
                    await _read(stream, peer, outbox, connection, driver)
            finally:
                with _batch(driver, connection, f"the end of {peer.name}"):
                    connection.lost()
            nursery.cancel_scope.deadline = trio.current_time() + LINGER
            await _ignore(stream)
    except* trio.TooSlowError:
        log.warning("connection closed", error="the client reads nothing of what is sent to it")
    except* BROKEN as group:
        log.debug("connection broken", error=explain(group.exceptions[0]))
    except* Exception as group:
        driver.broker.failed(group)
        log.error("connection failed", exc_info=group)


@contextmanager
def _batch(driver: Driver, connection: Connection, what: str) -> Iterator[None]:
    """Have the core do something for a client, which has to go if that fails."""
    driver.begin(what)
    try:
        yield
    except Exception as error:
        connection.crash(error)
    finally:
        driver.end()


async def _read(
    stream: trio.abc.ReceiveStream,
    peer: Peer,
    outbox: Outbox,
    connection: Connection,
    driver: Driver,
) -> None:
    """Feed the core until the client has no more to say, pausing while it does not read its answers or may
    not publish.
    """
    size = most = driver.broker.settings.server.read_size
    what = f"commands of {peer.name}"
    guest = peer.guest
    while data := await peer.receive(stream, size):
        outbox.traffic.read(len(data))
        count = 0
        driver.begin(what)
        try:  # as ``_batch`` does, without the price of a context manager for each read
            count = connection.receive(bytes(data))
        except Exception as error:
            connection.crash(error)
        finally:
            driver.end()
        # A batch takes its time by messages more than by bytes, and others wait for its end. Of large ones
        # more is read while they go out as they come in: else they would only gather here.
        each = len(data) // (count or 1)
        size = most // 2 if each < SMALL else most
        if each >= LARGE and not driver.outboxes.full:
            size = AT_ONCE * most
        if guest is not None and connection.vhost is not None:
            guest.engage()
            guest = None
        await driver.take(len(data))
        while not outbox.readable():
            with trio.move_on_after(GLANCE):
                await outbox.wait_readable()
            if outbox.paused and not connection.unfinished and peer.hung_up():
                return


async def _write(
    stream: trio.abc.HalfCloseableStream,
    peer: Peer,
    outbox: Outbox,
    connection: Connection,
    driver: Driver,
) -> None:
    """Send what the core has written, as much as has gathered; then say that nothing follows."""

    def sent(size: int) -> None:
        if outbox.sent(size, driver.begin()):
            with _batch(driver, connection, f"room for {peer.name}"):
                connection.drained()

    while parts := await outbox.take():
        await peer.send_all(stream, parts, sent, driver.send_timeouts)
    await stream.send_eof()


async def _ignore(stream: trio.abc.ReceiveStream) -> None:
    """Read on until the client hangs up: closing a socket with unread bytes destroys what was sent last."""
    while await stream.receive_some():
        pass
