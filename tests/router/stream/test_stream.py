"""Streams as sessions see them: offsets, readers, refusals, retention; in memory alone."""

import gc
import weakref

import pytest

from leveret.protocol.amqp.table import Timestamp
from leveret.protocol.errors import NotImplemented_, PreconditionFailed
from leveret.router.queue.dispatch import DRAIN, SERVED
from tests.router.harness import Node, message


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def client(node):
    return node.client()


def declare(node, **arguments):
    """``max_age="1h"`` stands for the argument x-max-age."""
    return node.queue("s", queue_type="stream", durable=True, **arguments)


def publish(client, *bodies, **properties):
    """Each in a batch of its own, so that it is a chunk of its own."""
    for body in bodies:
        client.publish(body, "s", **properties)
        client.node.settle()


def read(client, start="first", prefetch=100, tag="c", **arguments):
    options = {"x-stream-offset": start} if start is not None else {}
    client.consume("s", tag, prefetch=prefetch, arguments={**options, **arguments})


def offsets(client):
    client.node.settle()
    found = [entry.message.headers["x-stream-offset"] for _, _, entry in client.delivered]
    client.delivered.clear()
    return found


def test_messages_get_dense_offsets_and_readers_see_them_in_order(node, client):
    declare(node)
    publish(client, "a", "b", "c")
    read(client)
    assert client.take() == ["a", "b", "c"]
    read(client, tag="d")
    assert offsets(client) == [0, 1, 2]


def test_a_deleted_stream_needs_no_collector(node):
    found = weakref.ref(declare(node))
    found().enqueue(message("a", "s"), 0)
    node.settle()
    collecting = gc.isenabled()
    gc.disable()
    try:
        node.vhost.delete_queue(found())
        assert found() is None
    finally:
        if collecting:
            gc.enable()


def test_a_dead_letter_of_a_numbered_message_is_stored_whatever_came_since(node, client):
    declare(node)
    node.queue("q", dead_letter_exchange="", dead_letter_routing_key="s")
    numbered = {"x-publisher-name": "p", "x-publishing-id": 1}
    client.publish("one", "q", headers=numbered)
    publish(client, "two", headers=numbered | {"x-publishing-id": 2})
    tag, _, _ = client.session.get("q", no_ack=False)
    client.session.nack(tag, multiple=False, requeue=False)
    node.settle()
    publish(client, "two again", headers=numbered | {"x-publishing-id": 2})
    read(client)
    assert client.take() == ["two", "one"]


def test_reading_deletes_nothing_and_readers_do_not_share(node, client):
    stream = declare(node)
    publish(client, "a", "b")
    for tag in ("one", "two"):
        read(client, tag=tag)
    node.settle()
    assert client.seen("one") == client.seen("two") == ["a", "b"]
    client.session.ack(0, multiple=True)
    assert (len(stream.ready), stream.unacked) == (2, 0)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("first", [0, 1, 2, 3]),
        ("last", [3]),
        ("next", []),
        (None, []),
        (0, [0, 1, 2, 3]),
        (2, [2, 3]),
        (-1, [0, 1, 2, 3]),
        (4, []),
        ("1h", [0, 1, 2, 3]),
    ],
)
def test_a_reader_begins_where_it_wants_to(node, client, start, expected):
    declare(node)
    node.broker.wall = 10_000
    publish(client, "a", "b", "c", "d")
    read(client, start)
    assert offsets(client) == expected
    publish(client, "e")
    assert offsets(client) == [4]


def test_a_reader_may_wait_for_an_offset_that_is_yet_to_come(node, client):
    declare(node)
    read(client, 2)
    publish(client, "a", "b", "c")
    assert offsets(client) == [2]


def test_a_timestamp_finds_the_first_chunk_that_is_not_older(node, client):
    declare(node)
    for wall in (100, 200, 300):
        node.broker.wall = wall
        publish(client, f"at {wall}")
    for start, first in ((50, 0), (100, 0), (101, 1), (200, 1), (300, 2)):
        read(client, Timestamp(start), tag=f"from {start}")
        assert offsets(client) == list(range(first, 3))
    read(client, Timestamp(301), tag="later")
    assert offsets(client) == []
    node.broker.wall = 301
    read(client, "101s", tag="ago")
    assert offsets(client) == [1, 2]


def test_acknowledging_gives_room_for_more(node, client):
    declare(node)
    publish(client, *"abcdef")
    read(client, prefetch=2)
    assert offsets(client) == [0, 1]
    client.session.ack(1, multiple=False)
    assert offsets(client) == [2]
    client.session.ack(3, multiple=True)
    assert offsets(client) == [3, 4]


