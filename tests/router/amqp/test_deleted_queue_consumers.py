"""A deleted queue with many consumers: it is gone at once, and the consumers are cancelled in later turns."""

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.vhost.deletion import SOME
from tests.router.amqp.client import publish

COUNT = 3 * SOME
QUEUES = {
    "classic": {},
    "single active": {"x-single-active-consumer": True},
    "stream": {"x-queue-type": "stream"},
}


@pytest.fixture(params=QUEUES)
def consuming(request, connect):
    """A client with many consumers of the queue q, whose tags are numbers."""
    client = connect()
    client.do(m.QueueDeclare("q", durable=True, arguments=QUEUES[request.param]), m.BasicQos(0, 10, False))
    for number in range(COUNT):
        client.do(m.BasicConsume("q", str(number)))
    return client


@pytest.fixture
def turn(world):
    """Let a turn do one slice; call it for another turn."""
    world.flush = lambda: None
    world.broker.budget.clock = lambda: inf
    return world.broker.scheduler.end_batch


@pytest.fixture
def deleted(connect, consuming, turn):
    """The other client, which has deleted the queue; the first consumers are cancelled."""
    other = connect()
    other.send(m.QueueDelete("q"))
    other.expect(m.QueueDeleteOk(0))
    return other


def received(client):
    """Return the methods that the client has received since the last call."""
    found = []
    while (answer := client.next()) is not None:
        found.append(answer[1])
    return found


def cancelled(client):
    """Return the tags of the cancelled consumers that the client was notified of since the last call."""
    found = received(client)
    assert all(isinstance(each, m.BasicCancel) for each in found), found
    return [each.consumer_tag for each in found]


def finish(turn):
    while turn():
        pass


def test_the_name_is_free_while_consumers_are_cancelled_in_slices(world, consuming, deleted, turn):
    assert "q" not in world.vhost.queues
    assert cancelled(consuming) == [str(number) for number in range(SOME)]
    deleted.send(m.QueueDeclare("q"), m.BasicConsume("q", "new"), publish("q", b"x"))
    finish(turn)
    assert cancelled(consuming) == [str(number) for number in range(SOME, COUNT)]
    deleted.expect(m.QueueDeclareOk("q", 0, 0), m.BasicConsumeOk("new"))
    deleted.take_content(m.BasicDeliver)


def test_a_consumer_that_its_client_cancels_meanwhile_is_not_cancelled_twice(consuming, deleted, turn):
    cancelled(consuming)
    last = str(COUNT - 1)
    consuming.send(m.BasicCancel(last))
    finish(turn)
    found = received(consuming)
    assert m.BasicCancelOk(last) in found
    assert m.BasicCancel(last, nowait=True) not in found
    assert len(found) == COUNT - SOME


def test_a_tag_can_be_used_again_as_soon_as_its_queue_is_deleted(world, consuming, deleted, turn):
    cancelled(consuming)
    last = str(COUNT - 1)
    consuming.send(m.QueueDeclare("r"), m.BasicConsume("r", last))
    finish(turn)
    found = received(consuming)
    assert found.index(m.BasicCancel(last, nowait=True)) < found.index(m.BasicConsumeOk(last))
    assert sum(isinstance(each, m.BasicCancel) for each in found) == COUNT - SOME
    assert [consumer.tag for consumer in world.vhost.queues["r"].consumers] == [last]


def test_a_connection_that_is_lost_meanwhile_ends_the_other_consumers(world, consuming, deleted, turn):
    consuming.transport.connection.lost()
    finish(turn)
    assert not world.vhost.sessions or all(not session.consumers for session in world.vhost.sessions)
    deleted.send(m.QueueDeclare("q"))
    finish(turn)
    deleted.expect(m.QueueDeclareOk("q", 0, 0))
