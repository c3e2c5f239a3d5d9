"""Queues, exchanges and streams deduplicate alike: one table of cases for all three."""

import tempfile
from pathlib import Path

import pytest

from leveret.router.queue.admission import AdmissionLimits
from leveret.router.stream.packer import Packer
from tests.router.store.kept import Kept
from tests.router.store.small import MEMORY

SWITCH = {"x-message-deduplication": True}
ID = "x-deduplication-header"


class DeduplicatingQueue:
    exchange, key, queue = "", "q", "q"
    stores = AdmissionLimits, "deadline"  # called for each message that is accepted

    def declare(self, node):
        node.queue("q", durable=True, message_deduplication=True)

    def headers(self, number):
        return {ID: number}

    def deduplicator(self, node):
        return node.vhost.queues["q"].deduplication


class DeduplicatingExchange(DeduplicatingQueue):
    exchange = "x"

    def declare(self, node):
        exchange = node.vhost.declare_exchange("x", "direct", durable=True, arguments=SWITCH)
        node.vhost.bind(exchange, node.queue("q", durable=True, message_ttl=10**9), "q")

    def deduplicator(self, node):
        return node.vhost.exchanges["x"].deduplication


class DeduplicatingStream(DeduplicatingQueue):
    key = queue = "s"
    stores = Packer, "add"

    def declare(self, node):
        node.queue("s", queue_type="stream", durable=True)

    def headers(self, number):
        return {"x-publisher-name": "p", "x-publishing-id": number}

    def deduplicator(self, node):
        return node.vhost.queues["s"].publishers


USERS = [DeduplicatingQueue, DeduplicatingExchange, DeduplicatingStream]


class Broker(Kept):
    """A broker with one user of deduplication, whose client has publisher confirms."""

    def __init__(self, path, user):
        super().__init__(path, journal_size=1000)
        self.user = user
        self.client.session.select_confirms()

    def publish(self, *numbers, client=None, **properties):
        """Publish a message with each of these ids; one with None has no id."""
        user = self.user
        for number in numbers:
            headers = {"n": 1} if number is None else user.headers(number)
            (client or self.client).publish(
                str(number), user.key, user.exchange, headers=headers, delivery_mode=2, **properties
            )

    @property
    def stored(self):
        """How many messages were accepted."""
        return len(self.node.vhost.queues[self.user.queue].ready)

    def restarted(self):
        self.crash()
        return Broker(self.directory.path, self.user)


@pytest.fixture(params=USERS, ids=lambda user: user.__name__)
def broker(request):
    with tempfile.TemporaryDirectory(prefix="leveret-store-", dir=MEMORY) as path:
        broker = Broker(Path(path), request.param())
        broker.user.declare(broker.node)
        broker.settle()
        yield broker


def test_every_user_implements_the_interface(broker):
    assert type(broker.user.deduplicator(broker.node)).admit.__module__.endswith("deduplicator")
    assert broker.user.deduplicator(broker.node).notes is not None
    broker.crash()


@pytest.mark.parametrize(
    ("numbers", "accepted"),
    [
        ((1, 2, 3), 3),
        ((1, 1), 1),
        ((1, 2, 1, 2, 3), 3),
        ((None, None), 2),
        ((1, None, 1, None), 3),
    ],
    ids=str,
)
def test_each_id_is_accepted_once_and_every_message_is_confirmed(broker, numbers, accepted):
    broker.publish(*numbers, mandatory=True)
    broker.settle()
    assert broker.stored == accepted
    assert broker.client.session.verdicts() == [(len(numbers), len(numbers) > 1, True)]
    assert broker.client.back == []
    broker.crash()


def test_a_duplicate_is_confirmed_when_the_first_message_is_on_disk_and_not_before(broker):
    other = broker.node.client()
    other.session.select_confirms()
    broker.publish(1)
    broker.node.settle()  # it is being written
    broker.publish(1, client=other)
    broker.node.settle()
    assert other.session.verdicts() == []
    broker.settle()
    assert other.session.verdicts() == [(1, False, True)]
    broker.publish(1, client=other)
    assert other.session.verdicts() == [(2, False, True)]
    broker.crash()


def test_ids_are_remembered_across_restarts_and_journal_files(broker):
    broker.publish(1, 2)
    broker.settle()
    for number in (3, 4):
        broker = broker.restarted()
        broker.publish(1, 2, number - 1, number)
        broker.settle()
        assert broker.stored == number
    broker.crash()


def test_a_message_that_could_not_be_stored_may_be_published_again(broker, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    with monkeypatch.context() as failing:
        failing.setattr(*broker.user.stores, fail)
        with pytest.raises(RuntimeError):
            broker.publish(1)
    broker.publish(1, 1)
    broker.settle()
    assert broker.stored == 1
    broker.crash()


def test_a_dead_letter_is_never_a_duplicate(broker):
    user = broker.user
    broker.node.queue(
        "wait",
        durable=True,
        message_ttl=10,
        dead_letter_exchange=user.exchange,
        dead_letter_routing_key=user.key,
    )
    broker.publish(1)
    broker.client.publish("1", "wait", headers=user.headers(1), delivery_mode=2)
    broker.node.at(20)
    broker.settle()
    assert broker.stored == 2
    broker.crash()
