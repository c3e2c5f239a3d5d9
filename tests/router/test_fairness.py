"""Fair shares of a limit: when messages may be received again, the client served longest ago comes first.

Each test lets clients with backlogs compete; each must get at least half of an equal share.
"""

from collections import Counter

import pytest

from leveret.protocol.amqp import methods as m
from leveret.router.queue.consumers import Consumer
from tests.router.amqp.client import publish
from tests.router.amqp.world import World
from tests.router.harness import Node
from tests.router.stomp.client import StompClient

BACKLOG = 400


def assert_fair(shares, sharers):
    """Everybody has at least half of what all would have if they had the same."""
    least = sum(shares.values()) / len(sharers) / 2
    assert {each: shares[each] for each in sharers if shares[each] < least} == {}, shares


@pytest.fixture
def node():
    return Node()


def fill(node, queue, count=BACKLOG):
    client = node.client()
    for number in range(count):
        client.publish(f"{number}", key=queue)
    node.settle()


def work(node, client, messages, *, at_once=1):
    """Have a client settle what it was given, ``at_once`` messages in a batch; whose deliveries they were."""
    shares, done = Counter(), 0
    node.settle()
    while done < messages:
        given = client.delivered[done : done + at_once]
        assert given, "nobody is served"
        for tag, number, _ in given:
            shares[tag] += 1
            client.session.ack(number, multiple=False)
        done += len(given)
        node.settle()
    return shares


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 5, 50])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_queues_that_share_a_prefetch_count(node, count, prefetch, at_once):
    client, names = node.client(), [f"q{number}" for number in range(count)]
    for name in names:
        node.queue(name)
        fill(node, name)
    client.session.set_prefetch(prefetch, shared=True)
    for name in names:
        client.session.consume(name, name)
    assert_fair(work(node, client, 6 * max(prefetch, count), at_once=at_once), names)


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 5, 50])
def test_consumers_of_one_queue_that_share_a_prefetch_count(node, prefetch, at_once):
    client, tags = node.client(), ["a", "b", "c"]
    node.queue()
    fill(node, "q", 2000)
    client.session.set_prefetch(prefetch, shared=True)
    for tag in tags:
        client.session.consume("q", tag)
    assert_fair(work(node, client, 6 * max(prefetch, 3), at_once=at_once), tags)


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize("prefetch", [2, 5, 12])
@pytest.mark.parametrize("queues", [1, 3])
def test_the_first_consumer_gets_only_its_first_messages_before_the_others(node, queues, prefetch, at_once):
    client, tags = node.client(), ["a", "b", "c"]
    names = [f"q{number % queues}" for number in range(3)]
    for name in dict.fromkeys(names):
        node.queue(name)
        fill(node, name)
    client.session.set_prefetch(prefetch, shared=True)
    for name, tag in zip(names, tags, strict=True):
        client.session.consume(name, tag)
        node.settle()  # the first gets all that the channel may hold
    shares = work(node, client, 60, at_once=min(at_once, prefetch))
    assert max(shares.values()) - min(shares[tag] for tag in tags) <= prefetch + 1, shares


def test_room_that_one_queue_does_not_need_is_anothers(node):
    client = node.client()
    client.session.set_prefetch(6, shared=True)
    for name in "abc":
        node.queue(name)
        client.session.consume(name, name)
    fill(node, "a", 6)
    fill(node, "b", 40)
    fill(node, "c", 1)
    shares = work(node, client, 47, at_once=6)
    assert shares == {"a": 6, "b": 40, "c": 1}


def test_consumers_with_a_count_of_their_own_share_that_of_their_channel(node):
    client = node.client()
    client.session.set_prefetch(4, shared=True)
    client.session.set_prefetch(2, shared=False)
    for name in "abc":
        node.queue(name)
        fill(node, name)
        client.session.consume(name, name)
    assert_fair(work(node, client, 60, at_once=2), "abc")


def test_many_consumers_that_share_a_count_are_woken_one_for_each_message(node, monkeypatch):
    client = node.client()
    node.queue()
    client.session.set_prefetch(1, shared=True)
    for number in range(500):
        client.session.consume("q", str(number))
    fill(node, "q")
    woken = []
    wake = Consumer.wake
    monkeypatch.setattr(Consumer, "wake", lambda consumer: (woken.append(consumer), wake(consumer)))
    shares = work(node, client, 100)
    assert max(shares.values()) == 1
    assert len(woken) < 300


RETURNS = {
    "nack": lambda session, tags: session.nack(tags[-1], multiple=True, requeue=True),
    "nack each": lambda session, tags: session.nack_each(tags, requeue=True),
    "recover": lambda session, tags: session.recover(),
}


