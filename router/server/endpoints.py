"""What is spoken at which addresses: every protocol with its listeners, and what they share.

What only some brokers need is loaded when the first client comes for it, so that all are quick to start.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import trio

from protocol.amqp.connection import Offer
from router.server.amqp import serve_amqp
from router.server.driver import Driver
from router.server.listeners import Endpoint, Places
from router.server.peer import Peer
from router.server.stomp import serve_stomp
from router.server.tls import Security
from router.server.watch import Watch

if TYPE_CHECKING:
    from router.management.call import World
    from router.server.http import Site
    from router.server.websocket import Service
    from router.web.routes import Table

GRACE = 1  # seconds from the start until what is not needed for it is loaded
DONE = object()


class Endpoints:
    """The endpoints of one broker."""

    def __init__(self, driver: Driver, offer: Offer, watch: Watch) -> None:
        """Raises TlsError."""
        self._driver = driver
        self._watch = watch
        self._offer = offer
        self._stopping = False
        settings = driver.broker.settings
        self._places = Places(settings.amqp.max_connections)
        requests = Places(0)  # counted by the sites
        services = (
            ("amqp", "amqps", "amqp", "", self._serve_amqp, self._places),
            ("stomp", "stomps", "stomp", "", self._serve_stomp, self._places),
            ("http", "https", "http", "", self._serve_http, requests),
            ("web_stomp", "web_stomps", "ws", "/ws", self._serve_web_stomp, requests),
        )
        listen = settings.listen
        self.all = [
            Endpoint(name, f"{scheme}://{{}}{path}", getattr(listen, name), serve, places)
            for name, _, scheme, path, serve, places in services
        ]
        if any(getattr(listen, secured) for _, secured, *_ in services):
            security = Security(settings.tls)
            self.all += [
                Endpoint(name, f"{scheme}s://{{}}{path}", getattr(listen, name), serve, places, security)
                for _, name, scheme, path, serve, places in services
            ]

    def stop(self) -> None:
        """Let go of the clients that no protocol tells that the broker stops."""
        self._stopping = True
        for name in ("_site", "_web_stomp"):
            if name in vars(self):
                getattr(self, name).stop()

    async def sample(self) -> None:
        """Look at the counters of everything again and again, for the rates that the API tells."""
        await trio.sleep(GRACE)
        sampler = self._world.sampler
        while True:
            looks = iter(sampler.look())
            while True:
                self._driver.begin()
                if next(looks, DONE) is DONE:
                    break
                await trio.lowlevel.checkpoint()
            await trio.sleep(sampler.interval / 1000)

    @cached_property
    def _world(self) -> "World":
        """What the management API tells of."""
        from router.management.call import World  # noqa: PLC0415
        from router.management.sampling import Sampler  # noqa: PLC0415
        from router.server.node import ServerNode  # noqa: PLC0415

        broker = self._driver.broker
        interval = broker.settings.management.sample_interval
        return World(broker, ServerNode(broker, self.all, self._watch), Sampler(broker, interval))

    @cached_property
    def _site(self) -> "Site":
        """What is asked at ``listen.http``."""
        from router.management.api import metrics_table, table  # noqa: PLC0415
        from router.server.websocket import Service  # noqa: PLC0415  (see above)
        from router.web.pages import pages  # noqa: PLC0415

        amqp = Service(("amqp",), self._serve_amqp, self._places)
        stomp = self._stomp("text")
        services = {"/ws/amqp": amqp, "/ws/stomp": stomp, "/ws": stomp}
        tables = [pages(self._driver.broker), table(self._world)]
        if self._driver.broker.settings.management.metrics != "off":
            tables.append(metrics_table(self._world))
        return self._make_site(services, *tables)

    @cached_property
    def _web_stomp(self) -> "Site":
        """What is asked at ``listen.web_stomp``: only what RabbitMQ has at such a port."""
        stomp = self._stomp(self._driver.broker.settings.stomp.web_messages)
        return self._make_site({"/ws": stomp, "/ws/stomp": stomp})

    def _stomp(self, messages: Literal["text", "binary"]) -> "Service":
        """STOMP over WebSocket, sent in messages of a kind."""
        from protocol.websocket import Text  # noqa: PLC0415
        from router.server.websocket import Service  # noqa: PLC0415

        text = Text.SPOKEN if messages == "text" else Text.TAKEN
        return Service(("v12.stomp", "v11.stomp", "v10.stomp"), self._serve_stomp, self._places, text)

    def _make_site(self, services: "dict[str, Service]", *tables: "Table") -> "Site":
        from router.server.http import Site  # noqa: PLC0415
        from router.web.routes import Routes  # noqa: PLC0415

        places = Places(self._driver.broker.settings.http.max_connections)
        return Site(self._driver, Routes(*tables), places, services, stopping=self._stopping)

    async def _serve_amqp(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        await serve_amqp(stream, peer, self._driver, self._offer)

    async def _serve_stomp(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        await serve_stomp(stream, peer, self._driver)

    async def _serve_http(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        from router.server.http import serve_http  # noqa: PLC0415

        await serve_http(stream, peer, self._site)

    async def _serve_web_stomp(self, stream: trio.abc.HalfCloseableStream, peer: Peer) -> None:
        from router.server.http import serve_http  # noqa: PLC0415

        await serve_http(stream, peer, self._web_stomp)
