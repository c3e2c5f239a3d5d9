"""Endpoints of a broker: each protocol with its addresses, and the limits on their connections."""

from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING

import trio

from leveret.protocol.amqp.connection import Offer
from leveret.protocol.recognition import AMQP, HTTP, STOMP
from leveret.router.server.amqp import serve_amqp
from leveret.router.server.client_peer import ClientPeer
from leveret.router.server.driver import Driver
from leveret.router.server.late_modules import load_module
from leveret.router.server.listeners import Endpoint
from leveret.router.server.places import Places
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.snapshot_threads import SnapshotThreads
from leveret.router.server.socket_peer import ServeClient, SocketPeer
from leveret.router.server.tls import ListenerTls

if TYPE_CHECKING:
    from leveret.router.server.gateway import Gateway
    from leveret.router.server.http_sites import HttpSites
    from leveret.router.server.relayed_clients import RelayedClients

STOMP_TASKS = "leveret.router.server.stomp"
SITES = "leveret.router.server.http_sites"
WEB = "STOMP over WebSocket"
GRACE = 1  # seconds from the start until modules are loaded that a start does not need


class Endpoints:
    """The endpoints of one broker."""

    def __init__(
        self,
        driver: Driver,
        offer: Offer,
        monitor: ResourceMonitor,
        snapshots: SnapshotThreads | None = None,
        gateway: "Gateway | None" = None,
    ) -> None:
        """Create the endpoints. ``gateway`` is for a broker in a cluster. Raises TlsError."""
        self.snapshots = snapshots
        self._cluster = None if gateway is None else gateway.state
        self._driver = driver
        self._monitor = monitor
        self._amqp = partial(serve_amqp, driver=driver, offer=offer)
        self._stomp: Callable[..., Awaitable[None]] | None = None  # loaded when a client needs it
        amqp: ServeClient = self._amqp
        stomp: ServeClient = self._serve_stomp
        log = driver.log_refusal
        self._clients = clients = Places(driver.broker.settings.amqp.max_connections, log)
        requests = Places(0)  # HTTP sites have limits of their own
        listen = driver.broker.settings.listen
        secured = listen.amqps or listen.stomps or listen.https or listen.web_stomps
        tls = ListenerTls(driver.broker.settings.tls, log) if secured else None
        http: ServeClient = self._serve_http
        web_stomp: ServeClient = self._serve_web_stomp
        relayed: RelayedClients | None = None
        if gateway is not None:
            from leveret.router.server.relayed_clients import relayed_clients  # noqa: PLC0415

            relayed = relayed_clients(
                gateway, log, clients, requests, amqp=amqp, stomp=stomp, http=http, web_stomp=web_stomp
            )
            amqp, stomp = gateway.serving("amqp", amqp), gateway.serving("stomp", stomp)
            http, web_stomp = gateway.serving("http", http), gateway.serving("web_stomp", web_stomp)
        self.all = [
            Endpoint("amqp", "amqp://{}", listen.amqp, amqp, clients, relayed=relayed),
            Endpoint("amqps", "amqps://{}", listen.amqps, amqp, clients, tls, AMQP, log),
            Endpoint("stomp", "stomp://{}", listen.stomp, stomp, clients),
            Endpoint("stomps", "stomps://{}", listen.stomps, stomp, clients, tls, STOMP, log),
            Endpoint("http", "http://{}", listen.http, http, requests),
            Endpoint("https", "https://{}", listen.https, http, requests, tls, HTTP, log),
            Endpoint("web_stomp", "ws://{}/ws", listen.web_stomp, web_stomp, requests),
            Endpoint("web_stomps", "wss://{}/ws", listen.web_stomps, web_stomp, requests, tls, WEB, log),
        ]

    @cached_property
    def _sites(self) -> "HttpSites":
        """Create the HTTP sites. Their modules take longer to load than all others, and the start does not
        need them.
        """
        from leveret.router.server.http_sites import HttpSites  # noqa: PLC0415

        return HttpSites(
            self._driver,
            self.all,
            self._monitor,
            amqp=self._amqp,
            stomp=self._serve_stomp,
            places=self._clients,
            snapshots=self.snapshots,
            cluster=self._cluster,
        )

    async def _load_sites(self) -> None:
        """Load ``_sites`` in a thread: it takes 70 ms, in which clients are served."""
        if "_sites" not in self.__dict__:
            await load_module(SITES)

    async def _serve_stomp(self, stream: trio.abc.HalfCloseableStream, peer: ClientPeer) -> None:
        if self._stomp is None:
            await load_module(STOMP_TASKS)
            self._stomp = import_module(STOMP_TASKS).serve_stomp
        await self._stomp(stream, peer, self._driver)

    async def _serve_http(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> None:
        await self._load_sites()
        await self._sites.serve_main(stream, peer)

    async def _serve_web_stomp(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> None:
        await self._load_sites()
        await self._sites.serve_web_stomp(stream, peer)

    async def sample(self) -> None:
        """Sample statistics for the API, and load its modules before the first request."""
        await trio.sleep(GRACE)
        await self._load_sites()
        await self._sites.sample()

    def stop(self) -> None:
        """Close idle HTTP connections, and WebSockets with the code for a shutdown.

        AMQP and STOMP connections are closed by their protocols.
        """
        if "_sites" in self.__dict__:  # else no client has connected, and it need not be loaded
            self._sites.stop()
