"""Named consumers: where they go on, who of them is active, and publishers whose messages come twice."""

from unittest.mock import patch

import pytest

from leveret.protocol.amqp.table import Timestamp
from leveret.protocol.errors import PreconditionFailed
from leveret.router.stream import positions
from leveret.router.stream.set_positions import forget_position, set_position
from tests.router.harness import Node
from tests.router.stream.test_stream import declare, offsets, publish, read


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def client(node):
    return node.client()


def named(client, name="app", start=None, prefetch=100, tag="c", *, single=False):
    arguments = {"x-stream-consumer-name": name}
    if single:
        arguments["x-single-active-consumer"] = True
    read(client, start, prefetch, tag, **arguments)


class ChangedNotes(dict):
    """Notes by key; ``b""`` for one that was removed."""

    put = dict.__setitem__

    def forget(self, key):
        self[key] = b""


def position(node, name="app"):
    return node.vhost.queues["s"].positions.get(name).offset


def test_a_named_consumer_goes_on_after_what_it_has_acknowledged(node, client):
    declare(node)
    publish(client, *"abcde")
    named(client, start="first", prefetch=3)
    assert offsets(client) == [0, 1, 2]
    client.session.ack(2, multiple=True)
    client.session.close()
    again = node.client()
    named(again)
    assert offsets(again) == [2, 3, 4]


def test_its_position_is_the_first_offset_that_is_not_acknowledged(node, client):
    declare(node)
    publish(client, *"abcde")
    named(client, start="first")
    node.settle()
    for tag, expected in ((3, 0), (1, 1), (5, 1), (2, 3), (4, 5)):
        client.session.ack(tag, multiple=False)
        assert position(node) == expected


def test_a_new_named_consumer_stores_the_position_where_it_began(node, client):
    declare(node)
    publish(client, "a")
    named(client)
    node.settle()
    client.session.close()
    publish(node.client(), "b", "c")
    again = node.client()
    named(again)
    assert offsets(again) == [1, 2]


def test_an_offset_that_is_given_counts_more_than_the_position(node, client):
    declare(node)
    publish(client, *"abc")
    named(client, start="first")
    node.settle()
    client.session.ack(0, multiple=True)
    client.session.close()
    again = node.client()
    named(again, start=1)
    assert offsets(again) == [1, 2]
    again.session.ack(1, multiple=False)
    assert position(node) == 3  # it never moves back by reading


def test_messages_that_a_filter_leaves_out_do_not_hold_the_position_back(node, client):
    declare(node)
    for number in range(3000):
        client.publish("x", "s", headers={"n": number})
    node.settle()
    read(client, **{"x-stream-consumer-name": "app", "x-selector": "n >= 2999"})
    node.settle()
    client.session.ack(1, multiple=False)
    assert position(node) == 3000


def test_a_position_can_be_set_and_removed_while_its_name_has_no_consumer(node, client):
    stream = declare(node)
    publish(client, *"abc")
    named(client, start="first")
    node.settle()
    with pytest.raises(PreconditionFailed, match="is reading"):
        set_position(stream, "app", 1)
    with pytest.raises(PreconditionFailed, match="is reading"):
        forget_position(stream, "app")
    client.session.ack(0, multiple=True)
    client.session.close()
    set_position(stream, "app", 1)
    again = node.client()
    named(again)
    assert offsets(again) == [1, 2]
    again.session.close()
    assert forget_position(stream, "app")
    assert not forget_position(stream, "app")


def test_an_offset_beyond_the_end_is_refused_and_changes_nothing(node, client):
    stream = declare(node)
    publish(client, *"abc")
    set_position(stream, "app", 3)
    for offset in (4, 1 << 63, 1 << 70):
        with pytest.raises(PreconditionFailed, match=r"beyond the end .* the next message gets 3"):
            set_position(stream, "app", offset)
    assert position(node) == 3


def test_of_too_many_positions_those_go_that_were_not_changed_the_longest(node, client):
    stream = declare(node)
    publish(client, "a")
    with patch.object(positions, "KNOWN", 3):
        for name in ("one", "two", "three", "one", "four"):
            set_position(stream, name, 1)
    assert [name for name, _ in stream.positions] == ["four", "one", "three"]


def test_positions_that_come_back_are_as_bounded():
    notes, kept = ChangedNotes(), positions.Positions()
    for number in range(5):
        kept.put(str(number), 1, 10 - number, notes)
    again = positions.Positions()
    again.recall(notes)
    with patch.object(positions, "KNOWN", 3):
        again.put("new", 1, 20, notes)
    assert [name for name, _ in again] == ["0", "1", "new"]
    assert [key for key, value in notes.items() if not value] == [b"p2", b"p3", b"p4"]


def test_of_a_group_one_is_active_and_another_goes_on_when_it_dies(node, client):
    declare(node)
    clients = [client, node.client(), node.client()]
    for number, each in enumerate(clients):
        named(each, start="first", tag=str(number), single=True)
    publish(node.client(), *"abcd")
    assert [len(each.delivered) for each in clients] == [4, 0, 0]
    client.session.ack(2, multiple=True)
    client.session.close()
    assert offsets(clients[1]) == [2, 3]
    assert offsets(clients[2]) == []
    clients[1].session.ack(0, multiple=True)
    clients[1].session.cancel("1")
    publish(node.client(), "e")
    assert offsets(clients[2]) == [4]


