"""Incomplete messages: counting by owner, bounds, and the connection that is closed beyond them."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_HEADER
from leveret.protocol.amqp.content_frames import FRAME
from leveret.protocol.amqp.properties import Properties, encode_properties
from leveret.protocol.amqp.reader import HEADS_MAX
from leveret.router.broker.incoming import LITTLE, Incoming, owner_of
from tests.router.amqp.client import publish
from tests.router.amqp.world import World
from tests.router.stomp.client import StompClient

KB = 1000
LARGE = 300 * KB
MOST = 1000 * KB
PIECE = 100 * KB


class FakeSender:
    def __init__(self, incoming):
        self.errors = []
        self._incoming = incoming

    def end(self, error):
        self.errors.append(str(error))
        self._incoming.forget(self)


@pytest.fixture
def incoming():
    return Incoming(100)


def senders(incoming, *sizes):
    """Let connections of these owners and sizes begin to send."""
    made = [(FakeSender(incoming), owner, size) for owner, size in sizes]
    for sender, owner, size in made:
        incoming.grow(sender, owner, size)
        if incoming.over:
            incoming.relieve()
    return [bool(sender.errors) for sender, _, _ in made]


@pytest.mark.parametrize(
    ("sizes", "cut_off"),
    [
        ([("a", 50), ("b", 50)], [False, False]),
        ([("a", 51)], [True]),
        ([("a", 30), ("a", 20), ("b", 10), ("a", 1)], [True, False, False, False]),
        ([("a", 20), ("a", 30), ("b", 50), ("c", 1)], [False, True, False, False]),
        ([("a", 10), ("b", 30), ("c", 40), ("d", 21)], [False, False, True, False]),
    ],
)
def test_the_largest_connection_of_the_owner_with_most_is_closed(incoming, sizes, cut_off):
    assert senders(incoming, *sizes) == cut_off
    assert incoming.held <= 100


def test_no_bound_is_any_size():
    assert senders(Incoming(0), ("a", 1 << 40)) == [False]


def test_a_client_that_logs_in_counts_for_its_user_from_then_on(incoming):
    sender = FakeSender(incoming)
    incoming.grow(sender, owner_of(None, "10.0.0.1"), 40)
    incoming.grow(sender, "user a", 5)
    assert (incoming.held, incoming._owners.keys()) == (45, {"user a"})


def test_memory_is_freed_of_those_with_most_first_and_of_no_more_than_needed(incoming):
    incoming.most = 0
    made = [FakeSender(incoming) for _ in range(4)]
    for sender, owner, size in zip(made, "aabb", (10, 40, 20, 20), strict=True):
        incoming.grow(sender, owner, size)
    incoming.free(50)
    assert [bool(sender.errors) for sender in made] == [False, True, True, False]
    incoming.free(1000)
    assert (incoming.held, incoming._owners) == (0, {})


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(-60, 60)), max_size=40))
def test_sums_are_right_whatever_grows_shrinks_and_goes(steps):
    incoming = Incoming(100)
    made = [FakeSender(incoming) for _ in range(4)]
    sizes = dict.fromkeys(range(4), 0)
    for number, owner, change in steps:
        if sizes[number] + change < 0 or not change:
            incoming.forget(made[number])
            sizes[number] = 0
        else:
            incoming.grow(made[number], owner, change)
            sizes[number] += change
        for index, sender in enumerate(made):
            sizes[index] = 0 if sender.errors else sizes[index]
        if incoming.over:
            incoming.relieve()
            sizes = {index: 0 if sender.errors else sizes[index] for index, sender in enumerate(made)}
            for sender in made:
                sender.errors.clear()
        held = {owner: sum(each.senders.values()) for owner, each in incoming._owners.items()}
        assert incoming.held == sum(sizes.values()) == sum(held.values()) <= 100
        assert held == {owner: each.held for owner, each in incoming._owners.items()}


# -- what connections count ----------------------------------------------------------------------------------


@pytest.fixture
def world():
    made = World()
    made.broker.incoming.most = MOST
    made.user("anna", configure=".*", write=".*", read=".*")
    return made


@pytest.fixture
def incomplete(world):
    """Bytes that the broker counts, in KB."""
    return lambda: round(world.broker.incoming.held / KB)


def frame(kind, payload, channel=1):
    return FRAME.pack(kind, channel, len(payload)) + payload + b"\xce"


def content_header(size, properties=b"\0\0", channel=1):
    return frame(FRAME_HEADER, bytes.fromhex("003c0000") + size.to_bytes(8) + properties, channel)


def begun(size, channel=1):
    """A publish without the last byte of its body."""
    bodies = [bytes(min(PIECE, size - 1 - start)) for start in range(0, size - 1, PIECE)]
    frames = [frame(FRAME_BODY, body, channel) for body in bodies]
    return b"".join(
        (method_frame(channel, m.BasicPublish("", "q")), content_header(size, b"\0\0", channel), *frames)
    )


def test_an_amqp_body_counts_until_its_last_byte(world, incomplete):
    client = world.connect()
    client.send_raw(begun(LARGE))
    assert incomplete() == pytest.approx(LARGE / KB, abs=2)
    client.send_raw(frame(FRAME_BODY, b"."))
    assert incomplete() == 0


@pytest.mark.parametrize("way", ["close the channel", "close the connection", "hang up", "send nonsense"])
def test_an_amqp_body_counts_until_its_connection_ends(world, incomplete, way):
    client = world.connect()
    client.send_raw(begun(LARGE))
    if way == "close the channel":
        client.send_raw(frame(FRAME_BODY, b"."))
        client.call(m.ChannelClose(200, "", 0, 0))
    elif way == "close the connection":
        client.call(m.ConnectionClose(200, "", 0, 0), channel=0)
    elif way == "hang up":
        client.transport.connection.lost()
    else:
        client.send_raw(b"nonsense" * 3)
        client.send(m.ConnectionCloseOk(), channel=0)
    assert incomplete() == 0
    assert client.transport.connection.wire.reader.held == 0


def test_headers_of_incomplete_messages_have_a_bound(world):
    """Otherwise each of 2,047 channels could hold headers of a frame's size."""
    world.broker.incoming.most = 0
    client = world.connect(channels=100)
    headers = encode_properties(Properties(headers={"x": "y" * PIECE}))
    for channel in range(1, 100):
        client.send(m.BasicPublish("", "q"), channel=channel)
        client.send_raw(content_header(10, headers, channel))
    close = client.take(m.ConnectionClose, channel=0)
    assert (close.reply_code, world.broker.incoming.held) == (506, 0)
    assert str(HEADS_MAX) in close.reply_text