@pytest.mark.parametrize("verb", RETURNS)
@pytest.mark.parametrize("prefetch", [1, 3])
def test_queues_whose_messages_return_share_a_prefetch_count(node, prefetch, verb):
    client, names = node.client(), ["a", "b", "c"]
    for name in names:
        node.queue(name)
        fill(node, name, prefetch)
    client.session.set_prefetch(prefetch, shared=True)
    for name in names:
        client.session.consume(name, name)
    shares = Counter()
    node.settle()
    for _ in range(60):
        given, client.delivered = client.delivered, []
        assert given, "nobody is served"
        shares.update(tag for tag, _, _ in given)
        RETURNS[verb](client.session, [number for _, number, _ in given])
        node.settle()
    assert_fair(shares, names)


def test_a_queue_that_is_filled_late_gets_its_share_of_a_prefetch_count(node):
    client = node.client()
    for name in ("full", "late"):
        node.queue(name)
    fill(node, "full")
    client.session.set_prefetch(3, shared=True)
    for name in ("full", "late"):
        client.session.consume(name, name)
    assert work(node, client, 50) == {"full": 50}
    fill(node, "late")
    client.delivered = client.delivered[50:]
    assert_fair(work(node, client, 100), ["full", "late"])


def test_a_consumer_that_comes_late_stands_behind_one_that_waits(node):
    """As in RabbitMQ: ``consuming/global_prefetch_counts_for_the_channel`` of the conformance scenarios."""
    client = node.client()
    node.queue()
    fill(node, "q")
    client.session.set_prefetch(3, shared=True)
    client.session.consume("q", "first")
    node.settle()
    client.session.consume("q", "late")
    node.settle()
    client.session.ack(1, multiple=False)
    node.settle()
    assert [tag for tag, _, _ in client.delivered] == ["first"] * 4


def test_a_priority_goes_before_a_share(node):
    client = node.client()
    node.queue()
    fill(node, "q")
    client.session.set_prefetch(2, shared=True)
    client.session.consume("q", "low")
    client.session.consume("q", "high", arguments={"x-priority": 1})
    assert work(node, client, 60)["low"] <= 2  # which it had before the other came


def test_a_priority_in_one_queue_takes_nothing_from_another_queue(node):
    client = node.client()
    for name in ("q", "r"):
        node.queue(name)
        fill(node, name)
    client.session.set_prefetch(2, shared=True)
    client.session.consume("r", "other")
    client.session.consume("q", "high", arguments={"x-priority": 1})
    assert_fair(work(node, client, 60), ["other", "high"])


# -- an outbox --------------------------------------------------------------------------------------------

HIGH = 4000  # bytes: a slice of messages is more


def narrow(outbox):
    """Have an outbox take no deliveries while so much waits in it."""
    outbox.writable = lambda: sum(map(len, outbox.data)) < HIGH


def backlog(world, *names):
    publisher = world.connect()
    for name in names:
        publisher.do(m.QueueDeclare(name))
        for _ in range(20):
            publisher.send(*[publish(name, b"x" * 50) for _ in range(BACKLOG)])


def drain(client, rounds):
    """Read what waits, so often; how many deliveries came by consumer."""
    shares = Counter()
    for _ in range(rounds):
        while (found := client.next()) is not None:
            shares[found[1].method.consumer_tag] += 1
        client.transport.connection.drained()
        client.transport._world.flush()
    return shares


@pytest.mark.parametrize("idle", [0, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_consumers_of_one_connection_share_its_outbox(channels, idle):
    world, names = World(), ["q", "r", "s"]
    backlog(world, *names)
    client = world.connect(channels=channels + idle)
    narrow(client.transport.outbox)
    for number, name in enumerate(names):
        client.do(m.BasicConsume(name, name, no_ack=True, nowait=True), channel=idle + 1 + number % channels)
    assert_fair(drain(client, 12), names)


def test_subscriptions_of_one_stomp_connection_share_its_outbox():
    world, names = World(), ["q", "r", "s"]
    backlog(world, *names)
    client = StompClient(world).open()
    narrow(client.outbox)
    for name in names:
        client.send("SUBSCRIBE", destination=f"/amq/queue/{name}", id=name)
    shares = Counter()
    for _ in range(12):
        shares.update(frame.headers["subscription"] for frame in client.received())
        client.connection.drained()
        world.flush()
    assert_fair(shares, names)


# -- turns ---------------------------------------------------------------------------------------------------


def test_virtual_hosts_share_the_turns_of_the_broker(node):
    """Both have more than one turn delivers."""
    other = Node.__new__(Node)
    other.broker, other.vhost = node.broker, node.broker.add_vhost("other")
    clients = {}
    for name, place in (("/", node), ("other", other)):
        place.queue()
        fill(place, "q", 6000)
        clients[name] = place.client()
    for client in clients.values():
        client.consume(no_ack=True)
    for _ in range(4):
        node.broker.scheduler.end_batch()
    assert_fair(Counter({name: len(client.delivered) for name, client in clients.items()}), ["/", "other"])