def test_a_message_is_encoded_once_for_all_readers(node, client):
    declare(node)
    other = node.client()
    read(client)
    read(other)
    publish(client, "a")
    assert client.delivered[0][2] is other.delivered[0][2]


def test_a_publishers_own_offset_header_gives_way_and_the_others_stay(node, client):
    declare(node)
    read(client)
    publish(client, "a", headers={"x-stream-offset": "mine", "n": 1}, message_id="m")
    sent = client.delivered[0][2].message
    assert sent.headers == {"x-stream-offset": 0, "n": 1}
    assert sent.properties.message_id == "m"


def test_a_session_that_ends_gives_nothing_back(node, client):
    stream = declare(node)
    publish(client, "a")
    reader = node.client()
    read(reader)
    node.settle()
    reader.session.close()
    assert stream.unacked == 0
    assert len(stream.ready) == 1


@pytest.mark.parametrize("act", ["nack", "reject", "recover"])
def test_messages_are_neither_refused_nor_requeued(node, client, act):
    declare(node)
    publish(client, "a")
    read(client)
    node.settle()
    refuse = {
        "nack": lambda: client.session.nack(1, multiple=False, requeue=True),
        "reject": lambda: client.session.nack(1, multiple=False, requeue=False),
        "recover": client.session.recover,
    }[act]
    with pytest.raises(NotImplemented_, match=r"basic\.nack and basic\.reject not supported by stream"):
        refuse()


@pytest.mark.parametrize(
    ("prefetch", "options", "error", "text"),
    [
        (0, {}, PreconditionFailed, "consumer prefetch count is not set for 'queue 's' in vhost '/''"),
        (0, {"no_ack": True}, PreconditionFailed, "consumer prefetch count is not set"),
        (
            1,
            {"no_ack": True},
            NotImplemented_,
            "automatic acknowledgement not supported by stream queues queue 's' in vhost '/'",
        ),
        (
            1,
            {"arguments": {"x-priority": 1}},
            PreconditionFailed,
            "invalid arg 'x-priority' for queue 's' in vhost '/' of queue type rabbit_stream_queue",
        ),
        (
            1,
            {"arguments": {"x-stream-offset": "5x"}},
            PreconditionFailed,
            "invalid arg 'x-stream-offset' for queue 's' in vhost '/': "
            '{invalid_stream_offset_arg,{longstr,<<"5x">>}}',
        ),
        (1, {"arguments": {"x-stream-offset": True}}, PreconditionFailed, "{bool,true}"),
        (1, {"arguments": {"x-stream-filter": 1}}, PreconditionFailed, "{unacceptable_type,signedint}"),
        (
            1,
            {"arguments": {"x-selector": "a ="}},
            PreconditionFailed,
            "invalid arg 'x-selector' for queue 's'",
        ),
    ],
)
def test_consumers_that_are_refused(node, client, prefetch, options, error, text):  # noqa: PLR0917
    declare(node)
    with pytest.raises(error) as refused:
        client.consume("s", prefetch=prefetch, **options)
    assert text in str(refused.value)


def test_the_shared_prefetch_of_a_session_is_refused(node, client):
    declare(node)
    client.session.set_prefetch(5, shared=True)
    with pytest.raises(NotImplemented_, match="does not support global qos"):
        read(client)


def test_what_a_stream_does_not_do(node, client):
    stream = declare(node)
    with pytest.raises(
        NotImplemented_, match=r"basic\.get not supported by stream queues queue 's' in vhost '/'"
    ):
        client.get("s")
    with pytest.raises(NotImplemented_, match=r"queue\.purge not supported by stream queues"):
        client.topology.purge_queue("s")
    publish(client, "a")
    with pytest.raises(PreconditionFailed, match="not empty"):
        node.vhost.delete_queue(stream, if_empty=True)


def test_deleting_a_stream_cancels_its_readers(node, client):
    stream = declare(node)
    publish(client, "a")
    read(client)
    node.settle()
    assert node.vhost.delete_queue(stream) == 1
    assert client.ended == ["c"]


def test_whole_segments_go_when_the_stream_is_too_large(node, client):
    stream = declare(node, max_length_bytes=2000, stream_max_segment_size_bytes=500)
    publish(client, *("x" * 100 for _ in range(100)))
    assert stream.first > 0
    assert stream.bytes <= 2000 + 500 + 200
    read(client)
    assert offsets(client)[0] == stream.first


def test_segments_go_when_they_are_too_old(node, client):
    stream = declare(node, max_age="10s", stream_max_segment_size_bytes=0)
    for wall in range(5):
        node.broker.wall = 100 + wall
        publish(client, "x")
    node.broker.wall = 112
    node.at(12_000)
    # the one of 102 went, and that of 103 is followed by one that is not 10 s old yet
    assert stream.first == 2
    node.broker.wall = 1000
    node.at(1_000_000)
    assert (stream.first, len(stream.ready)) == (4, 1)  # the last segment stays


