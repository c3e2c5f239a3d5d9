"""Every method that a client may send: what it answers when all is well, and that nowait answers nothing."""

import pytest
from msgspec.structs import replace

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.properties import Properties
from tests.router.amqp.client import Content, publish

pytestmark = pytest.mark.playbook

SET_UP = (
    m.QueueDeclare("q"),
    m.ExchangeDeclare("x"),
    m.ExchangeDeclare("y", "fanout"),
    m.QueueBind("q", "x", "k"),
    m.ExchangeBind("y", "x", "k"),
)

REPLIES = [
    (m.ChannelFlow(True), m.ChannelFlowOk(True)),
    (m.AccessRequest(), m.AccessRequestOk(1)),
    (m.ExchangeDeclare("x"), m.ExchangeDeclareOk()),
    (m.ExchangeDeclare("x", "nope", passive=True, durable=True), m.ExchangeDeclareOk()),
    (m.ExchangeDeclare("amq.topic", "topic", durable=True), m.ExchangeDeclareOk()),
    (m.ExchangeDeclare("x", arguments={"unknown": 1}), m.ExchangeDeclareOk()),
    (m.ExchangeDelete("x"), m.ExchangeDeleteOk()),
    (m.ExchangeDelete("nope"), m.ExchangeDeleteOk()),
    (m.ExchangeDelete("nope", if_unused=True), m.ExchangeDeleteOk()),
    (m.ExchangeDelete("y", if_unused=True), m.ExchangeDeleteOk()),  # a destination is not in use
    (m.ExchangeBind("y", "x", "k"), m.ExchangeBindOk()),
    (m.ExchangeBind("x", "x"), m.ExchangeBindOk()),
    (m.ExchangeUnbind("y", "x", "k"), m.ExchangeUnbindOk()),
    (m.ExchangeUnbind("y", "x", "other"), m.ExchangeUnbindOk()),
    (m.ExchangeUnbind("y", "nope"), m.ExchangeUnbindOk()),
    (m.ExchangeUnbind("nope", "x"), m.ExchangeUnbindOk()),
    (m.QueueDeclare("q"), m.QueueDeclareOk("q", 0, 0)),
    (m.QueueDeclare("q", passive=True, durable=True, exclusive=True), m.QueueDeclareOk("q", 0, 0)),
    (m.QueueDeclare("q", arguments={"x-foo": 1}), m.QueueDeclareOk("q", 0, 0)),
    (m.QueueDeclare("q", arguments={"x-queue-type": "classic"}), m.QueueDeclareOk("q", 0, 0)),
    (m.QueueDeclare("\nq\r"), m.QueueDeclareOk("q", 0, 0)),
    (m.QueueDeclare("amq.rabbitmq.reply-to"), m.QueueDeclareOk("amq.rabbitmq.reply-to", 0, 1)),
    (m.QueueDeclare("amq.rabbitmq.reply-to", passive=True), m.QueueDeclareOk("amq.rabbitmq.reply-to", 0, 1)),
    (m.QueueBind("q", "x", "k"), m.QueueBindOk()),
    (m.QueueBind("", "x", "k"), m.QueueBindOk()),
    (m.QueueUnbind("q", "x", "k"), m.QueueUnbindOk()),
    (m.QueueUnbind("q", "x", "other"), m.QueueUnbindOk()),
    (m.QueueUnbind("q", "nope"), m.QueueUnbindOk()),
    (m.QueueUnbind("nope", "x"), m.QueueUnbindOk()),
    (m.QueuePurge("q"), m.QueuePurgeOk(0)),
    (m.QueueDelete("q"), m.QueueDeleteOk(0)),
    (m.QueueDelete("q", if_unused=True, if_empty=True), m.QueueDeleteOk(0)),
    (m.QueueDelete("nope", if_unused=True, if_empty=True), m.QueueDeleteOk(0)),
    (m.QueueDelete("amq.rabbitmq.reply-to"), m.QueueDeleteOk(0)),
    (m.BasicQos(0, 10), m.BasicQosOk()),
    (m.BasicQos(0, 10, True), m.BasicQosOk()),
    (m.BasicConsume("q", "t"), m.BasicConsumeOk("t")),
    (m.BasicConsume("q", "t", no_local=True, no_ack=True), m.BasicConsumeOk("t")),
    (m.BasicConsume("q", "t", exclusive=True), m.BasicConsumeOk("t")),
    (m.BasicConsume("q", "t", arguments={"x-priority": -(2**40), "x-foo": 1}), m.BasicConsumeOk("t")),
    (m.BasicConsume("amq.rabbitmq.reply-to", "t", no_ack=True, exclusive=True), m.BasicConsumeOk("t")),
    (m.BasicCancel("nope"), m.BasicCancelOk("nope")),
    (m.BasicGet("q"), m.BasicGetEmpty()),
    (m.BasicRecover(True), m.BasicRecoverOk()),
    (m.ConfirmSelect(), m.ConfirmSelectOk()),
    (m.TxSelect(), m.TxSelectOk()),
]
SILENT = [
    m.BasicRecoverAsync(True),
    m.BasicAck(0, multiple=True),  # all that is outstanding: nothing
    m.BasicNack(0, multiple=True),
    publish("q"),
    publish("nope"),
    publish(exchange="x", routing_key="nope"),
]


