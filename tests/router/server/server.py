"""A broker in the test's own Trio loop, for clients on memory streams or sockets."""

import math
from collections.abc import Callable

import trio
import trio.testing
from msgspec import Struct
from msgspec.structs import replace

from leveret.router.amqp.offer import make_offer
from leveret.router.broker.broker import Broker
from leveret.router.server.amqp import serve_amqp
from leveret.router.server.broker_lifecycle import populate
from leveret.router.server.driver import Driver
from leveret.router.server.places import Occupant
from leveret.router.session.transport import UNKNOWN, ConnectionEnds
from leveret.router.settings import Auth, Settings
from tests.router.server.client import Client


class Peer(Struct, frozen=True):
    name: str = "test:1"
    loopback: bool = True
    local: bool = True
    user: str | None = None
    direct: bool = False
    ends: ConnectionEnds = UNKNOWN
    occupant: Occupant | None = None
    watched: bool = False

    def receive_now(self, size) -> bytes:
        return b""

    async def receive_into(self, room) -> int:
        raise AssertionError("it is not direct")

    def send(self, parts) -> int:
        return 0

    async def send_all(self, stream, parts, sent, timeouts) -> None:
        data = b"".join(parts)
        with trio.fail_after(math.inf if self.watched else timeouts.seconds):
            await stream.send_all(data)
        sent(len(data))

    async def receive(self, stream, size: int):
        return await stream.receive_some(size)

    async def send_eof(self, stream) -> None:
        await stream.send_eof()

    def has_disconnected(self) -> bool:
        return False


class Server:
    """``serving`` counts the connections that are served."""

    def __init__(self, settings: Settings, nursery: trio.Nursery) -> None:
        self.broker = Broker(replace(settings, auth=Auth(password_hash="sha256")))  # to be quick
        populate(self.broker)
        self.driver = Driver(self.broker, send_timeout=settings.server.send_timeout / 1000)
        self.offer = make_offer(settings, "0")
        self.serving = 0
        self._left = trio.Event()
        self._nursery = nursery
        nursery.start_soon(self.driver.run_timers)
        nursery.start_soon(self.driver.run_left_over_work)
        nursery.start_soon(self.driver.send_timeouts.watch)

    def serve(self, stream: trio.abc.HalfCloseableStream) -> trio.Event:
        """Serve a stream; the event says that this is over."""
        over = trio.Event()

        async def run() -> None:
            await self._serve(stream)
            over.set()

        self._nursery.start_soon(run)
        return over

    async def _serve(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.serving += 1
        await serve_amqp(stream, Peer(), self.driver, self.offer)
        self.serving -= 1
        self._left.set()

    async def serves_only(self, count: int) -> None:
        """Wait until no more connections than that are left."""
        while self.serving > count:
            self._left = trio.Event()
            await self._left.wait()

    def connect(
        self,
        pair: Callable[[], tuple[trio.StapledStream, trio.StapledStream]] = trio.testing.memory_stream_pair,
    ) -> tuple[Client, trio.Event]:
        """A client whose stream is served, and the event that says that this is over.

        ``lockstep_stream_pair`` instead of the default makes sending wait until the other side receives.
        """
        mine, its = pair()
        return Client(mine), self.serve(its)

    async def listen(self, address: str = "127.0.0.1") -> int:
        """Accept connections at a free port; return it."""
        listeners = await trio.open_tcp_listeners(0, host=address)
        self._nursery.start_soon(trio.serve_listeners, self._serve, listeners)
        return int(listeners[0].socket.getsockname()[1])
