"""Messages held too long, through sessions."""

import pytest

from leveret.router.queue.queue import Queue
from leveret.router.settings import QueueSettings
from tests.router.harness import Node

TIMEOUT = 10_000
TICK = TIMEOUT // 4


@pytest.fixture
def node():
    return Node(queue=QueueSettings(consumer_timeout=TIMEOUT))


def hold(node, client, queue="q", how="consume", **arguments):
    if queue not in node.vhost.queues:
        node.queue(queue, **arguments)
    client.publish("a", queue)
    if how == "consume":
        client.consume(queue, f"consumer of {queue}")
    else:
        client.get(queue, no_ack=False)
    node.settle()


def failures(client):
    return [str(error) for error in client.failed]


@pytest.mark.parametrize("how", ["consume", "get"])
def test_a_session_ends_that_holds_a_message_too_long(node, how):
    client = node.client()
    hold(node, client, how=how)
    node.at(TIMEOUT - 1)
    assert failures(client) == []
    node.at(TIMEOUT + 2 * TICK)
    (text,) = failures(client)
    assert text.startswith("PRECONDITION_FAILED - delivery acknowledgement on channel")
    assert f"timed out. Timeout value used: {TIMEOUT} ms." in text
    assert node.contents() == ["a"]


def test_settling_in_time_keeps_the_session(node):
    client = node.client()
    hold(node, client)
    for round_ in range(1, 20):
        node.at(round_ * TIMEOUT // 2)
        client.session.ack(round_, multiple=False)
        client.publish("a")
        node.settle()
    assert failures(client) == []


def test_one_old_message_counts_however_many_newer_are_settled(node):
    client = node.client()
    hold(node, client)
    for tag in range(2, 60):
        client.publish("a")
        node.at(tag * 200)
        client.session.ack(tag, multiple=False)
    node.at(TIMEOUT + 2 * TICK)
    assert len(failures(client)) == 1


def test_automatic_acknowledgement_knows_no_timeout(node):
    node.queue()
    client = node.client()
    client.consume(no_ack=True)
    client.publish("a")
    node.at(5 * TIMEOUT)
    assert failures(client) == []


def test_a_queue_may_have_a_timeout_of_its_own(node):
    client = node.client()
    hold(node, client, "slow", consumer_timeout=10 * TIMEOUT)
    hold(node, client, "quick", consumer_timeout=1000)
    node.at(1500)
    assert "Timeout value used: 1000 ms" in failures(client)[0]


def test_a_longer_timeout_of_an_older_message_hides_no_shorter_one(node):
    client = node.client()
    hold(node, client, "slow", consumer_timeout=10 * TIMEOUT)
    node.at(3 * TIMEOUT)
    assert failures(client) == []
    hold(node, client, "quick")
    node.at(4 * TIMEOUT + 2 * TICK)
    assert f"Timeout value used: {TIMEOUT} ms" in failures(client)[0]


def test_a_timeout_of_0_is_for_ever(node):
    client = node.client()
    hold(node, client, consumer_timeout=0)
    node.at(100 * TIMEOUT)
    assert failures(client) == []


def test_a_policy_sets_the_timeout_of_existing_consumers(node):
    client = node.client()
    hold(node, client)
    node.vhost.policies.put("p", "^q$", {"consumer-timeout": 3000})
    node.vhost.apply_policies()
    node.at(3000 + 2 * TICK)
    assert "Timeout value used: 3000 ms" in failures(client)[0]


def test_looks_do_not_pile_up(node):
    client = node.client()
    for number in range(50):
        hold(node, client, f"q{number}", "get", consumer_timeout=10**9 - number * 10**6)
    node.at(100 * TIMEOUT)
    assert len(node.broker.timers) <= 50
    assert len(client.session.deliveries._timeouts._marks) <= 256


def test_deleted_queues_are_forgotten(node):
    client = node.client()
    for number in range(20):
        hold(node, client, f"q{number}", "get")
        client.session.ack(number + 1, multiple=False)
        node.vhost.delete_queue(node.vhost.queue(f"q{number}"))
    node.at(2 * TICK)
    watched: dict[Queue, None] = client.session.deliveries._timeouts._queues
    assert not watched


def test_a_closed_session_is_left_alone(node):
    client = node.client()
    hold(node, client, how="get")
    client.session.close()
    node.at(5 * TIMEOUT)
    assert failures(client) == []
