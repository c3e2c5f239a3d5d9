"""Ages, waiting times, times to acknowledge and to drain, in the objects of the API."""

import pytest

from leveret.router.management.statistics.ages import Ages
from leveret.router.management.statistics.latency import PERIOD, Recent


@pytest.fixture
def queue(api):
    return api.node.queue("q")


def told(api):
    return api.get("/queues/%2F/q")["leveret"]


def every_second(api, seconds, publish=None):
    """Let time pass, with a look each second."""
    start = api.broker.now - 1_000_000
    for second in range(1, seconds + 1):
        api.node.at(start + second * 1000)
        if publish is not None:
            publish(second)
        api.node.settle()
        api.sample()


def test_age_is_that_of_the_oldest_message_to_within_a_look(api, queue):
    client = api.node.client()
    api.sample()
    every_second(api, 3)
    client.publish("a")
    every_second(api, 10, lambda second: client.publish("b"))
    assert told(api)["oldest_message_age_ms"] == pytest.approx(10_000, abs=1000)
    client.get()
    assert told(api)["oldest_message_age_ms"] == pytest.approx(9_000, abs=1000)


def test_empty_queue_has_no_age(api, queue):
    api.sample()
    assert told(api)["oldest_message_age_ms"] is None


def test_messages_from_before_the_first_look_are_at_least_that_old(api, queue):
    api.node.client().publish("a")
    api.sample()
    every_second(api, 5)
    assert told(api)["oldest_message_age_ms"] == 5000


def test_waits_and_times_to_acknowledge_have_percentiles(api, queue):
    client = api.node.client()
    client.publish("first")
    api.sample()  # which puts a probe to the queue
    client.consume(prefetch=1)
    api.node.settle()
    for number in range(2, 22):
        client.publish("x")
        api.node.settle()
        api.node.at(api.broker.now - 1_000_000 + 300)
        client.session.ack(number - 1, multiple=False)
        api.node.settle()
    told_now = told(api)
    assert told_now["time_in_queue_ms"]["samples"] >= 8
    assert told_now["time_in_queue_ms"]["p50"] == pytest.approx(300, rel=0.02)
    assert told_now["time_to_ack_ms"]["p99"] == pytest.approx(300, rel=0.02)
    (consumer,) = api.get("/consumers")
    assert consumer["leveret"]["time_to_ack_ms"]["samples"] >= 8


def test_time_to_drain_follows_from_the_rate(api, queue):
    client = api.node.client()
    for number in range(100):
        client.publish(str(number))
    api.sample()
    api.node.at(5000)
    for _ in range(20):
        client.get()
    api.sample()
    assert told(api)["time_to_drain_ms"] == 20_000
    api.node.at(10_000)
    api.sample()
    assert told(api)["time_to_drain_ms"] is None
    client.topology.purge_queue("q")
    assert told(api)["time_to_drain_ms"] == 0


def test_old_measures_are_forgotten():
    recent = Recent()
    assert recent.show() is None
    recent.record(5)
    recent.turn()
    recent.record(7)
    assert recent.show()["samples"] == 2
    recent.turn()
    assert recent.show()["samples"] == 1
    assert PERIOD == 300_000


def test_ages_of_old_numbers_stay_known_when_marks_get_many():
    ages = Ages()
    for sample in range(10_000):
        ages.sample(sample * 10, 0, sample * 1000)
    age = ages.age(50_000, 9_999_000)
    assert age == pytest.approx(4_999_000, rel=0.05)
    ages.sample(100_000, 100_000, 10_000_000)
    assert ages.age(100_000, 10_500_000) == 500_000
