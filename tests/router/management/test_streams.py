"""Streams through the API: their ends, positions and lag, and super streams."""

from math import inf

import pytest

from leveret.router.turns.backlog import LongWork
from tests.router.harness import message
from tests.router.management.test_metrics import asked, samples


def stream(api, **arguments):
    return api.vhost.declare_queue("s", durable=True, arguments={"x-queue-type": "stream", **arguments})


def publish(api, count, key="s", exchange=""):
    client = api.node.client()
    for number in range(count):
        client.session.publish(message(str(number), key, exchange))
    api.node.settle()


def read(api, tag="c", prefetch=100, **arguments):
    client = api.node.client()
    named = {f"x-stream-{name.replace('_', '-')}": value for name, value in arguments.items()}
    client.consume("s", tag, prefetch=prefetch, arguments=named)
    api.node.settle()
    return client


def test_a_stream_shows_its_ends_and_consumers(api):
    stream(api)
    publish(api, 10)
    reader = read(api, consumer_name="app", offset="first", prefetch=4)
    reader.session.ack(3, multiple=True)
    read(api, tag="d", offset="last")
    api.broker.wall += 60
    told = api.get("/streams/%2F/s")
    assert (told["first_offset"], told["next_offset"], told["messages"]) == (0, 10, 10)
    assert told["consumers"] == [
        {
            "consumer_name": "app",
            "consumer_tag": "c",
            "active": True,
            "offset": 3,
            "lag_messages": 7,
            "lag_seconds": 60,
        },
        {
            "consumer_name": None,
            "consumer_tag": "d",
            "active": True,
            "offset": 10,
            "lag_messages": 0,
            "lag_seconds": 0,
        },
    ]


def test_what_is_no_stream_is_not_found(api):
    api.vhost.declare_queue("q")
    assert api.ask("GET", "/streams/%2F/q").status == 404
    assert api.ask("GET", "/streams/%2F/nope").status == 404


def test_a_stream_is_among_the_queues(api):
    stream(api)
    publish(api, 3)
    told = api.get("/queues/%2F/s")
    assert (told["type"], told["messages"]) == ("stream", 3)


def test_positions_are_listed_set_and_forgotten(api):
    stream(api)
    publish(api, 10)
    reader = read(api, consumer_name="app", offset="first")
    path = "/streams/%2F/s/positions"
    refused = api.ask("PUT", f"{path}/app", {"offset": 5})
    assert (refused.status, "is reading" in refused.json["reason"]) == (400, True)
    reader.session.ack(0, multiple=True)
    reader.session.close()
    assert [(each["consumer_name"], each["offset"]) for each in api.get(path)] == [("app", 10)]
    for wanted, offset in ((5, 5), ("first", 0), ("next", 10), ("7", 7)):
        assert api.ask("PUT", f"{path}/app", {"offset": wanted}).status == 204
        assert api.get(path)[0]["offset"] == offset
    assert api.ask("PUT", f"{path}/app", {"offset": -1}).status == 400
    assert api.ask("PUT", f"{path}/app", {}).status == 400
    assert api.ask("DELETE", f"{path}/app").status == 204
    assert api.ask("DELETE", f"{path}/app").status == 404
    assert api.get(path) == []


def test_a_super_stream_keeps_what_has_the_same_key_together(api):
    told = api.ask("PUT", "/super-streams/%2F/orders", {"partitions": 3, "arguments": {"x-max-age": "1D"}})
    assert told.json == {"name": "orders", "partitions": ["orders-0", "orders-1", "orders-2"]}
    assert (
        api.ask(
            "PUT", "/super-streams/%2F/orders", {"partitions": 3, "arguments": {"x-max-age": "1D"}}
        ).status
        == 200
    )
    for customer in range(30):
        publish(api, 2, key=f"customer {customer}", exchange="orders")
    lengths = [len(api.vhost.queues[f"orders-{number}"].ready) for number in range(3)]
    assert sum(lengths) == 60
    assert all(length and length % 2 == 0 for length in lengths)


def test_a_super_stream_may_have_a_partition_for_each_key(api):
    told = api.ask("PUT", "/super-streams/%2F/sales", {"binding_keys": ["eu", "us"]})
    assert told.json["partitions"] == ["sales-eu", "sales-us"]
    publish(api, 3, key="eu", exchange="sales")
    assert len(api.vhost.queues["sales-eu"].ready) == 3


def test_a_large_super_stream_is_declared_in_slices_and_answered_when_it_is_there(api, monkeypatch):
    api.broker.budget.clock = lambda: inf  # spent after each slice
    counts = []
    step = LongWork.step

    def count(work):
        over = step(work)
        counts.append(len(api.vhost.queues))
        return over

    monkeypatch.setattr(LongWork, "step", count)
    told = api.ask("PUT", "/super-streams/%2F/large", {"partitions": 100})
    assert len(told.json["partitions"]) == 100
    assert counts == [*range(2, 101), 100]


def test_super_streams_that_are_refused(api):
    for body in ({}, {"partitions": 2, "binding_keys": ["a"]}, {"partitions": 1001}, {"binding_keys": "a"}):
        assert api.ask("PUT", "/super-streams/%2F/x", body).status == 400
    told = api.ask("PUT", "/super-streams/%2F/x", {"binding_keys": ["a", "b", "a"]})
    assert told.status == 400
    assert "binding key 'a' is given 2 times" in told.json["reason"]
    assert "x" not in api.vhost.exchanges


def test_the_metrics_tell_the_lag_of_named_consumers(api):
    stream(api)
    publish(api, 5)
    read(api, consumer_name="app", offset="first")
    _, told = asked(api)
    labels = ("consumer", "app"), ("queue", "s"), ("vhost", "/")
    assert samples(told)["leveret_stream_lag_messages", *labels] == 5


def test_lag_of_consumers_of_one_name_is_the_largest_one(api):
    stream(api)
    publish(api, 10)
    read(api, consumer_name="app", offset="first", prefetch=4)
    read(api, tag="d", consumer_name="app", offset="last")
    text = asked(api)[1]
    assert text.count("leveret_stream_lag_messages{") == 1
    labels = ("consumer", "app"), ("queue", "s"), ("vhost", "/")
    assert samples(text)["leveret_stream_lag_messages", *labels] == 10


def test_name_of_a_consumer_that_is_no_utf8_does_not_end_the_metrics(api):
    stream(api)
    publish(api, 1)
    read(api, consumer_name="\udcff", offset="first")
    assert 'consumer="\\\\udcff"' in asked(api)[1]


@pytest.mark.parametrize("offset", [1, 2**63, 2**70, -1])
def test_offset_that_no_message_has_or_gets_next_is_refused(api, offset):
    stream(api)
    assert api.ask("PUT", "/streams/%2F/s/positions/app", {"offset": offset}).status == 400
    assert api.get("/streams/%2F/s/positions") == []
