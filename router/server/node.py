"""Node of the broker for the management API: names, listeners and measurements."""

import gc
import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from leveret import __version__
from leveret.router.broker.broker import Broker
from leveret.router.management.node import Listener, Measurements
from leveret.router.server import os_metrics as machine
from leveret.router.server.listeners import Endpoint
from leveret.router.server.request_bodies import BodyMemory
from leveret.router.server.resource_monitor import ResourceMonitor

if TYPE_CHECKING:
    from leveret.router.cluster.state import ClusterState

SELDOM = 1000  # a slow measurement is repeated after this many times its duration
PROTOCOLS = {  # RabbitMQ's names of protocols, by the names of settings
    "amqp": "amqp",
    "amqps": "amqp/ssl",
    "stomp": "stomp",
    "stomps": "stomp/ssl",
    "http": "http",
    "https": "https",
    "web_stomp": "http/web-stomp",
    "web_stomps": "https/web-stomp",
}


class ServerNode:
    """Implements ``ApiNode`` of the management API for a broker."""

    def __init__(
        self,
        broker: Broker,
        endpoints: Iterable[Endpoint],
        monitor: ResourceMonitor,
        bodies: BodyMemory,
        cluster: "ClusterState | None" = None,
    ) -> None:
        self.cluster = cluster
        self.name = broker.node_name
        self.version = __version__
        self.pid = os.getpid()
        self.processors = os.cpu_count() or 1
        self._broker = broker
        self._endpoints = endpoints
        self._monitor = monitor
        self._bodies = bodies
        self._threads_max = machine.most_threads()
        self._freed, self._freed_until = 0, 0.0  # freed memory, and until when that counts
        self._measured: tuple[int, Measurements] | None = None  # time of the measurement, and its result

    def measured(self) -> Measurements:
        """Return the latest measurements of memory and disk, and others that are made once a batch."""
        if self._measured is None or self._measured[0] != self._broker.now:
            self._measured = self._broker.now, self._measure()
        return self._measured[1]

    def _measure(self) -> Measurements:
        last, limits = self._monitor.last, self._monitor.limits
        return Measurements(
            memory=last.used,
            memory_limit=limits.used,
            disk_free=last.free,
            disk_limit=limits.free or 0,
            files=machine.open_files(),
            files_max=machine.most_files(),
            sockets=len(self._broker.clients),
            threads=threading.active_count(),
            threads_max=self._threads_max,
            collections=sum(generation["collections"] for generation in gc.get_stats()),
            context_switches=machine.context_switches(),
            request_bodies=self._bodies.held,
            memory_at_start=self._monitor.at_start,
        )

    def freed_memory(self) -> int:
        """Return the bytes of freed memory that the C library keeps; 0 if unknown.

        The C library counts all pieces of free memory, which takes 50 ms for 300,000 of them. So a value is
        kept for ``SELDOM`` times as long as the count took.
        """
        if (now := time.perf_counter()) >= self._freed_until:
            self._freed = machine.freed_memory()
            self._freed_until = now + SELDOM * (time.perf_counter() - now)
        return self._freed

    def listeners(self) -> list[Listener]:
        """Return the addresses with listeners."""
        return [
            Listener(
                PROTOCOLS.get(endpoint.name, endpoint.name),
                address,
                port,
                tls=endpoint.tls is not None,
                expires=None if endpoint.tls is None else endpoint.tls.expires,
            )
            for endpoint in self._endpoints
            for address, port in (each.socket.getsockname()[:2] for each in endpoint.listeners)
        ]

    def uptime(self) -> int:
        """Return the uptime in ms."""
        return self._broker.now - self._broker.started
