"""Queues, dead letters, deadlines and readers of streams after an exception in the broker's code."""

import pytest

from leveret.router.broker.recovery import AGAIN, TRIES, queues_in
from leveret.router.queue.admission import AdmissionLimits
from leveret.router.queue.queue import Queue
from leveret.router.stream.packer import Packer
from leveret.router.stream.serving import Serving
from leveret.router.vhost import dead_letters
from tests.router.store.kept import Kept


class Bug(Exception):
    """A bug of the broker."""


def failing(function, times, when=lambda *_: True):
    """Return ``function``, which raises the first ``times`` times that it is called like ``when``."""
    left = [times]

    def wrapper(*args, **options):
        if left[0] and when(*args):
            left[0] -= 1
            raise Bug
        return function(*args, **options)

    return wrapper


@pytest.fixture
def kept(quick_path):
    kept = Kept(quick_path)
    kept.node.queue("q", durable=True)
    kept.node.queue("other", durable=True)
    kept.settle()
    yield kept
    kept.crash()


def pass_time(kept, ms):
    kept.node.broker.now += ms
    kept.node.broker.on_timers()
    kept.settle()


ALL_AT_ONCE = "_deliver_all"  # how a queue delivers to its only consumer


def fail_in(monkeypatch, step, times, when=None):
    """Have this step of a delivery fail, and no other way be taken."""
    if step != ALL_AT_ONCE:
        monkeypatch.setattr(Queue, ALL_AT_ONCE, lambda *_: False)
    options = () if when is None else (when,)
    monkeypatch.setattr(Queue, step, failing(getattr(Queue, step), times, *options))


@pytest.mark.slow
@pytest.mark.parametrize("step", ["take", ALL_AT_ONCE])
def test_a_queue_whose_deliveries_always_fail_stops_the_broker_when_others_have_delivered(
    kept, monkeypatch, step
):
    consumer, bystander = kept.node.client(), kept.node.client()
    consumer.consume("q")
    bystander.consume("other")
    kept.settle()
    fail_in(monkeypatch, step, 1000, lambda queue, *_: queue.name == "q")
    kept.client.publish("1", "q", delivery_mode=2)
    kept.client.publish("2", "other", delivery_mode=2)
    assert kept.node.broker.scheduler.end_batch()
    assert bystander.seen() == ["2"]
    turns = kept.node.settle()
    assert isinstance(kept.store.broken, Bug)
    assert turns <= 2 * TRIES
    monkeypatch.undo()
    assert not bystander.session.finished


@pytest.mark.slow
@pytest.mark.parametrize("step", ["assign", ALL_AT_ONCE])
def test_a_queue_whose_deliveries_fail_now_and_then_goes_on(kept, monkeypatch, step):
    consumer = kept.node.client()
    consumer.consume("q")
    for number in range(2 * TRIES):
        fail_in(monkeypatch, step, 1)
        kept.client.publish(str(number), "q", delivery_mode=2)
        kept.settle()
        monkeypatch.undo()
    assert consumer.seen() == [str(number) for number in range(2 * TRIES)]
    assert kept.node.vhost.queues["q"].unacked == 2 * TRIES
    assert kept.store.broken is None


def test_messages_keep_their_order_when_a_delivery_fails(kept, monkeypatch):
    consumers = [kept.node.client() for _ in range(3)]
    for tag, consumer in enumerate(consumers):
        consumer.consume("q", str(tag), prefetch=2)
    kept.settle()
    monkeypatch.setattr(Queue, "assign", failing(Queue.assign, 1, lambda _, each, *__: each.tag == "1"))
    for number in range(6):
        kept.client.publish(str(number), "q", delivery_mode=2)
    kept.settle()
    assert sorted(body for consumer in consumers for body in consumer.seen()) == list("012345")
    for consumer in consumers:
        assert consumer.seen() == sorted(consumer.seen())
        assert not consumer.session.finished


def test_a_dead_letter_that_fails_is_published_later_and_kept_until_then(kept, monkeypatch):
    kept.node.queue("from", durable=True, dead_letter_exchange="", dead_letter_routing_key="other")
    kept.settle()
    monkeypatch.setattr(dead_letters, "make_letter", failing(dead_letters.make_letter, 2))
    kept.client.publish("m", "from", delivery_mode=2)
    kept.settle()
    tag, _, _ = kept.get("from", no_ack=False)
    kept.client.session.nack(tag, multiple=False, requeue=False)
    kept.settle()
    assert kept.node.contents("other") == []
    assert len(kept.node.vhost.queues["from"].held) == 1
    pass_time(kept, AGAIN)
    assert kept.node.contents("other") == []
    pass_time(kept, AGAIN)
    assert kept.node.contents("other") == []
    pass_time(kept, AGAIN)
    assert kept.node.contents("other") == ["m"]
    assert kept.node.vhost.queues["from"].held == {}
    kept.settle()
    assert kept.node.broker.recovery._retries == {}
    assert kept.node.broker.recovery._delays == {}


