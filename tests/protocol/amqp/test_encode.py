from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.encode import END, HEARTBEAT, DeliverFrames, ack_frame, nack_frame
from leveret.protocol.amqp.message import pack_route
from tests.protocol.amqp.frames import frame
from tests.protocol.amqp.strategies import SHORT_TEXT, escaped

CHANNELS = st.integers(0, 65535)
TAGS = st.integers(0, 2**64 - 1)


@given(CHANNELS, escaped(255), st.lists(st.tuples(TAGS, st.booleans(), SHORT_TEXT, escaped(255)), max_size=4))
def test_deliver(channel, consumer_tag, deliveries):
    frames = DeliverFrames(channel, consumer_tag)
    for delivery_tag, redelivered, exchange, routing_key in deliveries:
        route = pack_route(exchange, routing_key)
        method = m.BasicDeliver(consumer_tag, delivery_tag, redelivered, exchange, routing_key)
        packed = frames[len(route)](delivery_tag, redelivered, route + END)
        assert packed == method_frame(channel, method)


@given(CHANNELS, TAGS, st.booleans())
def test_ack(channel, delivery_tag, multiple):
    assert ack_frame(channel, delivery_tag, multiple) == method_frame(
        channel, m.BasicAck(delivery_tag, multiple)
    )


@given(CHANNELS, TAGS, st.booleans())
def test_nack(channel, delivery_tag, multiple):
    method = m.BasicNack(delivery_tag, multiple, requeue=True)
    assert nack_frame(channel, delivery_tag, multiple) == method_frame(channel, method)


def test_heartbeat():
    assert frame(8, 0, b"") == HEARTBEAT
