"""Whatever a client sends, the core answers or refuses: nothing but an AMQP error ever comes of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.router.exchange import EXCHANGE_TYPES
from tests.protocol.amqp.frames import publish
from tests.protocol.amqp.strategies import PROPERTIES, SHORT_TEXT, damaged, methods
from tests.router.amqp.world import World

# Names that are there, so that more than refusals is met.
NAMES = (
    st.sampled_from(("", "q", "x", "amq.direct", "amq.topic", "amq.headers", "amq.rabbitmq.reply-to"))
    | SHORT_TEXT
)
TYPES = st.sampled_from(sorted(EXCHANGE_TYPES))
ARGUMENTS = st.dictionaries(
    st.sampled_from(
        (
            "x-max-length",
            "x-message-ttl",
            "x-expires",
            "x-max-priority",
            "x-queue-type",
            "x-dead-letter-exchange",
            "x-overflow",
            "x-match",
            "alternate-exchange",
            "x-selector",
            "x-priority",
            "CC",
        )
    ),
    st.sampled_from(("q", "quorum", "any", "reject-publish", "a = 1", 0, 1, 5, True, None, ["q"], 1.5)),
    max_size=3,
)
CLIENT_METHODS = [cls for cls in m.METHODS.values() if not cls.CONTENT and cls.CLASS_ID != 10]
METHODS = st.sampled_from(CLIENT_METHODS).flatmap(
    lambda cls: methods(cls, shortstr=NAMES, table=ARGUMENTS, longlong=st.integers(0, 4))
)
DECLARATIONS = st.one_of(
    methods(m.QueueDeclare, shortstr=NAMES, table=ARGUMENTS),
    st.tuples(NAMES, TYPES, ARGUMENTS).map(lambda it: m.ExchangeDeclare(*it[:2], arguments=it[2])),
    methods(m.QueueBind, shortstr=NAMES, table=ARGUMENTS),
)
CHANNELS = st.integers(1, 2)
PUBLISHES = st.builds(
    publish,
    CHANNELS,
    st.binary(max_size=20),
    method=st.builds(m.BasicPublish, NAMES, NAMES, st.booleans()),
    properties=PROPERTIES,
)
FRAMES = st.builds(method_frame, CHANNELS, DECLARATIONS | METHODS) | PUBLISHES


def opened():
    world = World()
    client = world.connect(channels=2)
    client.do(m.QueueDeclare("q"), m.ExchangeDeclare("x"), m.QueueBind("q", "x", "q"))
    return world, client


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FRAMES, st.integers(0, 2)), min_size=1, max_size=12))
def test_any_methods_in_any_order(frames):
    world, client = opened()
    for each, seconds in frames:
        client.send_raw(each)
        while (came := client.next()) is not None:
            if isinstance(came[1], m.ChannelClose):
                client.send(m.ChannelCloseOk(), m.ChannelOpen(), channel=came[0])
        world.advance(seconds * 1000)
    client.transport.connection.lost()
    assert not any(level == "error" for level, _, _ in client.transport.log.lines)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(damaged(FRAMES), min_size=1, max_size=4))
def test_any_damage(frames):
    _, client = opened()
    for each in frames:
        client.send_raw(each)
    client.transport.connection.lost()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_from_the_start(pieces):
    client = World().client()
    for each in pieces:
        client.send_raw(each)
