"""Delivering all messages to the only consumer at once has the same effects as the ordinary way."""

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.queue.delivery import DRAIN_BYTES, QueueDeliveries
from leveret.router.queue.latency_probe import Probe
from tests.router.harness import START, Node


class MarkingLog:
    """A queue log that remembers what would be on disk."""

    def __init__(self):
        self.stored = set()
        self.delivered = 0
        self.returned = []

    def store(self, entry, message):
        entry.stored = True
        self.stored.add(entry.position)

    def store_all(self, entries, messages):
        for entry, message in zip(entries, messages, strict=True):
            self.store(entry, message)

    def settle(self, entries):
        self.stored -= {entry.position for entry in entries}

    def mark_delivered(self, position):
        self.delivered = max(self.delivered, position + 1)

    def mark_returned(self, entry):
        self.returned.append((entry.position, entry.returns))


class Samples:
    """A recorder of latencies."""

    def __init__(self):
        self.waits, self.settlements = [], []

    def waited(self, time):
        self.waits.append(time)

    def settled(self, consumer, time):
        self.settlements.append((consumer.tag, time))


class World:
    """A queue and two clients, to which a script of steps is done."""

    def __init__(self, probed, stored, **arguments):
        self.node = Node()
        self.queue = self.node.queue(**arguments)
        self.log = self.queue.log = MarkingLog() if stored else None
        self.samples = Samples()
        if probed:
            self.queue.probe = Probe(self.queue, self.node.broker, self.samples)
        self.clients = [self.node.client(), self.node.client()]
        self.now = 0

    def do(self, verb, which, number):
        client = self.clients[which]
        if client.session.work.unfinished is not None:
            self.node.settle()
        getattr(self, verb)(client, number)
        if number % 3:
            self.node.settle()  # else the next step is part of this batch

    def publish(self, client, number):
        for each in range(number):
            client.publish(f"{each}", delivery_mode=1 + each % 2, priority=each % 4)

    def publish_large(self, client, number):
        client.publish("x" * (DRAIN_BYTES // number))

    def publish_expiring(self, client, number):
        client.publish("short", expiration=f"{number}")

    def consume(self, client, number):
        tag = f"c{number % 2}"
        if tag not in client.session.consumers:
            client.consume(tag=tag, prefetch=number % 4, no_ack=number % 5 == 0)

    def cancel(self, client, number):
        client.session.cancel(f"c{number % 2}")

    def share(self, client, number):
        if not self.queue.quorum:  # which does not support it
            client.session.set_prefetch(number % 3, shared=True)

    def held(self, client, number):
        return [tag for tag, _ in client.session.unacked][:number]

    def ack(self, client, number):
        for tag in self.held(client, number):
            client.session.ack(tag, multiple=False)

    def ack_each(self, client, number):
        client.session.ack_each(self.held(client, number))

    def ack_through(self, client, number):
        for tag in self.held(client, number)[-1:]:
            client.session.ack(tag, multiple=True)

    def requeue(self, client, number):
        client.session.nack_each(self.held(client, number), requeue=True)

    def reject(self, client, number):
        client.session.nack_each(self.held(client, number), requeue=False)

    def fill(self, client, number):
        client.room = number % 2 == 0
        if client.room:
            client.session.deliveries.wake()

    def get(self, client, number):
        client.get(no_ack=number % 2 == 0)

    def purge(self, client, number):
        self.queue.purge()

    def wait(self, client, number):
        self.now += 30 * number
        self.node.at(self.now)

    def state(self):
        """All that a client, an administrator or the disk could notice."""
        self.node.settle()
        queue, log = self.queue, self.log
        assert not any(each.crashed or each.failed for each in self.clients)
        return {
            "clients": [
                (
                    [
                        (tag, number, entry.message.body, entry.position)
                        for tag, number, entry in each.delivered
                    ],
                    each.redelivered,
                    [(tag, held[2].position) for tag, held in each.session.unacked],
                    each.session.deliveries.outstanding,
                    [(c.tag, c.unacked, c.ready, c.starving > 0, c.redelivered) for c in queue.consumers],
                )
                for each in self.clients
            ],
            "ready": [entry.position for entry in queue.ready],
            "bytes": queue.bytes,
            "unacked": queue.unacked,
            "counts": [getattr(queue.counts, name) for name in queue.counts.__slots__],
            "held": sorted(queue.held),
            "log": log and (log.stored, log.delivered, log.returned),
            "samples": (self.samples.waits, self.samples.settlements),
        }


VERBS = [
    *("publish",) * 3,
    *("consume",) * 2,
    *("ack",) * 2,
    *("publish_large", "publish_expiring", "cancel", "share", "ack_each", "ack_through", "requeue"),
    *("reject", "fill", "get", "purge", "wait"),
]
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 1), st.integers(1, 7)), max_size=30)
KINDS = [
    {},
    {"max_length": 5},
    {"max_length": 5, "overflow": "reject-publish"},
    {"message_ttl": 50},
    {"max_priority": 3},
    {"single_active_consumer": True},
    {"queue_type": "quorum", "delivery_limit": 2},
]


@pytest.mark.parametrize("arguments", KINDS, ids=str)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS, probed=st.booleans(), stored=st.booleans())
def test_delivering_all_at_once_changes_nothing(arguments, steps, probed, stored):
    fast, ordinary = World(probed, stored, **arguments), World(probed, stored, **arguments)
    for step in steps:
        fast.do(*step)
        with patch.object(QueueDeliveries, "_deliver_all", lambda *_: False):
            ordinary.do(*step)
            expected = ordinary.state()
        assert fast.state() == expected, step


def delivered_at_once(node):
    """Return the list that the results of further attempts to deliver all at once are added to."""
    results = []
    attempt = QueueDeliveries._deliver_all

    def remember(*args):
        results.append(attempt(*args))
        return results[-1]

    return results, patch.object(QueueDeliveries, "_deliver_all", remember)


@pytest.mark.parametrize("options", [{"no_ack": True}, {"prefetch": 10}, {}], ids=str)
def test_the_only_consumer_gets_all_messages_at_once(node, options):
    node.queue()
    client = node.client()
    client.consume(**options)
    node.settle()
    results, attempts = delivered_at_once(node)
    with attempts:
        for number in range(3):
            client.publish(f"{number}")
        assert client.take() == ["0", "1", "2"]
    assert results == [True]


def test_a_consumer_with_less_room_does_not_get_all_at_once(node):
    node.queue()
    client = node.client()
    client.consume(prefetch=2)
    node.settle()
    results, attempts = delivered_at_once(node)
    with attempts:
        for number in range(3):
            client.publish(f"{number}")
        assert client.take() == ["0", "1"]
    assert results == [False]


def test_a_message_is_sampled_although_others_are_delivered_at_once(node):
    queue, samples = node.queue(), Samples()
    queue.probe = Probe(queue, node.broker, samples)
    client = node.client()
    client.consume(no_ack=True)
    for now in (0, 100, 300):
        node.broker.now = START + now
        client.publish("x")
        node.settle()
    assert samples.waits == [0, 0]  # the second is too early
