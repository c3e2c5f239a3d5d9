"""Queues with deduplication: their cache, its limits, and what of it outlives a crash."""

import tempfile
from pathlib import Path

import pytest

from leveret.router.deduplication.cache import COST
from tests.router.harness import Node
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY

DEDUPLICATING = {"message_deduplication": True}


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def quick_path():
    with tempfile.TemporaryDirectory(prefix="leveret-store-", dir=MEMORY) as path:
        yield Path(path)


def publish(client, body, value, header="x-deduplication-header"):
    client.publish(body, headers={header: value}, delivery_mode=2)


def test_a_duplicate_is_not_enqueued(node):
    node.queue(**DEDUPLICATING)
    client = node.client()
    for body, value in (("a", 1), ("b", 2), ("a again", 1), ("text", "1"), ("a once more", 1)):
        publish(client, body, value)
    client.publish("plain")
    client.publish("plain")
    assert node.contents() == ["a", "b", "text", "plain", "plain"]


def test_a_duplicate_of_a_consumed_message_is_not_enqueued(node):
    node.queue(**DEDUPLICATING)
    client = node.client()
    publish(client, "a", 1)
    assert client.get() == "a"
    publish(client, "a", 1)
    assert client.get() is None


def test_the_memory_of_a_cache_is_bounded_whatever_its_size(node, monkeypatch):
    monkeypatch.setattr("leveret.router.deduplication.cache.BYTES", 3 * (COST + 1000))
    node.queue(**DEDUPLICATING, cache_size=1_000_000)
    client = node.client()
    for value in "abcab":
        publish(client, value, value * 990)
    assert node.contents() == ["a", "b", "c"]
    for value in "dab":
        publish(client, value, value * 990)
    assert node.contents() == ["a", "b", "c", "d", "a", "b"]


def test_a_dead_letter_that_comes_back_is_no_duplicate(node):
    node.queue(**DEDUPLICATING, dead_letter_exchange="", dead_letter_routing_key="wait")
    node.queue("wait", message_ttl=10, dead_letter_exchange="", dead_letter_routing_key="q")
    client = node.client()
    publish(client, "a", 1)
    tag, _, _ = client.session.get("q", no_ack=False)
    client.session.nack(tag, multiple=False, requeue=False)
    node.settle()
    assert (node.contents(), node.contents("wait")) == ([], ["a"])
    node.at(20)
    assert (node.contents(), node.contents("wait")) == (["a"], [])
    publish(client, "a again", 1)
    assert node.contents() == ["a"]


def test_the_oldest_values_are_forgotten_when_there_are_too_many(node):
    node.queue(**DEDUPLICATING, cache_size=2)
    client = node.client()
    for value in (1, 2, 3, 1):
        publish(client, str(value), value)
    assert node.contents() == ["1", "2", "3", "1"]


def test_values_are_forgotten_when_their_time_is_over(node):
    node.queue(**DEDUPLICATING, cache_ttl=5000)
    client = node.client()
    for wall in (100, 104, 105):
        node.broker.wall = wall
        publish(client, str(wall), 1)
    assert node.contents() == ["100", "105"]


def test_a_message_that_a_full_queue_refused_may_be_published_again(node):
    node.queue(**DEDUPLICATING, max_length=1, overflow="reject-publish")
    client = node.client()
    publish(client, "a", 1)
    publish(client, "b", 2)
    assert client.get() == "a"
    publish(client, "b", 2)
    assert node.contents() == ["b"]


def test_the_header_may_have_another_name(node):
    node.queue(**DEDUPLICATING, deduplication_header="id")
    client = node.client()
    publish(client, "a", 1, header="id")
    publish(client, "b", 1, header="id")
    publish(client, "c", 1)
    publish(client, "d", 1)
    assert node.contents() == ["a", "c", "d"]


def test_the_cache_outlives_crashes_and_the_journal_file_it_was_in(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    kept.node.queue(durable=True, message_deduplication=True)
    kept.node.queue("other", durable=True)
    for value in range(10):
        publish(kept.client, str(value), value)
        kept.settle()
    for _ in range(2):
        kept.crash()
        kept = Kept(quick_path, journal_size=1000)
        kept.publish(*(["x"] * 50), queue="other")
        publish(kept.client, "again", 3)
        kept.settle()
        assert len(kept.node.vhost.queues["q"].ready) == 10
    kept.crash()


def test_a_duplicate_is_confirmed_when_the_first_is_on_disk_and_not_before(quick_path):
    kept = Kept(quick_path)
    kept.node.queue(durable=True, message_deduplication=True)
    kept.settle()
    other = kept.node.client()
    for each in (kept.client, other):
        each.session.select_confirms()
    publish(kept.client, "a", 1)
    kept.node.settle()  # it is being written
    publish(other, "a", 1)
    kept.node.settle()
    assert other.session.verdicts() == []
    kept.settle()
    assert other.session.verdicts() == [(1, False, True)]
    publish(other, "a", 1)
    assert other.session.verdicts() == [(2, False, True)]
    kept.crash()


def test_a_value_that_was_pushed_out_is_forgotten_on_disk_too(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    kept.node.queue(durable=True, message_deduplication=True, cache_size=3)
    for value in range(10):
        publish(kept.client, str(value), value)
        kept.settle()
    kept.crash()
    kept = Kept(quick_path, journal_size=1000)
    for value in (7, 8, 9, 6):
        publish(kept.client, "again", value)
    kept.settle()
    assert len(kept.node.vhost.queues["q"].ready) == 11
    kept.crash()


@pytest.mark.parametrize("value", [None, True, 1.5, ["a"], {"a": 1}])
def test_a_message_without_a_single_value_is_no_duplicate(node, value):
    node.queue(**DEDUPLICATING)
    client = node.client()
    publish(client, "a", value)
    publish(client, "b", value)
    assert node.contents() == ["a", "b"]