@pytest.mark.parametrize(("method", "reply"), REPLIES, ids=str)
def test_reply(connect, method, reply):
    client = connect()
    client.do(*SET_UP)
    client.send(method)
    client.expect(reply)


@pytest.mark.parametrize(
    "method", [method for method, _ in REPLIES if hasattr(method, "nowait")] + SILENT, ids=str
)
def test_no_reply(connect, method):
    client = connect()
    client.do(*SET_UP)
    if hasattr(method, "nowait"):
        method = replace(method, nowait=True)
    client.send(method, m.BasicQos())
    client.expect(m.BasicQosOk())


@pytest.mark.parametrize("declare", [m.QueueDeclare(""), m.QueueDeclare("", exclusive=True)], ids=str)
def test_a_queue_without_a_name_gets_one(connect, declare):
    client = connect()
    name = client.call(declare).queue
    assert name.startswith("amq.gen-")
    assert len(name) == len("amq.gen-") + 22
    assert client.call(declare).queue != name
    client.call(m.QueueDelete(name))
    client.call(m.QueueDelete())


def test_a_consumer_without_a_tag_gets_one(connect):
    client = connect()
    client.do(m.QueueDeclare("q"))
    tag = client.call(m.BasicConsume("q")).consumer_tag
    assert tag.startswith("amq.ctag-")
    assert len(tag) == len("amq.ctag-") + 22


def test_no_name_stands_for_the_queue_declared_last(connect):
    client = connect()
    client.do(
        m.QueueDeclare("q2"), m.QueueDeclare("q"), m.QueueDeclare("q2", passive=True), publish("q2", b"x")
    )
    client.send(m.QueuePurge(), m.QueueDelete())
    client.expect(m.QueuePurgeOk(1), m.QueueDeleteOk(0))


def test_without_queue_and_key_the_queue_name_is_the_binding_key(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.ExchangeDeclare("x"), m.QueueBind("", "x", ""))
    client.do(publish("q", b"bound", exchange="x"), publish("", b"not bound", exchange="x"))
    assert client.call(m.QueueDeclare("q", passive=True)).message_count == 1
    client.do(m.QueueUnbind("", "x", ""), publish("q", b"not bound", exchange="x"))
    assert client.call(m.QueueDeclare("q", passive=True)).message_count == 1


def test_a_named_queue_keeps_its_empty_key(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), m.ExchangeDeclare("x"), m.QueueBind("q", "x", ""))
    client.do(publish("", b"bound", exchange="x"))
    assert client.call(m.QueuePurge("q")).message_count == 1


def test_an_exclusive_queue_is_never_durable(connect):
    client = connect()
    client.do(m.QueueDeclare("q", durable=True, exclusive=True), m.QueueDeclare("q", exclusive=True))


def test_line_breaks_are_no_part_of_names(connect):
    client = connect()
    client.do(m.ExchangeDeclare("\nx"), m.QueueDeclare("q\r\n"), m.QueueBind("q\n", "\rx", "k"))
    client.do(publish("k", exchange="x"))
    assert client.call(m.QueueDelete("\nq")).message_count == 1
    client.call(m.ExchangeDelete("x\n"))
    client.send(m.ExchangeDeclare("x", passive=True))
    client.take(m.ChannelClose)


def test_get_takes_a_message_and_counts_those_left(connect):
    client = connect()
    properties = Properties(content_type="text/plain", headers={"a": [1, {"b": None}]}, priority=3)
    client.do(m.QueueDeclare("q"), Content(m.BasicPublish("", "q"), b"one", properties), publish("q", b""))
    client.send(m.BasicGet("q"))
    client.expect(Content(m.BasicGetOk(1, False, "", "q", 1), b"one", properties))
    client.send(m.BasicGet("q", no_ack=True), m.BasicGet("q"))
    client.expect(Content(m.BasicGetOk(2, False, "", "q", 0)), m.BasicGetEmpty())
    client.send(m.BasicReject(1, requeue=True), m.BasicGet("q"))
    client.expect(Content(m.BasicGetOk(3, True, "", "q", 0), b"one", properties))


def test_counts_are_of_ready_messages(connect):
    client = connect()
    client.do(m.QueueDeclare("q"), publish("q"), publish("q"))
    client.send(m.BasicGet("q"))
    client.take(Content)
    assert client.call(m.QueueDeclare("q")) == m.QueueDeclareOk("q", 1, 0)
    assert client.call(m.QueuePurge("q")).message_count == 1
    assert client.call(m.QueueDelete("q", if_empty=True)).message_count == 0


def test_an_exchange_may_be_unbound_from_a_queue_of_another_connection(connect):
    owner, client = connect(), connect()
    owner.do(m.ExchangeDeclare("x"), m.QueueDeclare("q", exclusive=True))
    client.call(m.QueueUnbind("q", "x"))
    owner.call(m.ExchangeDelete("x"))