def test_publishes_of_an_amqp_transaction_count_until_its_end(world, incomplete):
    client = world.connect(channels=2)
    world.vhost.declare_queue("q")
    for end in (m.TxCommit(), m.TxRollback(), m.ChannelClose(200, "", 0, 0)):
        client.do(m.TxSelect(), *[publish("q", bytes(PIECE))] * 3)
        assert incomplete() == pytest.approx(LARGE / KB, abs=2)
        client.call(end)
        assert incomplete() == 0


def test_headers_of_publishes_in_a_transaction_count_too(world, incomplete):
    client = world.connect(channels=2)
    world.vhost.declare_queue("q")
    client.do(m.TxSelect(), *[publish("q", b"", headers={"large": "x" * PIECE})] * 3)
    assert incomplete() == pytest.approx(LARGE / KB, abs=3)


def test_the_user_with_most_is_cut_off_and_others_go_on(world):
    client, other = world.connect(), world.connect(login={"user": "anna"})
    other.send_raw(begun(LARGE // 2))
    client.send_raw(begun(LARGE))
    second = world.connect()
    second.send_raw(begun(LARGE - 1))  # more than half for one user
    close = client.take(m.ConnectionClose, channel=0)
    assert (close.reply_code, close.reply_text.partition(":")[0]) == (
        506,
        "RESOURCE_ERROR - too many bytes of incomplete messages",
    )
    for each in (other, second):
        each.send_raw(frame(FRAME_BODY, b"."))
        each.call(m.QueueDeclare("q"))
    assert world.broker.incoming.held == 0


def test_a_stomp_frame_counts_until_its_end(world, incomplete):
    client = StompClient(world).open()
    client.send_raw(b"SEND\ndestination:/queue/q\n\n" + b"x" * LARGE)
    assert incomplete() == pytest.approx(LARGE / KB, abs=2)
    client.send_raw(b"\0")
    assert incomplete() == 0


def test_a_stomp_transaction_counts_until_its_end(world, incomplete):
    client = StompClient(world).open()
    for end in ("COMMIT", "ABORT"):
        client.send("BEGIN", transaction="t")
        client.send("SEND", b"x" * LARGE, destination="/queue/q", transaction="t")
        assert incomplete() == pytest.approx(LARGE / KB, abs=2)
        client.send(end, transaction="t")
        assert incomplete() == 0


def test_stomp_and_amqp_have_one_bound_for_a_user(world):
    client, other = StompClient(world).open(), world.connect(channels=2)
    client.send_raw(b"SEND\ndestination:/queue/q\n\n" + b"x" * (LARGE + PIECE))
    other.send_raw(begun(LARGE // 2) + begun(LARGE // 2, 2))
    assert client.take("ERROR").headers["message"] == "resource_error"
    assert other.transport.connection.channels.open


def test_a_read_stomp_frame_leaves_no_memory(world):
    """A client that sends one large frame and then nothing for hours."""
    client = StompClient(world).open()
    client.send("SEND", b"x" * LARGE, destination="/queue/none")
    assert sys.getsizeof(client.connection._reader._data) < 1000


def test_little_is_not_counted(world):
    client = world.connect()
    client.send_raw(begun(LITTLE // 2))
    assert world.broker.incoming.held == 0
