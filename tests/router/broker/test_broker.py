"""Virtual hosts, and the order of a batch."""

from math import inf

import pytest

from leveret.protocol.errors import NotAllowed
from leveret.router.broker.broker import Broker
from leveret.router.settings import Settings
from tests.router.harness import START, Node


@pytest.fixture
def node():
    return Node()


def test_virtual_hosts_are_made_once_and_found_by_name(node):
    assert node.broker.add_vhost("/") is node.vhost
    assert node.broker.vhost("/") is node.vhost
    with pytest.raises(NotAllowed, match="NOT_ALLOWED - vhost nope not found"):
        node.broker.vhost("nope")


def test_virtual_hosts_share_nothing(node):
    other = node.broker.add_vhost("other")
    node.queue()
    assert "q" not in other.queues
    node.client().publish("a")
    assert node.contents() == ["a"]


def test_deliveries_wait_for_the_end_of_the_batch(node):
    node.queue()
    client = node.client()
    client.consume()
    client.publish("a")
    assert client.seen() == []
    assert node.broker.scheduler.end_batch() is False
    assert client.seen() == ["a"]


def test_a_flush_without_anything_to_do_does_nothing(node):
    assert node.broker.scheduler.end_batch() is False


def test_dead_letters_are_delivered_in_the_flush_that_made_them(node):
    node.queue("letters")
    node.queue(max_length=0, dead_letter_exchange="", dead_letter_routing_key="letters")
    client = node.client()
    client.consume("letters")
    client.publish("a")
    node.broker.scheduler.end_batch()
    assert client.seen() == ["a"]


def test_a_delivery_that_fails_ends_only_its_client(node):
    clients = []
    for name in ("a", "b", "c"):
        node.queue(name)
        client = node.client()
        client.consume(name)
        clients.append(client)
    publisher = node.client()
    for name in ("a", "b", "c"):
        publisher.publish(name, name)

    def deliver(receiver, first, entries):
        raise RuntimeError("broken")

    clients[0].write_deliveries = deliver
    assert node.broker.scheduler.end_batch() is False
    assert [len(client.crashed) for client in clients] == [1, 0, 0]
    assert node.contents("a") == ["a"]
    assert [client.seen() for client in clients[1:]] == [["b"], ["c"]]
    publisher.publish("again", "b")
    node.broker.scheduler.end_batch()
    assert clients[1].seen() == ["b", "again"]


def test_timers_are_called_with_the_time_of_the_batch(node):
    node.queue(expires=50)
    node.broker.now = START + 50
    node.broker.on_timers()
    assert "q" not in node.vhost.queues


class Told:
    """A client that counts notifications, or raises in them."""

    def __init__(self, *, fails=False):
        self.fails = fails
        self.times = 0
        self.crashed = []

    def tell(self, *, settled_early):
        self.times += 1
        if self.fails:
            raise RuntimeError("a bug")
        return False

    def crash(self, error):
        self.crashed.append(error)


class Waiting(Told):
    """A client whose confirms wait for another commit."""

    early = 0

    def tell(self, *, settled_early):
        self.early += settled_early
        return not super().tell(settled_early=settled_early)


def test_many_clients_are_notified_of_a_commit_in_several_turns():
    broker = Broker(Settings())
    clients = [Waiting() for _ in range(100)]
    for client in clients:
        broker.commit_waiters.add(client)
    broker.scheduler.end_batch()
    assert {client.times for client in clients} == {1}
    broker.budget.clock = lambda: inf  # one slice a turn
    broker.notify_committed()
    assert 0 < sum(client.times == 2 for client in clients) < 50
    broker.notify_committed()  # the clients that wait longest come first
    while any(client.times < 2 for client in clients):
        assert max(client.times for client in clients) == 2
        broker.backlog.run()
    broker.commit_waiters.settled_early = True
    broker.commit_waiters.end_batch()
    while broker.backlog.works:
        broker.backlog.run()
    assert {client.early for client in clients} == {1}


def test_a_client_whose_confirms_fail_crashes_alone():
    broker = Broker(Settings())
    bad, good = Told(fails=True), Told()
    broker.commit_waiters.add(bad)
    broker.commit_waiters.add(good)
    broker.scheduler.end_batch()
    assert [str(error) for error in bad.crashed] == ["a bug"]
    assert (good.times, good.crashed) == (1, [])
    broker.notify_committed()
    assert bad.times == 1
