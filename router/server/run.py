"""A broker's life: set up the core, listen, announce, wait for a signal, say good-bye.

Owns the nursery that every task belongs to, and the order of starting and stopping.
"""

import errno
import gc
import os
import select
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

import structlog
import trio

from protocol.errors import ConnectionForced
from router.amqp.offer import make_offer
from router.auth import hash_password
from router.broker import Broker
from router.definitions import DefinitionsError, apply_definitions, parse_definitions
from router.server import machine
from router.server.amqp import serve_amqp
from router.server.driver import Driver, clock
from router.server.keeping import Keeping
from router.server.stomp import serve_stomp
from router.server.watch import Watch
from router.settings import MEMORY, Settings, parse_address
from router.store.journal import DamageError, FormatError
from router.store.lock import DataDirectoryError
from router.store.metadata import MetadataError

BACKLOG = 1024  # connections that may wait to be accepted
NEVER = 2**31 - 1
HUNG_UP = getattr(select, "POLLRDHUP", 0)  # Linux only; elsewhere it shows when something is sent


class StoreFailed(Exception):
    """The store met with an error of its own; the log says which."""


class StartupError(Exception):
    """The broker cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a socket."""

    name: str
    loopback: bool
    socket: trio.socket.SocketType

    def send(self, data: bytes) -> int:
        """Have it sent what the socket takes at once; what is wrong shows when the rest is sent."""
        try:
            return os.write(self.socket.fileno(), data)
        except OSError:
            return 0

    def hung_up(self) -> bool:
        """Whether it has ended its side, also behind bytes that were not read."""
        poll = select.poll()
        poll.register(self.socket, HUNG_UP)
        return bool(poll.poll(0))


class Serve(Protocol):
    """Serves one client over a stream until either side is done."""

    async def __call__(self, stream: trio.SocketStream, peer: Peer, driver: Driver) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """A protocol that is served, and where."""

    scheme: str
    listeners: list[trio.SocketListener]
    serve: Serve

    def addresses(self) -> list[str]:
        """Where clients find it."""
        return [f"{self.scheme}://{_name(each.socket.getsockname())}" for each in self.listeners]


