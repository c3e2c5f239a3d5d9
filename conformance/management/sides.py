"""Two brokers with a management API, and a client that asks either of them."""

import base64
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from conformance.brokers import leveret
from conformance.rabbitmq import RabbitMQ

PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_consistent_hash_exchange")
SAMPLES = 1000  # ms from one look at the counters to the next, in leveret


@dataclass(frozen=True)
class Told:
    """A response; ``body`` is decoded where it is JSON, else bytes."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Side:
    """A broker: its ports for AMQP, for the API and for metrics."""

    name: str
    amqp: int
    http: int
    metrics: int

    def ask(self, method: str, path: str, body: Any = None, user: str | None = "guest:guest") -> Told:
        """The response to a request below /api; ``body`` is sent as it is when it is bytes."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/api{path}", data, method=method)
        if user is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return _told(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return _told(error.code, error.headers, error.read())

    def get(self, path: str) -> Any:
        """What is told at a path, which has to be 200."""
        told = self.ask("GET", path)
        assert told.status == 200, (self.name, path, told)
        return told.body


def _told(status: int, headers: Any, data: bytes) -> Told:
    try:
        body = json.loads(data)
    except ValueError:
        body = data
    return Told(status, {name.lower(): value for name, value in headers.items()}, body)


@contextlib.contextmanager
def leveret_side(*arguments: str) -> Iterator[Side]:
    """leveret, in a process of its own, with these arguments."""
    options = (
        *arguments,
        "--set",
        f"management.sample_interval={SAMPLES}",
        "--set",
        "auth.password_hash=sha256",
    )
    with leveret(arguments=options) as broker:
        assert broker.http_port is not None
        yield Side("leveret", broker.port, broker.http_port, broker.http_port)


@contextlib.contextmanager
def rabbitmq_side() -> Iterator[Side]:
    """A private RabbitMQ with its management plugin."""
    with RabbitMQ(plugins=PLUGINS, config={"collect_statistics_interval": SAMPLES}) as node:
        ports = node.plugin_ports
        yield Side("rabbitmq", node.port, ports["rabbitmq_management"], ports["rabbitmq_prometheus"])


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
