"""One message of many is measured, and nothing is different for it."""

import pytest

from leveret.router.queue.latency_probe import EVERY, Probe


class Recorder:
    def __init__(self):
        self.waits = []
        self.acks = []

    def waited(self, time):
        self.waits.append(time)

    def settled(self, consumer, time):
        self.acks.append((consumer.tag, time))


@pytest.fixture
def queue(node):
    return node.queue("q")


@pytest.fixture
def recorder(queue, node):
    made = Recorder()
    queue.probe = Probe(queue, node.broker, made)
    return made


def test_time_in_queue_and_time_to_acknowledge_are_measured(node, client, queue, recorder):
    client.publish("a")
    node.at(30)
    client.consume()
    node.settle()
    assert recorder.waits == [30]
    node.at(75)
    client.session.ack(1, multiple=False)
    assert recorder.acks == [("c", 45)]
    assert (queue.unacked, queue.acknowledged) == (0, 1)


def test_only_one_message_in_a_while_is_measured(node, client, queue, recorder):
    client.consume(no_ack=True)
    for time in range(0, 1000, 10):
        node.at(time)
        client.publish("x")
        node.settle()
    assert len(recorder.waits) == pytest.approx(1000 / EVERY, abs=1)
    assert set(recorder.waits) == {0}
    assert recorder.acks == []


def test_the_last_of_a_batch_is_measured_at_whatever_consumer_gets_it(node, client, queue, recorder):
    for tag in ("one", "two"):
        client.consume("q", tag, prefetch=50)
    for number in range(10):
        client.publish(str(number))
    node.settle()
    node.at(5)
    client.session.ack(0, multiple=True)
    ((tag, time),) = recorder.acks
    assert (tag in ("one", "two"), time) == (True, 5)
    assert (queue.unacked, queue.acknowledged) == (0, 10)


@pytest.mark.parametrize("requeue", [True, False])
def test_message_that_comes_back_is_no_acknowledgement(node, client, queue, recorder, requeue):
    client.publish("a")
    client.consume(prefetch=1)
    node.settle()
    client.session.nack(1, multiple=False, requeue=requeue)
    node.settle()
    assert recorder.acks == []
    assert queue.unacked == (1 if requeue else 0)


def test_message_that_its_session_leaves_goes_back(node, client, queue, recorder):
    client.publish("a")
    client.consume()
    node.settle()
    client.session.close()
    assert (len(queue.ready), queue.unacked, recorder.acks) == (1, 0, [])


def test_message_that_left_in_another_way_is_forgotten(node, client, queue, recorder):
    client.publish("a")
    node.settle()
    assert client.get() == "a"
    queue.probe.look()
    node.at(500)
    client.publish("b")
    node.settle()
    node.at(510)
    client.consume(no_ack=True)
    node.settle()
    assert recorder.waits == [10]


def test_transaction_settles_a_measured_message(node, client, queue, recorder):
    client.publish("a")
    client.consume()
    node.settle()
    client.session.select_transactions()
    client.session.ack(1, multiple=False)
    assert recorder.acks == []
    client.session.commit()
    assert len(recorder.acks) == 1
    assert queue.unacked == 0