async def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Run a broker until SIGINT or SIGTERM. Raises StartupError, before anything was announced, or
    StoreFailed.
    """
    log = structlog.get_logger()
    _calm_the_collector()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        broker = Broker(settings, clock())
        keeping = keep(broker)
        populate(broker)
        if keeping is not None:
            keeping.keep_access()
        driver = Driver(broker)
        if keeping is not None:
            keeping.start(driver)
        watch = Watch(driver, machine)
        await watch.look()
        offer = make_offer(settings, version("leveret"))
        services = [
            Service(
                "amqp", await _listen_all(settings.listen.amqp, "--amqp"), partial(serve_amqp, offer=offer)
            ),
            Service("stomp", await _listen_all(settings.listen.stomp, "--stomp"), serve_stomp),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.keep_time)
            nursery.start_soon(driver.carry_on)
            nursery.start_soon(watch.run)
            accepting, gone = trio.CancelScope(), trio.Event()
            nursery.start_soon(accept_all, services, driver, accepting, gone)
            addresses = ", ".join(address for service in services for address in service.addresses())
            announce(f"leveret is listening: {addresses or 'nowhere'}")
            with trio.CancelScope() as running:
                if keeping is not None:
                    nursery.start_soon(_cancel_after, keeping.broken, running)
                async for number in signals:
                    log.info("stopping", signal=signal.Signals(number).name)
                    break
            if not running.cancelled_caught:
                accepting.cancel()
                with trio.move_on_after(settings.server.shutdown_timeout / 1000):
                    say_goodbye(driver)
                    await gone.wait()
                if keeping is not None:
                    await keeping.finish()
            nursery.cancel_scope.cancel()
        if running.cancelled_caught:
            raise StoreFailed("the store failed, see the log; what was confirmed is on disk")


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def keep(broker: Broker) -> Keeping | None:
    """Bring back what the data directory holds, and keep the broker there; None when it keeps nothing."""
    if broker.settings.data == MEMORY:
        return None
    try:
        return Keeping(broker, Path(broker.settings.data))
    except (DataDirectoryError, MetadataError, DamageError, FormatError) as error:
        raise StartupError(str(error)) from None


def populate(broker: Broker) -> None:
    """Add what the definitions file says; default virtual host and user only where there is no other."""
    settings = broker.settings
    if settings.definitions:
        _import(broker, settings.definitions)
    if not broker.vhosts:
        broker.add_vhost(settings.default_vhost)
    if not broker.users:
        user = broker.users.add(
            settings.default_user, hash_password(settings.default_pass), tags=("administrator",)
        )
        user.permit(settings.default_vhost, configure=".*", write=".*", read=".*")


def _import(broker: Broker, path: str) -> None:
    """Bring a definitions file to the broker."""
    try:
        apply_definitions(broker, parse_definitions(Path(path).read_bytes()))
    except OSError as error:
        raise StartupError(f"definitions {path}: {error.strerror or error}") from None
    except DefinitionsError as error:
        raise StartupError(f"definitions {path}: {error}") from None


async def _listen_all(addresses: Sequence[str], flag: str) -> list[trio.SocketListener]:
    """Listen on each HOST:PORT; ``flag`` is where others can be given."""
    return [listener for text in addresses for listener in await _listen(text, flag)]


async def _listen(text: str, flag: str) -> Sequence[trio.SocketListener]:
    """Listen on HOST:PORT. A name may stand for several addresses."""
    host, port = parse_address(text)
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"cannot listen on {text}: the port is in use; "
                f"stop what listens there or choose another with {flag}"
            ) from None
        raise StartupError(f"cannot listen on {text}: {error.strerror or error}") from None


async def accept_all(
    services: Sequence[Service], driver: Driver, accepting: trio.CancelScope, gone: trio.Event
) -> None:
    """Accept clients until ``accepting`` is cancelled; set ``gone`` when all have left after that."""
    async with trio.open_nursery() as clients:
        with accepting:
            async with trio.open_nursery() as acceptors:
                acceptors.start_soon(trio.sleep_forever)  # also where nobody listens
                for service in services:
                    if not service.listeners:
                        continue
                    serve_client = partial(
                        _serve, serve=service.serve, driver=driver, clients=clients, accepting=accepting
                    )
                    acceptors.start_soon(
                        partial(
                            trio.serve_listeners, serve_client, service.listeners, handler_nursery=clients
                        )
                    )
    gone.set()


async def _serve(
    stream: trio.SocketStream,
    serve: Serve,
    driver: Driver,
    clients: trio.Nursery,
    accepting: trio.CancelScope,
) -> None:
    """Serve one client, or turn it away when there are too many. Its socket is closed by who accepted it."""
    limit = driver.broker.settings.amqp.max_connections
    try:
        address = stream.socket.getpeername()
    except OSError:
        return  # gone before it was greeted
    if accepting.cancel_called:
        return  # nobody would tell it that the broker stops
    if limit and len(clients.child_tasks) > limit:
        structlog.get_logger().warning("connection refused", peer=_name(address), reason=f"{limit} are open")
        return
    peer = Peer(_name(address), is_loopback(address[0]), stream.socket)
    await serve(stream, peer, driver)


def _calm_the_collector() -> None:
    """Look for cycles among young objects only, in short looks.

    Messages that wait are no garbage: looking through all of them again and again takes a quarter of a second
    for each million. What lives long and ends, like a connection, leaves no cycles behind.
    """
    gc.set_threshold(3_000, 3, NEVER)


def say_goodbye(driver: Driver) -> None:
    """Tell every client that the broker stops; who did not log in yet is turned away without a word."""
    driver.begin()
    for client in list(driver.broker.clients):
        client.end(ConnectionForced("broker forced connection closure with reason 'shutdown'"))
    driver.end()


def _name(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine's own loopback addresses, also IPv4 within IPv6."""
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
