"""The node as the management API sees it: names, addresses and measures."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from router import __version__
from router.broker import Broker
from router.management.node import Listener, Measured
from router.server import machine
from router.server.certificate import certificate_end
from router.server.listeners import Endpoint
from router.server.watch import Watch

PROTOCOLS = {  # RabbitMQ's names, by those of the settings
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
    """The node that a broker is."""

    def __init__(self, broker: Broker, endpoints: Iterable[Endpoint], watch: Watch) -> None:
        self.name = broker.node_name
        self.version = __version__
        self.pid = os.getpid()
        self.processors = os.cpu_count() or 1
        self._broker = broker
        self._endpoints = endpoints
        self._watch = watch

    def measured(self) -> Measured:
        """Measures: of memory and disk, the last that were taken."""
        last, limits = self._watch.last, self._watch.limits
        return Measured(
            memory=last.used,
            memory_limit=limits.used,
            disk_free=last.free,
            disk_limit=limits.free or 0,
            files=machine.open_files(),
            files_max=machine.most_files(),
            sockets=len(self._broker.clients),
        )

    def listeners(self) -> list[Listener]:
        """What is listened on."""
        end = self._certificate_end
        return [
            Listener(
                PROTOCOLS.get(endpoint.name, endpoint.name),
                address,
                port,
                tls=endpoint.tls is not None,
                expires=end if endpoint.tls is not None else None,
            )
            for endpoint in self._endpoints
            for address, port in (each.socket.getsockname()[:2] for each in endpoint.listeners)
        ]

    @cached_property
    def _certificate_end(self) -> int | None:
        """When the certificate ends that clients are shown, in seconds since the epoch; None without one."""
        path = self._broker.settings.tls.certificate
        return certificate_end(Path(path).read_text()) if path else None

    def uptime(self) -> int:
        """In ms."""
        return self._broker.now - self._broker.started
