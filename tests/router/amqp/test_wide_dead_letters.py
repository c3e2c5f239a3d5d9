"""Dead letters and copies for the firehose that reach very many queues do so in slices."""

from math import inf

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.vhost.dead_letters import WIDE
from tests.router.amqp.client import publish

COUNT = 3 * WIDE
DEAD = {"x-dead-letter-exchange": "amq.fanout"}


@pytest.fixture
def client(connect):
    """A client with many queues at amq.fanout, and a queue whose dead letters go there."""
    client = connect()
    client.do(m.QueueDeclare("source", arguments=DEAD))
    for number in range(COUNT):
        client.do(m.QueueDeclare(f"q{number}"), m.QueueBind(f"q{number}", "amq.fanout"))
    return client


@pytest.fixture
def turn(world, client):
    """Let a turn do one slice; call it for another turn."""
    world.flush = lambda: None
    world.broker.budget.clock = lambda: inf
    return world.broker.scheduler.end_batch


def lengths(world):
    return [len(queue.ready) for name, queue in world.vhost.queues.items() if name != "source"]


def reject(client, turn, count=1):
    client.send(*[publish("source", str(number).encode()) for number in range(count)])
    while turn():
        pass
    for tag in range(1, count + 1):
        client.send(m.BasicGet("source"), m.BasicReject(tag, False))


def finish(turn):
    while turn():
        pass


def test_a_dead_letter_reaches_many_queues_in_slices(world, client, turn):
    reject(client, turn)
    reached = [sum(lengths(world))]
    while turn():
        reached.append(sum(lengths(world)))
        assert reached[-1] - reached[-2] <= WIDE
    assert {WIDE, 2 * WIDE} <= set(reached)
    assert lengths(world) == [1] * COUNT
    assert world.vhost.queues["source"].unacked == 0


def test_a_queue_that_is_deleted_meanwhile_gets_no_dead_letter(world, connect, client, turn):
    reject(client, turn)
    while not sum(lengths(world)):
        assert turn()
    last = world.vhost.queues[f"q{COUNT - 1}"]
    world.vhost.delete_queue(last)
    finish(turn)
    assert lengths(world) == [1] * (COUNT - 1)
    assert last.deleted
    assert not last.ready


def test_dead_letters_stay_in_order(world, client, turn):
    reject(client, turn, count=3)
    finish(turn)
    assert lengths(world) == [3] * COUNT
    for name in ("q0", f"q{COUNT - 1}"):
        entries = [world.vhost.queues[name].get(0, no_ack=True) for _ in range(3)]
        assert [bytes(entry.message.body) for entry in entries] == [b"0", b"1", b"2"]


def test_catching_up_publishes_no_more_dead_letters_than_a_turn_has_time_for(world, client, turn):
    world.broker.budget.clock = None
    client.send(*[publish("source", b"x") for _ in range(10)])
    entries = [world.vhost.queues["source"].get(0, no_ack=False) for _ in range(10)]
    world.broker.budget.clock = lambda: inf
    world.vhost.queues["source"].reject(entries)
    world.broker.catch_up()
    assert sum(lengths(world)) == WIDE
    finish(turn)
    assert lengths(world) == [10] * COUNT


def test_a_copy_for_the_firehose_reaches_many_queues_in_slices(world, client, turn):
    world.broker.budget.clock = None
    for number in range(COUNT):
        client.do(m.QueueBind(f"q{number}", "amq.rabbitmq.trace", "publish.#"))
    world.vhost.firehose.switch(on=True)
    world.broker.budget.clock = lambda: inf
    client.send(publish("source", b"x"))
    reached = [0]
    while turn():
        reached.append(sum(lengths(world)))
        assert reached[-1] - reached[-2] <= WIDE
    assert len(reached) > 2
    assert lengths(world) == [1] * COUNT
