"""What takes longer than a turn goes on in later ones: what clients see of it meanwhile and what not."""

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.session.session import PIECE, WIDE
from tests.router.amqp.client import packed, publish

QUEUES = 3 * WIDE


@pytest.fixture
def steps(world):
    """Have each turn do one slice only: call it for another turn; it returns whether more is left."""
    world.broker.budget.clock = lambda: inf
    world.flush = lambda: None
    return world.broker.flush


def finish(steps):
    turns = 1
    while steps():
        turns += 1
    return turns


def lengths(world):
    return [len(queue.ready) for queue in world.vhost.queues.values()]


@pytest.fixture
def wide(connect):
    """A client, and amq.fanout with many queues."""
    client = connect()
    client.do(m.ConfirmSelect())
    for number in range(QUEUES):
        client.do(m.QueueDeclare(f"q{number}"), m.QueueBind(f"q{number}", "amq.fanout"))
    return client


def test_a_publish_to_many_queues_is_confirmed_when_all_have_it(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    assert sum(lengths(world)) == WIDE
    steps()
    assert sum(lengths(world)) == 2 * WIDE
    assert wide.next() is None
    finish(steps)
    assert lengths(world) == [1] * QUEUES
    wide.expect(m.BasicAck(1, False))


def test_commands_behind_a_publish_to_many_queues_wait(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"), m.QueueDeclare(f"q{QUEUES - 1}", passive=True))
    assert wide.next() is None
    finish(steps)
    told = [wide.next()[1], wide.next()[1]]
    assert m.QueueDeclareOk(f"q{QUEUES - 1}", 1, 0) in told


def test_a_publish_to_many_queues_reaches_all_though_its_publisher_goes(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    wide.transport.connection.lost()
    finish(steps)
    assert lengths(world) == [1] * QUEUES


def test_a_queue_that_is_deleted_in_the_midst_of_a_publish_gets_nothing(world, wide, steps):
    wide.send(publish("", b"x", exchange="amq.fanout"))
    gone = world.vhost.queues[f"q{QUEUES - 1}"]
    world.vhost.delete_queue(gone)
    finish(steps)
    assert lengths(world) == [1] * (QUEUES - 1)
    assert len(gone.ready) == 0
    wide.expect(m.BasicAck(1, False))


@pytest.fixture
def holder(connect):
    """A client that holds more messages than are settled at a time."""
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "c"))
    client.send(*[publish("q", b"%d" % number) for number in range(3 * PIECE)])
    for _ in range(3 * PIECE):
        client.take_content(m.BasicDeliver)
    client.do(m.BasicCancel("c"))
    return client


def test_a_get_waits_until_all_messages_that_are_requeued_are_back(world, connect, holder, steps):
    other = connect()
    holder.send(m.BasicNack(0, True, True))
    other.send(publish("q", b"behind"), m.BasicGet("q", True))
    assert 0 < world.vhost.queues["q"].unacked < 3 * PIECE
    assert other.next() is None
    finish(steps)
    assert other.take_content(m.BasicGetOk).body == b"0"
    assert [entry.message.body for entry in world.vhost.queues["q"].ready][-1] == b"behind"


@pytest.mark.parametrize("end", ["nack", "channel", "connection"])
def test_a_connection_that_ends_while_its_messages_go_back_loses_none(world, holder, steps, end):
    holder.send(m.BasicNack(3 * PIECE, True, True) if end == "nack" else m.ChannelClose(200))
    if end == "connection":
        holder.transport.connection.lost()
    finish(steps)
    queue = world.vhost.queues["q"]
    assert [int(entry.message.body) for entry in queue.ready] == list(range(3 * PIECE))
    assert (queue.unacked, queue.awaits_disk()) == (0, False)


def test_messages_that_are_acknowledged_do_not_come_back_though_their_client_goes(world, holder, steps):
    holder.send(m.BasicAck(3 * PIECE, True))
    holder.transport.connection.lost()
    finish(steps)
    assert (len(world.vhost.queues["q"].ready), world.vhost.queues["q"].unacked) == (0, 0)


def test_a_commit_is_answered_when_all_of_it_is_done(world, connect, steps):
    client = connect()
    world.broker.budget.clock = None
    client.transport.send(packed(m.TxSelect(), 1) + packed(m.QueueDeclare("q"), 1))
    world.broker.flush()
    client.expect(m.TxSelectOk())
    client.take(m.QueueDeclareOk)
    client.send(*[publish("q", b"x") for _ in range(1000)])
    world.broker.budget.clock = lambda: inf
    finish(steps)
    client.send(m.TxCommit(), m.QueueDeclare("q", passive=True))
    assert client.next() is None
    assert finish(steps) > 3
    client.expect(m.TxCommitOk())
    client.expect(m.QueueDeclareOk("q", 1000, 0))


def test_heartbeats_are_not_missed_while_commands_wait_for_later_turns(world, wide, steps):
    connection = wide.transport.connection
    wide.send(publish("", b"x", exchange="amq.fanout"))
    world.broker.now += 600_000
    connection.on_timer(world.broker.now)
    assert not connection.finished
    finish(steps)
    connection.on_timer(world.broker.now)
    assert not connection.finished
