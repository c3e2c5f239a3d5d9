"""Sampling of counters: no slice takes long, whatever one client has opened."""

import sys
from itertools import pairwise

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.management.statistics.extra_statistics import BrokerStatistics
from leveret.router.management.statistics.latency import CONSUMERS, LatencyRecorder
from leveret.router.management.statistics.rates import Sampler
from tests.router.amqp.world import World

COUNT = 2000
CALLS = 4000  # of functions in a slice, each of a tenth of a microsecond or more


@pytest.fixture
def world():
    """A broker with many queues, and a client with many channels, each with a consumer."""
    world = World()
    client = world.connect(channel_max=COUNT + 1)
    for number in range(COUNT):
        client.do(m.QueueDeclare(f"q{number}"))
    for number in range(2, COUNT + 1):
        client.send(m.ChannelOpen(), m.BasicConsume("q0", no_ack=True), channel=number)
    return world


def longest(slices):
    """Run slices; return the calls of functions in the longest one."""
    most = calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    while True:
        calls = 0
        sys.setprofile(count)
        try:
            next(slices)
        except StopIteration:
            return max(most, calls)
        finally:
            sys.setprofile(None)
        most = max(most, calls)


@pytest.mark.parametrize("kind", [Sampler, BrokerStatistics])
def test_a_sample_is_taken_in_short_slices(world, kind):
    sampler = kind(world.broker)
    for _ in range(2):
        assert longest(sampler.sample()) < CALLS


def test_samples_of_objects_that_have_gone_are_freed_in_slices(world):
    sampler = Sampler(world.broker)
    assert longest(sampler.sample()) < CALLS
    assert len(sampler) > 2 * COUNT
    world.vhost.queues.clear()
    assert longest(sampler.sample()) < CALLS
    assert len(sampler) < 2 * COUNT


def test_queues_that_have_gone_are_freed_in_slices(world):
    statistics = BrokerStatistics(world.broker)
    for _ in statistics.sample():
        pass
    queues = list(world.vhost.queues.values())
    world.vhost.queues.clear()
    held = [sum(map(sys.getrefcount, queues))]
    for _ in statistics.sample():
        held.append(sum(map(sys.getrefcount, queues)))
    held.append(sum(map(sys.getrefcount, queues)))
    assert held[0] - held[-1] == COUNT
    assert max(before - after for before, after in pairwise(held)) <= 100


def test_only_some_consumers_of_a_queue_are_measured(world):
    recorder = LatencyRecorder(0)
    queue = world.vhost.queues["q0"]
    consumers = list(queue.consumers)
    assert len(consumers) > CONSUMERS
    for consumer in consumers:
        recorder.settled(consumer, 5)
    assert len(recorder.by_consumer) == CONSUMERS
    for consumer in consumers[:CONSUMERS]:
        queue.remove_consumer(consumer, 0)
    recorder.sample(0)
    assert not recorder.by_consumer
    recorder.settled(consumers[-1], 5)
    assert recorder.by_consumer[consumers[-1]].show()["max"] == 5
