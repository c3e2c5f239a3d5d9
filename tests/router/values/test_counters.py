"""Counters on the way of a message."""

import pytest

from tests.router.harness import Node


@pytest.fixture
def node():
    made = Node()
    made.queue("q")
    return made


def counted(given):
    return {name: getattr(given, name) for name in given.__slots__ if getattr(given, name)}


def test_queue_counts_what_came_and_what_was_delivered(node):
    client = node.client()
    for number in range(5):
        client.publish(str(number))
    client.consume(prefetch=3)
    node.settle()
    queue = node.vhost.queues["q"]
    assert queue.published == 5
    assert counted(queue.counts) == counted(client.session.delivery_counters) == {"deliver": 3}
    client.session.ack(2, multiple=True)
    node.settle()
    assert queue.acknowledged == 2
    assert client.session.delivery_counters.acknowledged(len(client.session.unacked)) == 2


def test_automatic_acknowledgement_is_counted_apart(node):
    client = node.client()
    client.publish("a")
    client.consume(no_ack=True)
    node.settle()
    queue = node.vhost.queues["q"]
    assert counted(queue.counts) == counted(client.session.delivery_counters) == {"deliver_no_ack": 1}
    assert queue.acknowledged == 0


def test_redelivery_is_counted_for_queue_and_session(node):
    client = node.client()
    client.publish("a")
    client.publish("b")
    client.consume("q", "c", prefetch=1)
    node.settle()
    client.session.nack(1, multiple=False, requeue=True)
    node.settle()
    client.session.ack(2, multiple=False)
    node.settle()
    queue = node.vhost.queues["q"]
    assert counted(queue.counts) == {"deliver": 3, "redeliver": 1, "back": 1}
    client.session.cancel("c")
    assert client.session.delivery_counters.redeliver == 1
    assert queue.acknowledged == 1


def test_rejected_messages_count_as_no_acknowledgement(node):
    client = node.client()
    client.publish("a")
    client.consume()
    node.settle()
    client.session.nack(1, multiple=False, requeue=False)
    queue = node.vhost.queues["q"]
    assert queue.acknowledged == client.session.delivery_counters.acknowledged(0) == 0


def test_gets_are_counted_with_those_that_found_nothing(node):
    client = node.client()
    client.publish("a")
    client.publish("b")
    client.get(no_ack=True)
    client.get(no_ack=False)
    assert client.get() is None
    expected = {"get_no_ack": 1, "get": 1, "get_empty": 1}
    assert counted(node.vhost.queues["q"].counts) == counted(client.session.delivery_counters) == expected


def test_session_counts_what_it_publishes_and_what_went_nowhere(node):
    client = node.client()
    client.session.select_confirms()
    client.publish("a")
    client.publish("b", "nowhere")
    client.publish("c", "nowhere", mandatory=True)
    node.settle()
    client.session.verdicts()
    published = client.session.published
    assert (published.publish, published.confirm) == (3, 3)
    assert (published.drop_unroutable, published.return_unroutable) == (1, 1)


def test_exchange_counts_messages_and_their_copies(node):
    client = node.client()
    exchange = node.vhost.declare_exchange("x", "topic")
    for name in ("q1", "q2"):
        node.vhost.bind(exchange, node.queue(name), "a.#")
    node.vhost.bind(exchange, node.queue("q3"), "a.#", {"x-selector": "n > 1"})
    client.publish("1", "a", "x", headers={"n": 2})
    node.vhost.routes.count()
    assert (exchange.published, exchange.routed) == (1, 3)
    node.vhost.unbind(exchange, node.vhost.queues["q3"], "a.#", {"x-selector": "n > 1"})
    client.publish("2", "a", "x")  # a plan that holds its queues
    client.publish("3", "a", "x", headers={"CC": ["b"]})
    node.vhost.bind(exchange, node.queue("q4"), "b")
    client.publish("4", "a", "x", headers={"CC": ["b"]})  # another plan for the same route
    node.vhost.routes.count()
    assert (exchange.published, exchange.routed) == (4, 3 + 2 + 2 + 3)


def test_what_a_session_did_outlives_it(node):
    client = node.client()
    client.publish("a")
    client.publish("b")
    client.consume()
    node.settle()
    client.session.ack(1, multiple=False)
    client.session.close()
    past = node.vhost.past
    assert (past.published.publish, past.delivery_counters.deliver, past.ack) == (2, 2, 1)


def test_churn_counts_queues_and_sessions(node):
    churn = node.broker.churn
    before = churn.queue_declared, churn.queue_created, churn.channel_created
    client = node.client()
    node.queue("q")
    node.vhost.delete_queue(node.queue("new"))
    client.session.close()
    assert (churn.queue_declared, churn.queue_created) == (before[0] + 2, before[1] + 1)
    assert (churn.queue_deleted, churn.channel_created, churn.channel_closed) == (1, before[2] + 1, 1)
