"""Running the command against the broker under test."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from conformance.brokers import Broker
from leveret.router.cli.api import Api

TIMEOUT = 60  # seconds that a command may take on a busy machine


class Leveret:
    """Runs ``leveret`` as a process, with the broker in its environment."""

    def __init__(self, broker: Broker) -> None:
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("LEVERET_")}
        self.environ["LEVERET_URL"] = broker.url
        if broker.http_port is not None:
            self.environ["LEVERET_API"] = f"http://guest:guest@127.0.0.1:{broker.http_port}"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "leveret", *args]

    def run(self, *args: str, given: str | bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end with this on standard input."""
        return subprocess.run(
            self.command(*args),
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            timeout=TIMEOUT,
            env=self.environ | environ,
            check=False,
        )

    def __call__(self, *args: str, given: str | bytes = b"") -> str:
        """Run it, and return what it printed; it must succeed."""
        done = self.run(*args, given=given)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout.decode()

    def lines(self, *args: str) -> list[dict[str, Any]]:
        """Run it, and return the JSON object of each line it printed."""
        return [json.loads(line) for line in self(*args).splitlines()]

    def start(self, *args: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start it with pipes; whoever does sees to its end."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(*args), env=self.environ, **(pipes | options))


@pytest.fixture
def leveret(broker: Broker) -> Leveret:
    return Leveret(broker)


@pytest.fixture
def api(broker: Broker) -> Api:
    """The management API, for tests that need one."""
    if broker.http_port is None:
        pytest.skip("nobody said where this broker's management API is")
    return Api(f"http://guest:guest@127.0.0.1:{broker.http_port}")


@pytest.fixture
def channel(broker: Broker) -> Iterator[BlockingChannel]:
    """A channel, of a client that is not leveret's own."""
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def queue(channel: BlockingChannel, unique: str) -> Iterator[str]:
    """A durable queue, which is deleted afterwards."""
    channel.queue_declare(unique, durable=True)
    yield unique
    channel.queue_delete(unique)


@pytest.fixture
def take(channel: BlockingChannel) -> Callable[[str], list[Any]]:
    """Take all (method, properties, body) that are in a queue."""

    def take(name: str) -> list[Any]:
        found = iter(lambda: channel.basic_get(name, auto_ack=True), (None, None, None))
        return list(found)

    return take
