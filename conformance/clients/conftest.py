"""Fixtures and helpers shared by the client tests."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from conformance.brokers import Broker

WAIT = 10.0  # seconds until something that must come counts as missing


@pytest.fixture
def parameters(broker: Broker) -> pika.ConnectionParameters:
    """pika's parameters of the broker, with a bound on everything that blocks."""
    return pika.ConnectionParameters(
        broker.host,
        broker.port,
        broker.vhost,
        pika.PlainCredentials(broker.user, broker.password),
        socket_timeout=WAIT,
        stack_timeout=2 * WAIT,
        blocked_connection_timeout=2 * WAIT,
    )


@pytest.fixture
def connection(parameters: pika.ConnectionParameters) -> Iterator[pika.BlockingConnection]:
    """A blocking connection."""
    made = pika.BlockingConnection(parameters)
    yield made
    if made.is_open:
        made.close()


@pytest.fixture
def channel(connection: pika.BlockingConnection) -> BlockingChannel:
    """A channel of the blocking connection."""
    return connection.channel()


@pytest.fixture
def queue(channel: BlockingChannel, unique: str) -> str:
    """An exclusive queue, gone with the connection."""
    channel.queue_declare(unique, exclusive=True)
    return unique


def pump(connection: pika.BlockingConnection, done: Callable[[], object]) -> None:
    """Process what arrives until ``done()`` is true; AssertionError when that takes longer than WAIT."""
    deadline = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < deadline, "what was waited for did not come"
        connection.process_data_events(time_limit=0.05)


class Take:
    """Receives through pika's consumer generator, never waiting longer than WAIT for a message."""

    def __init__(self, channel: BlockingChannel) -> None:
        self._channel = channel

    def __call__(self, queue: str, count: int, auto_ack: bool = True, **consume: Any) -> list[Any]:
        """The next ``count`` (method, properties, body); AssertionError when fewer come in time."""
        taken: list[Any] = []
        for method, properties, body in self._channel.consume(
            queue, auto_ack=auto_ack, inactivity_timeout=WAIT, **consume
        ):
            assert method is not None, f"{len(taken)} of {count} messages came from {queue}"
            taken.append((method, properties, body))
            if len(taken) == count:
                break
        self._channel.cancel()
        return taken

    def bodies(self, queue: str, count: int) -> list[bytes]:
        """The bodies of the next ``count`` messages, acknowledged automatically."""
        return [body for _, _, body in self(queue, count)]


@pytest.fixture
def take(channel: BlockingChannel) -> Take:
    """Receive from queues on the channel."""
    return Take(channel)
