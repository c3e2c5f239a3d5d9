"""Consuming over the wire: the order of replies and deliveries, cancellation, framing, direct reply-to."""

import pytest

from leveret.protocol.amqp import methods as m
from tests.router.amqp.client import CAPABILITIES, Content, publish

pytestmark = pytest.mark.playbook


def delivery(tag, number, body, *, key="q", redelivered=False):
    return Content(m.BasicDeliver(tag, number, redelivered, "", key), body)


def test_deliveries_follow_consume_ok(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q", b"1"), publish("q", b"2"))
    client.send(m.BasicConsume("q", "t"))
    client.expect(m.BasicConsumeOk("t"), delivery("t", 1, b"1"), delivery("t", 2, b"2"))
    client.send(m.BasicAck(2, multiple=True), publish("q", b"3"))
    client.expect(delivery("t", 3, b"3"))


def test_a_settled_tag_with_smaller_ones_left_may_be_acked_as_multiple(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q"), publish("q"), m.BasicConsume("q", "t"))
    client.take(Content)
    client.take(Content)
    client.send(m.BasicAck(2), m.BasicAck(2, multiple=True), m.BasicAck(2, multiple=True))
    client.expect(m.ChannelClose(406, "PRECONDITION_FAILED - unknown delivery tag 2", 60, 80))


@pytest.mark.parametrize("settle", [m.BasicAck(1), m.BasicNack(1), m.BasicReject(1)], ids=str)
def test_what_needs_no_acknowledgement_must_not_be_settled(connect, settle):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q"), m.BasicConsume("q", "t", no_ack=True))
    client.take(Content)
    client.send(settle)
    text = "PRECONDITION_FAILED - unknown delivery tag 1"
    client.expect(m.ChannelClose(406, text, settle.CLASS_ID, settle.METHOD_ID))


@pytest.mark.parametrize("nowait", [False, True])
def test_cancel_ends_deliveries_and_keeps_what_is_held(connect, nowait):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q", b"1"), m.BasicConsume("q", "t"))
    client.expect(delivery("t", 1, b"1"))
    client.do(m.BasicCancel("t", nowait=nowait), publish("q", b"2"))
    client.send(m.BasicAck(1), m.BasicGet("q"))
    client.expect(Content(m.BasicGetOk(2, False, "", "q", 0), b"2"))


def test_recover_gives_again_what_was_held(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q", b"1"), m.BasicConsume("q", "t"))
    client.expect(delivery("t", 1, b"1"))
    client.send(m.BasicRecover(True))
    client.expect(m.BasicRecoverOk(), delivery("t", 2, b"1", redelivered=True))


def test_consumers_learn_that_their_queue_is_gone(connect):
    client, other = connect(), connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    other.do(m.QueueDelete("q"))
    client.expect(m.BasicCancel("t", nowait=True))


def test_delete_ok_is_sent_before_basic_cancel_on_the_same_channel(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    client.send(m.QueueDelete("q"))
    client.expect(m.QueueDeleteOk(0), m.BasicCancel("t", nowait=True))


def test_clients_without_the_capability_get_no_basic_cancel(connect):
    capabilities = {name: True for name in CAPABILITIES if name != "consumer_cancel_notify"}
    client, other = connect(login={"capabilities": capabilities}), connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    other.do(m.QueueDelete("q"))
    client.send(m.BasicQos())
    client.expect(m.BasicQosOk())


def test_the_name_of_a_cancelled_consumer_is_free(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"), m.BasicCancel("t"), m.BasicConsume("q", "t"))
    client.send(m.QueueDelete("q"))
    client.expect(m.QueueDeleteOk(0), m.BasicCancel("t", nowait=True))
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))


@pytest.mark.parametrize("size", [4088, 4089, 10_000], ids=str)
def test_bodies_are_cut_to_the_frames_of_the_receiver(connect, size):
    sender, receiver = connect(), connect(frame_max=4096)
    sender.do(m.QueueDeclare("q"))
    receiver.do(m.BasicConsume("q", "t"))
    sender.send(publish("q", bytes(size)))
    receiver.reader.frame_max = 4088  # of the payload
    receiver.expect(delivery("t", 1, bytes(size)))


def test_a_message_keeps_its_bytes_on_another_channel(connect):
    client = connect(channels=2)
    headers = {"a": 1, "b": "x", "c": [True, None, {"d": 1.5}]}
    client.do(m.QueueDeclare("q"), m.BasicConsume("q", "t", no_ack=True))
    client.send(publish("q", b"abc", headers=headers, message_id="m"), channel=2)
    content = client.take_content(m.BasicDeliver)
    assert content == Content(content.method, b"abc", publish(headers=headers, message_id="m").properties)


def test_a_quorum_queue_counts_deliveries(connect):
    client = connect()
    client.do(m.QueueDeclare("q", durable=True, arguments={"x-queue-type": "quorum"}), m.ConfirmSelect())
    client.send(publish("q", b"1"))
    client.take(m.BasicAck)
    counts = []
    for number in (1, 2, 3):
        client.send(m.BasicGet("q"))
        content = client.take_content(m.BasicGetOk)
        counts.append((content.method.redelivered, content.properties.headers["x-delivery-count"]))
        client.send(m.BasicReject(number, requeue=True))
    assert counts == [(False, 0), (True, 1), (True, 2)]


def test_direct_reply_to(connect):
    asking, answering = connect(), connect()
    answering.do(m.QueueDeclare("q"), m.BasicConsume("q", "work"))
    asking.do(m.BasicConsume("amq.rabbitmq.reply-to", "replies", no_ack=True))
    asking.send(publish("q", b"?", reply_to="amq.rabbitmq.reply-to"))
    reply_to = answering.take(Content).properties.reply_to
    assert reply_to.startswith("amq.rabbitmq.reply-to.")
    assert answering.call(m.QueueDeclare(reply_to, passive=True)) == m.QueueDeclareOk(reply_to, 0, 1)
    answering.send(publish(reply_to, b"!"))
    asking.expect(delivery("replies", 1, b"!", key=reply_to))
    asking.call(m.BasicCancel("replies"))
    answering.send(m.QueueDeclare(reply_to, passive=True))
    answering.expect(m.ChannelClose(404, f"NOT_FOUND - no queue '{reply_to}' in vhost '/'", 50, 10))


def test_a_delivery_that_fails_ends_its_connection_and_no_other(connect, monkeypatch):
    broken, sound, publisher = connect(), connect(), connect()
    broken.do(m.QueueDeclare("q"), m.BasicConsume("q", "t"))
    sound.do(m.BasicConsume("q", "t"))

    def extend(parts):
        raise RuntimeError("broken")

    monkeypatch.setattr(broken.transport.outbox, "extend", extend)
    publisher.send(publish("q", b"1"))
    assert broken.take(m.ConnectionClose, channel=0).reply_code == 541
    sound.expect(delivery("t", 1, b"1", redelivered=True))
    publisher.do(m.QueueDeclare("q", passive=True))


def test_a_ttl_of_0_without_a_consumer_is_over_before_the_next_command(connect):
    client = connect()
    client.do(m.QueueDeclare("q"))
    client.send(
        publish("q", b"1", expiration="0"),
        m.QueueDeclare("q"),
        publish("q", b"2", expiration="0"),
        m.BasicGet("q", no_ack=True),
    )
    client.expect(m.QueueDeclareOk("q", 0, 0))
    client.expect(m.BasicGetEmpty())