def test_a_dead_letter_that_cannot_be_published_is_in_its_queue_after_a_restart(quick_path, monkeypatch):
    kept = Kept(quick_path)
    kept.node.queue("from", durable=True, dead_letter_exchange="", dead_letter_routing_key="other")
    kept.settle()
    monkeypatch.setattr(dead_letters, "make_letter", failing(dead_letters.make_letter, 100))
    kept.client.publish("m", "from", delivery_mode=2)
    kept.settle()
    tag, _, _ = kept.get("from", no_ack=False)
    kept.client.session.nack(tag, multiple=False, requeue=False)
    kept.settle()
    kept.crash()
    again = Kept(quick_path)
    assert again.node.contents("from") == ["m"]
    again.crash()


def test_a_deadline_that_raises_keeps_no_other_waiting_and_comes_again(kept, monkeypatch):
    for name in ("q", "other"):
        kept.client.publish("m", name, expiration="100")
    kept.settle()
    monkeypatch.setattr(Queue, "_expire", failing(Queue._expire, 1))
    pass_time(kept, 101)
    assert sorted(len(kept.node.vhost.queues[name].ready) for name in ("q", "other")) in ([0, 0], [0, 1])
    pass_time(kept, 2000)
    assert [len(kept.node.vhost.queues[name].ready) for name in ("q", "other")] == [0, 0]


@pytest.mark.parametrize("where", ["ready", "log"])
def test_a_publish_that_failed_is_no_duplicate_when_it_comes_again(kept, monkeypatch, where):
    queue = kept.node.queue("once", durable=True, message_deduplication=True)
    kept.settle()
    target, name = (type(queue.ready), "push") if where == "ready" else (AdmissionLimits, "deadline")
    monkeypatch.setattr(target, name, failing(getattr(target, name), 1))
    headers = {"x-deduplication-header": "k"}
    with pytest.raises(Bug):
        kept.client.publish("m", "once", delivery_mode=2, headers=headers)
    kept.client.publish("m", "once", delivery_mode=2, headers=headers)
    kept.settle()
    assert kept.node.contents("once") == ["m"]


def test_a_numbered_publish_to_a_stream_that_failed_may_come_again(kept, monkeypatch):
    kept.node.queue("s", queue_type="stream", durable=True)
    kept.settle()
    publisher = kept.node.client()
    publisher.session.select_confirms()
    headers = {"x-publisher-name": "p", "x-publishing-id": 1}
    add = Packer.add

    def add_and_raise(packer, message, offset):
        add(packer, message, offset)
        monkeypatch.setattr(Packer, "add", add)
        raise Bug

    monkeypatch.setattr(Packer, "add", add_and_raise)
    with pytest.raises(Bug):
        publisher.publish("lost", "s", delivery_mode=2, headers=headers)
    publisher.publish("kept", "s", delivery_mode=2, headers=headers)
    kept.settle()
    reader = kept.node.client()
    reader.consume("s", prefetch=10, arguments={"x-stream-offset": "first"})
    kept.settle()
    assert reader.seen() == ["kept"]


def test_a_reader_that_was_not_served_is_disconnected_and_the_others_miss_nothing(kept, monkeypatch):
    kept.node.queue("s", queue_type="stream", durable=True)
    kept.settle()
    readers = [kept.node.client() for _ in range(3)]
    for reader in readers:
        reader.consume("s", prefetch=10)
    kept.settle()
    monkeypatch.setattr(Serving, "_decode", failing(Serving._decode, 1))
    kept.client.publish("1", "s", delivery_mode=2)
    kept.settle()
    kept.client.publish("2", "s", delivery_mode=2)
    kept.settle()
    assert sorted(len(reader.crashed) for reader in readers) == [0, 0, 1]
    for reader in readers:
        assert reader.seen() == ([] if reader.crashed else ["1", "2"])


def test_every_channel_is_ended_when_the_end_of_one_fails(kept, monkeypatch):
    consumer = kept.node.client()
    consumer.consume("q", "a")
    consumer.consume("other", "b")
    kept.client.publish("m", "q", delivery_mode=2)
    kept.settle()
    monkeypatch.setattr(Queue, "remove_consumer", failing(Queue.remove_consumer, 1))
    consumer.session.close()
    kept.settle()
    assert kept.node.contents("q") == ["m"]
    assert kept.node.vhost.queues["q"].unacked == 0
    assert [len(kept.node.vhost.queues[name].consumers) for name in ("q", "other")] == [0, 0]
    assert consumer.session not in kept.node.vhost.sessions


def test_the_queues_of_a_traceback_are_found(kept):
    queue = kept.node.vhost.queues["q"]

    def inner(queues):
        raise Bug

    with pytest.raises(Bug) as raised:
        inner([queue])
    assert set(queues_in(raised.value)) == {queue}
    assert set(queues_in(ExceptionGroup("", [raised.value]))) == {queue}
