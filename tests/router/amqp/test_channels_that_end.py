"""A connection with many channels ends in slices: nothing reaches its channels any more."""

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.errors import ConnectionForced
from leveret.router.amqp.channels import ENDED
from tests.router.amqp.client import publish

COUNT = 3 * ENDED


@pytest.fixture
def turn(world):
    """Let a turn do one slice; call it for another turn."""
    world.flush = lambda: None
    world.broker.budget.clock = lambda: inf
    return world.broker.scheduler.end_batch


@pytest.fixture
def client(connect):
    """A client with many channels, each with a consumer of the queue q that may hold two messages; together
    they hold one for each channel.
    """
    client = connect()
    client.do(m.QueueDeclare("q"))
    for number in range(2, COUNT + 2):
        client.send(
            m.ChannelOpen(), m.BasicQos(0, 2, False), m.BasicConsume("q", f"c{number}"), channel=number
        )
    client.send(*[publish("q", b"x") for _ in range(COUNT)])
    return client


def finish(turn):
    while turn():
        pass


@pytest.mark.parametrize("end", ["close", "loss", "failure"])
def test_the_channels_of_a_connection_end_in_slices(world, connect, client, turn, end):
    connection, queue = client.transport.connection, world.vhost.queues["q"]
    finish(turn)
    assert (queue.unacked, len(queue.ready)) == (COUNT, 0)
    while client.next() is not None:
        pass
    if end == "loss":
        connection.lost()
    elif end == "failure":
        connection.fail(0, ConnectionForced("stop"))
    else:
        client.send(m.ConnectionClose(200, "", 0, 0), channel=0)
    assert 0 < len(connection.channels.open) < COUNT
    # The first slice did nothing for the channels that are left.
    assert not any(each.session.deliveries.finished for each in connection.channels.open.values())
    sent = [client.next()] if end == "failure" else []
    assert client.next() is None, sent
    other = connect()
    other.send(publish("q", b"new"))
    finish(turn)
    assert not connection.channels.open
    assert not queue.consumers
    assert (queue.unacked, len(queue.ready)) == (0, COUNT + 1)
    if end == "close":
        assert isinstance(client.next()[1], m.ConnectionCloseOk)
    assert client.next() is None
