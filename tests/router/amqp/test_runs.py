"""Publishes and acknowledgements that are read together do what each of them would do by itself."""

import pytest

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from tests.router.amqp.client import Content, publish

BODIES = [b"1", b"2", b"3", b"4"]


def delivery(number, body, *, key="q", tag="t"):
    return Content(m.BasicDeliver(tag, number, False, "", key), body)


def test_publishes_that_are_alike_arrive_in_their_order(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    client.send(*[publish("q", body) for body in BODIES])
    client.expect(*[delivery(number, body) for number, body in enumerate(BODIES, 1)])


def test_properties_are_decoded_on_no_part_of_the_way_to_a_consumer(connect, monkeypatch):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"), m.ConfirmSelect())
    headers = {"task": "t", "limits": [None, None], "nested": {"a": ["b" * 200]}}
    sent = [
        publish("q", b"a" * number, headers=headers | {"id": "x" * number}, reply_to="r", **more)
        for number, more in enumerate(
            ({}, {}, {"expiration": "60000"}, {"user_id": "guest"}, {"priority": 3}), 1
        )
    ]
    with monkeypatch.context() as patched:
        patched.setattr("leveret.protocol.amqp.properties.decode_properties", None)
        client.send(*sent)
    for each in sent:
        delivered = client.take_content(m.BasicDeliver)
        assert (delivered.body, delivered.properties) == (each.body, each.properties)
    client.expect(m.BasicAck(5, multiple=True))


def test_each_is_confirmed(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.ConfirmSelect())
    client.send(*[publish("q", body) for body in BODIES])
    client.expect(m.BasicAck(4, multiple=True))
    client.send(publish("q", b"5"))
    client.expect(m.BasicAck(5))


def test_a_full_queue_refuses_each_that_is_too_much(connect):
    client = connect()
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
    client.do(m.QueueDeclare("q", arguments=arguments), m.ConfirmSelect())
    client.send(*[publish("q", body) for body in BODIES])
    client.expect(m.BasicAck(2, multiple=True), m.BasicNack(4, multiple=True))


def test_each_that_reaches_no_queue_is_returned(connect):
    client = connect()
    client.send(*[publish("none", body, mandatory=True) for body in BODIES[:3]])
    for body in BODIES[:3]:
        assert client.take_content(m.BasicReturn).body == body


def test_the_first_that_may_not_be_published_ends_the_channel_and_no_other_is(connect, world):
    client, other = connect(), connect()
    other.do(m.QueueDeclare("q"))
    client.send(*[publish("q", body, exchange="none") for body in BODIES])
    closed = client.take(m.ChannelClose)
    assert (closed.reply_code, closed.class_id, closed.method_id) == (404, 60, 40)
    assert len(world.vhost.queues["q"].ready) == 0


@pytest.mark.parametrize("headers", [None, {"CC": ["r"]}])
def test_several_queues_get_each_of_them_in_order(connect, world, headers):
    client = connect()
    client.do(m.QueueDeclare("q"), m.QueueDeclare("r"), m.ExchangeDeclare("x", "fanout"))
    client.do(m.QueueBind("q", "x"), m.QueueBind("r", "x"))
    client.send(*[publish("k", body, exchange="x", headers=headers) for body in BODIES])
    for name in "qr":
        assert [entry.message.body for entry in world.vhost.queues[name].ready] == BODIES


def test_one_queue_of_several_that_is_full_drops_what_is_too_much(connect, world):
    client = connect()
    client.do(m.QueueDeclare("q"), m.QueueDeclare("r", arguments={"x-max-length": 2}))
    client.do(m.ExchangeDeclare("x", "fanout"), m.QueueBind("q", "x"), m.QueueBind("r", "x"))
    client.send(*[publish("", body, exchange="x") for body in BODIES])
    ready = {name: [entry.message.body for entry in world.vhost.queues[name].ready] for name in "qr"}
    assert ready == {"q": BODIES, "r": BODIES[2:]}


def test_a_priority_queue_keeps_those_that_are_alike_together(connect, world):
    client = connect()
    client.do(m.QueueDeclare("q", arguments={"x-max-priority": 5}))
    low, high = ([publish("q", body, priority=priority) for body in BODIES] for priority in (1, 3))
    client.send(*low, *high)
    assert [entry.message.body for entry in world.vhost.queues["q"].ready] == BODIES + BODIES


def test_replies_that_are_alike_all_arrive(connect):
    caller, server = connect(), connect()
    server.do(m.QueueDeclare("q"), m.BasicConsume("q", "t", no_ack=True))
    caller.do(m.BasicConsume("amq.rabbitmq.reply-to", "r", no_ack=True))
    caller.send(publish("q", reply_to="amq.rabbitmq.reply-to"))
    name = server.take(Content).properties.reply_to
    server.send(*[publish(name, body) for body in BODIES])
    caller.expect(*[delivery(number, body, key=name, tag="r") for number, body in enumerate(BODIES, 1)])


def test_in_a_transaction_they_wait_for_its_commit(connect, world):
    client = connect()
    client.do(m.QueueDeclare("q"), m.TxSelect())
    client.send(*[publish("q", body) for body in BODIES])
    assert len(world.vhost.queues["q"].ready) == 0
    client.send(m.TxCommit())
    client.expect(m.TxCommitOk())
    assert [entry.message.body for entry in world.vhost.queues["q"].ready] == BODIES


@pytest.fixture
def consumer(connect):
    """A client that holds four messages, the tags 1 to 4."""
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    client.send(*[publish("q", body) for body in BODIES])
    client.expect(*[delivery(number, body) for number, body in enumerate(BODIES, 1)])
    return client


def test_acks_of_single_messages_settle_those_and_no_other(consumer, world):
    consumer.send(m.BasicAck(3), m.BasicAck(1), m.BasicAck(4))
    queue = world.vhost.queues["q"]
    assert queue.unacked == 1
    consumer.send(m.BasicRecover(True))
    consumer.expect(m.BasicRecoverOk())
    assert consumer.take(Content).body == b"2"


def test_a_tag_that_is_not_held_ends_the_channel_when_those_before_it_are_settled(consumer, world):
    consumer.send(m.BasicAck(1), m.BasicAck(2), m.BasicAck(9), m.BasicAck(3))
    consumer.expect(m.ChannelClose(406, "PRECONDITION_FAILED - unknown delivery tag 9", 60, 80))
    assert [entry.message.body for entry in world.vhost.queues["q"].ready] == [b"3", b"4"]


def test_acks_make_room_for_a_consumer_that_was_full(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicQos(0, 2), m.BasicConsume("q", "t"))
    client.send(*[publish("q", body) for body in BODIES])
    client.expect(delivery(1, b"1"), delivery(2, b"2"))
    client.send(m.BasicAck(1), m.BasicAck(2))
    client.expect(delivery(3, b"3"), delivery(4, b"4"))


def test_acks_in_a_transaction_wait_for_its_commit(connect, world):
    client = connect()
    client.do(m.QueueDeclare("q"), m.TxSelect(), m.BasicConsume("q", "t"))
    client.send(*[publish("q", body) for body in BODIES], m.TxCommit())
    client.send(m.BasicAck(1), m.BasicAck(2), m.TxRollback(), m.BasicAck(1), m.TxCommit())
    assert world.vhost.queues["q"].unacked == 3


@pytest.fixture
def consumers(connect):
    """A client with the queues q1, q2 and q3, of each of which it holds four messages on a channel."""
    client = connect()
    for number in (2, 3):
        client.do(m.ChannelOpen(), channel=number)
    for number, name in enumerate(("q1", "q2", "q3"), 1):
        client.do(m.QueueDeclare(name), m.BasicQos(0, 4), m.BasicConsume(name, "t"), channel=number)
    for name in ("q1", "q2", "q3"):
        client.send(*[publish(name, body) for body in [*BODIES, b"5"]])
    return client


def send_acks(client, *acks):
    client.send_raw(b"".join(method_frame(number, m.BasicAck(tag)) for number, tag in acks))


def test_acks_on_several_channels_in_turn_settle_what_each_names(consumers, world):
    send_acks(consumers, (1, 1), (2, 4), (3, 1), (1, 3), (2, 2), (3, 2), (3, 3), (3, 4))
    unacked = [world.vhost.queues[f"q{number}"].unacked for number in (1, 2, 3)]
    assert unacked == [3, 3, 1]  # two, two and four are settled, and each consumer has room for the fifth


def test_a_tag_that_is_not_held_ends_its_channel_and_no_other(consumers, world):
    send_acks(consumers, (1, 1), (2, 1), (1, 9), (2, 2), (1, 2), (2, 3))
    assert sorted(consumers.transport.connection.channels.open) == [2, 3]
    ready = [[entry.message.body for entry in world.vhost.queues[f"q{number}"].ready] for number in (1, 2)]
    assert ready == [[b"2", b"3", b"4", b"5"], []]
    assert world.vhost.queues["q2"].unacked == 2