def test_a_reader_behind_the_edge_moves_to_the_first_offset(node, client):
    stream = declare(node, max_length_bytes=1000, stream_max_segment_size_bytes=300)
    publish(client, "x" * 100)
    read(client, prefetch=1)
    assert offsets(client) == [0]
    publish(client, *("x" * 100 for _ in range(50)))
    client.session.ack(1, multiple=False)
    assert offsets(client) == [stream.first]
    assert stream.serving.moved == stream.first - 1


def test_a_reader_gets_what_its_filter_asks_for(node, client):
    declare(node)
    for value in ("eu", "us", None, "eu"):
        headers = {"n": 1} if value is None else {"x-stream-filter-value": value}
        publish(client, str(value), headers=headers)
    for tag, arguments, expected in (
        ("one", {"x-stream-filter": "eu"}, [0, 3]),
        ("two", {"x-stream-filter": ["eu", "us"]}, [0, 1, 3]),
        ("unfiltered", {"x-stream-filter": "us", "x-stream-match-unfiltered": True}, [1, 2]),
        ("none", {"x-stream-filter": "asia"}, []),
        ("nothing", {"x-stream-filter": []}, []),
        ("only unfiltered", {"x-stream-filter": [], "x-stream-match-unfiltered": True}, [2]),
        ("all", {}, [0, 1, 2, 3]),
    ):
        read(client, tag=tag, **arguments)
        assert offsets(client) == expected


def test_a_reader_gets_what_its_selector_is_true_of(node, client):
    declare(node)
    for total in (5, 500, 50):
        publish(client, str(total), headers={"total": total})
    read(client, **{"x-selector": "total > 10"})
    assert client.take() == ["500", "50"]


def test_a_filtering_reader_gets_no_more_than_its_prefetch(node, client):
    declare(node)
    for _ in range(10):
        client.session.publish(message("a", "s", headers={"x-stream-filter-value": "a"}))
        client.session.publish(message("b", "s", headers={"x-stream-filter-value": "b"}))
    node.settle()
    read(client, prefetch=3, **{"x-stream-filter": "b"})
    assert offsets(client) == [1, 3, 5]
    client.session.ack(0, multiple=True)
    assert offsets(client) == [7, 9, 11]


def test_long_streams_are_given_in_slices_and_in_turn(node, client):
    declare(node)
    for number in range(5000):
        client.session.publish(message(str(number), "s"))
    node.settle()
    other = node.client()
    for each in (client, other):
        read(each, prefetch=10_000)
    assert node.settle() > 5
    assert client.seen() == other.seen() == [str(number) for number in range(5000)]


def test_messages_that_come_together_are_as_those_that_come_one_by_one(node, client):
    stream = declare(node)
    headers = {"x-stream-filter-value": "eu"}
    for bodies in (["a", "b", "c"], ["d", "e"], ["longer", "ones!!"]):  # the first ones are not alike yet
        client.session.publish_all(
            [message(body, "s", headers=headers) for body in bodies], sum(map(len, bodies))
        )
        node.settle()
    read(client)
    node.settle()
    assert client.seen() == ["a", "b", "c", "d", "e", "longer", "ones!!"]
    assert [entry.message.headers["x-stream-offset"] for _, _, entry in client.delivered] == list(range(7))
    assert stream.published == 7
    read(client, tag="filtered", **{"x-stream-filter": "eu"})
    node.settle()
    assert len(client.seen("filtered")) == 7


def test_a_message_reaches_thousands_of_readers_in_slices(node, client):
    stream = declare(node)
    count = 3 * DRAIN
    for number in range(count):
        read(client, None, tag=str(number))
    client.session.cancel("5")
    client.publish("a", "s")
    delivered = [0]
    while delivered[-1] < count - 1:
        stream.run_deliveries(node.broker.now)
        delivered.append(len(client.delivered))
        assert 0 < delivered[-1] - delivered[-2] <= DRAIN / SERVED
    assert sorted(tag for tag, _, _ in client.delivered) == sorted(set(map(str, range(count))) - {"5"})
    while stream.run_deliveries(node.broker.now):
        pass
    assert len(client.delivered) == count - 1


def test_a_reader_of_the_future_waits_through_commits(node, client):
    declare(node)
    read(client, 3)
    publish(client, "a", "b", "c")
    assert client.take() == []
    publish(client, "d", "e")
    assert client.take() == ["d", "e"]