def test_groups_of_other_names_and_readers_without_one_are_not_kept_waiting(node, client):
    declare(node)
    named(client, "one", tag="1", single=True)
    named(client, "two", tag="2", single=True)
    named(client, "one", tag="3")
    read(client, "next", tag="4")
    publish(client, "a")
    node.settle()
    assert [len(client.seen(tag)) for tag in "1234"] == [1, 1, 1, 1]


IF_NEW = "x-stream-offset-if-new"


def begin(node, start, name="app"):
    """The offsets that a consumer of that name gets, which acknowledges them and goes."""
    client = node.client()
    arguments = {"x-stream-consumer-name": name} if name is not None else {}
    client.consume("s", prefetch=100, arguments={IF_NEW: start, **arguments})
    node.settle()
    found = offsets(client)
    if found:
        client.session.ack(0, multiple=True)
    client.session.close()
    node.settle()
    return found


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("first", [0, 1, 2]),
        (1, [1, 2]),
        (-5, [0, 1, 2]),
        ("next", []),
        ("1h", [0, 1, 2]),
        (Timestamp(0), [0, 1, 2]),
    ],
)
def test_offset_if_new_applies_once(node, client, start, first):
    declare(node)
    publish(client, *"abc")
    node.settle()
    assert begin(node, start) == first
    publish(client, *"de")
    node.settle()
    assert begin(node, start) == [3, 4]
    assert begin(node, start) == []
    assert begin(node, "first", "other") == [0, 1, 2, 3, 4]


def test_offset_if_new_applies_after_the_position_was_deleted(node, client):
    stream = declare(node)
    publish(client, *"abc")
    node.settle()
    assert begin(node, "first") == [0, 1, 2]
    forget_position(stream, "app")
    assert begin(node, "first") == [0, 1, 2]


def test_the_next_of_a_group_goes_on_where_the_first_was(node, client):
    declare(node)
    publish(client, *"abc")
    node.settle()
    group = {"x-stream-consumer-name": "app", "x-single-active-consumer": True, IF_NEW: "first"}
    first, second = node.client(), node.client()
    for each in (first, second):
        each.consume("s", prefetch=100, arguments=group)
    node.settle()
    assert (offsets(first), offsets(second)) == ([0, 1, 2], [])
    first.session.ack(2, multiple=True)
    first.session.close()
    node.settle()
    assert offsets(second) == [2]


@pytest.mark.parametrize(
    "arguments",
    [
        {IF_NEW: "first"},
        {IF_NEW: "first", "x-stream-offset": "first", "x-stream-consumer-name": "n"},
        {IF_NEW: "nowhere", "x-stream-consumer-name": "n"},
        {IF_NEW: True, "x-stream-consumer-name": "n"},
        {IF_NEW: "", "x-stream-consumer-name": "n"},
    ],
)
def test_invalid_offset_if_new_is_refused(node, client, arguments):
    declare(node)
    with pytest.raises(PreconditionFailed, match=f"invalid arg '{IF_NEW}'"):
        client.consume("s", prefetch=100, arguments=arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-stream-consumer-name": 5},
        {"x-stream-consumer-name": ""},
        {"x-stream-consumer-name": "n" * 256},
        {"x-single-active-consumer": True},
        {"x-stream-consumer-name": "n", "x-single-active-consumer": "yes"},
    ],
)
def test_names_that_are_refused(node, client, arguments):
    declare(node)
    with pytest.raises(PreconditionFailed, match="invalid arg"):
        read(client, **arguments)


def numbered(client, body, number, name="p"):
    client.publish(body, "s", headers={"x-publisher-name": name, "x-publishing-id": number})
    client.node.settle()


def test_what_a_publisher_sends_twice_is_stored_once(node, client):
    stream = declare(node)
    for number, body in ((1, "a"), (2, "b"), (2, "b"), (1, "a"), (5, "c"), (4, "late")):
        numbered(client, body, number)
    numbered(client, "other's", 1, name="q")
    read(client)
    assert client.take() == ["a", "b", "c", "other's"]
    assert stream.published == 4


def test_duplicates_are_confirmed(node, client):
    declare(node)
    client.session.select_confirms()
    for _ in range(3):
        numbered(client, "a", 1)
    assert client.session.verdicts() == [(3, True, True)]


def test_messages_whose_number_is_none_are_all_stored_and_the_log_says_so_once(node, client, capsys):
    stream = declare(node)
    for headers in (
        {"x-publisher-name": "p"},
        {"x-publishing-id": 1},
        {"x-publisher-name": "p", "x-publishing-id": "1"},
        {"x-publisher-name": "p" * 256, "x-publishing-id": 1},
    ):
        for _ in range(2):
            client.publish("a", "s", headers=headers)
    node.settle()
    assert len(stream.ready) == 8
    assert not stream.publishers
    assert capsys.readouterr().out.count("x-publishing-id an integer") == 1
