"""HTTP sites of a broker: route tables, and WebSocket services by path."""

from collections.abc import Sequence
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Literal

import structlog
import trio

from leveret.protocol.recognition import AMQP, STOMP, TLS
from leveret.protocol.websocket import Text
from leveret.router.management.api import metrics_table, table
from leveret.router.management.call import ApiContext
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.rates import Sampler
from leveret.router.server.driver import Driver
from leveret.router.server.http import HttpSite, serve_http
from leveret.router.server.late_modules import load_module
from leveret.router.server.listeners import Endpoint
from leveret.router.server.node import ServerNode
from leveret.router.server.places import Places
from leveret.router.server.request_bodies import BodyMemory
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.response_memory import ResponseMemory
from leveret.router.server.snapshot_threads import SnapshotThreads
from leveret.router.server.socket_peer import ServeClient, SocketPeer
from leveret.router.server.websocket import Service
from leveret.router.web.downloads import downloads
from leveret.router.web.pages import pages
from leveret.router.web.routes import HttpRoutes, Table

if TYPE_CHECKING:
    from leveret.router.cluster.state import ClusterState

STOMP_VERSIONS = ("v12.stomp", "v11.stomp", "v10.stomp")
DONE = object()
LATENCY = "leveret.router.management.statistics.latency"  # takes a third of a second to load
OTHER_PROTOCOLS = {
    AMQP: ("amqp", "amqps"),
    STOMP: ("stomp", "stomps"),
    TLS: ("https",),
}  # protocol -> endpoints


class HttpSites:
    """The site at ``listen.http``, and the one at ``listen.web_stomp``, which serves STOMP over WebSocket
    only, like RabbitMQ's plugin.

    ``amqp`` and ``stomp`` serve WebSocket clients, which count against ``places`` like clients of sockets.
    """

    def __init__(
        self,
        driver: Driver,
        endpoints: Sequence[Endpoint],
        monitor: ResourceMonitor,
        *,
        amqp: ServeClient,
        stomp: ServeClient,
        places: Places,
        snapshots: SnapshotThreads | None,
        cluster: "ClusterState | None" = None,
    ) -> None:
        self._driver = driver
        self._endpoints = endpoints
        broker, settings = driver.broker, driver.broker.settings
        self._bodies = BodyMemory(settings.http.max_bodies_size)
        self._responses = ResponseMemory(settings.http.max_responses_size)
        self._sampler = Sampler(broker, settings.management.sample_interval)
        self._measures = BrokerStatistics(broker)
        self._node = ServerNode(broker, endpoints, monitor, self._bodies, cluster)
        context = ApiContext(broker, self._node, self._sampler, self._measures, snapshots)
        tables = [pages(broker, self._closed, self._is_active), downloads(), table(context)]
        if settings.management.metrics != "off":
            tables.append(metrics_table(context))
        text = Service(STOMP_VERSIONS, stomp, places, Text.SENT)
        services = {"/ws/amqp": Service(("amqp",), amqp, places), "/ws/stomp": text, "/ws": text}
        self._main = self._site(services, *tables)
        chosen = Service(STOMP_VERSIONS, stomp, places, text_handling(settings.stomp.web_messages))
        self._web_stomp = self._site({"/ws": chosen, "/ws/stomp": chosen})

    def _site(self, services: dict[str, Service], *tables: Table) -> HttpSite:
        requests = Places(self._driver.broker.settings.http.max_connections, self._driver.log_refusal)
        return HttpSite(
            self._driver,
            HttpRoutes(*tables),
            requests,
            self._bodies,
            self._responses,
            services,
            self._elsewhere,
        )

    def _is_active(self) -> bool:
        """Return True for a broker alone, and for the active broker of a cluster."""
        return self._node.cluster is None or self._node.cluster.is_active

    def _closed(self) -> list[str]:
        """Return the listeners that should be open and are not."""
        return [each.name for each in self._endpoints if each.closed]

    def _elsewhere(self, spoken: str) -> list[str]:
        """Return the addresses for a client that speaks another protocol than HTTP."""
        names = OTHER_PROTOCOLS.get(spoken, ())
        return [
            f"{spoken} is at {url}" for each in self._endpoints if each.name in names for url in each.urls
        ]

    async def serve_main(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> None:
        """Serve one client at ``listen.http``."""
        await serve_http(stream, peer, self._main)

    async def serve_web_stomp(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> None:
        """Serve one client at ``listen.web_stomp``."""
        await serve_http(stream, peer, self._web_stomp)

    async def sample(self) -> None:
        """Take samples of all counters at intervals, for the rates in the API."""
        await load_module(LATENCY)
        self._measures.make = import_module(LATENCY).LatencyRecorder
        while True:
            try:
                await self._sample()
            except Exception as error:
                structlog.get_logger().error("statistics sampling failed", exc_info=error)
            await trio.sleep(self._sampler.interval / 1000)

    async def _sample(self) -> None:
        """Take one sample, with other tasks between its steps."""
        slices = chain(self._sampler.sample(), self._measures.sample())
        self._driver.begin("sampling of counters")
        self._sampler.sample_node(self._node.measured())
        self._driver.end()
        done = False
        while not done:
            await trio.lowlevel.checkpoint()
            self._driver.begin("sampling of counters")
            while not (done or self._driver.broker.budget.spent()):
                done = next(slices, DONE) is DONE
            self._driver.end()

    def stop(self) -> None:
        """Close idle HTTP connections and WebSockets on shutdown."""
        for site in (self._main, self._web_stomp):
            site.stop()


def text_handling(messages: Literal["text", "binary"]) -> Text:
    """Return how text frames are treated for the setting ``stomp.web_messages``."""
    return Text.SENT if messages == "text" else Text.ACCEPTED
