"""Streams over STOMP: where a subscription begins, what it reads, and where it goes on."""

import pytest


@pytest.fixture
def client(connect):
    client = connect()
    for number in range(6):
        client.publish(
            str(number),
            "/queue/s",
            x_queue_type="stream",
            x_stream_filter_value="odd" if number % 2 else "even",
            number=str(number),
        )
    client.received()
    return client


def read(client, *, id="1", destination="/queue/s", **headers):
    """The bodies that come to a subscription at once."""
    client.subscribe(
        destination,
        id,
        ack="client",
        prefetch_count="100",
        **({"x_queue_type": "stream"} if destination == "/queue/s" else {}),
        **headers,
    )
    return client.bodies()


@pytest.mark.parametrize(
    ("start", "first"),
    [
        ("first", 0),
        ("next", 6),
        ("offset=0", 0),
        ("offset=4", 4),
        ("offset=-3", 0),
        ("offset=99", 6),
        ("timestamp=0", 0),
        ("timestamp=99999999999", 6),
        ("1Y", 0),
        (None, 6),
    ],
)
def test_a_subscription_begins_where_its_header_says(client, start, first):
    headers = {} if start is None else {"x_stream_offset": start}
    assert read(client, **headers) == [str(number) for number in range(first, 6)]


def test_a_message_has_its_offset_in_a_header(client):
    client.subscribe("/amq/queue/s", ack="client", prefetch_count="1", x_stream_offset="offset=3")
    assert client.take("MESSAGE").headers["x-stream-offset"] == "3"


@pytest.mark.parametrize("start", ["offset=", "offset=x", "timestamp=", "timestamp=-1", "timestamp=1h"])
def test_a_number_that_is_none_is_refused(client, start):
    client.send("SUBSCRIBE", destination="/amq/queue/s", id="1", ack="client", x_stream_offset=start)
    message, body = client.error()
    assert message == "Invalid header"
    assert body.startswith("'x-stream-offset' must be a ")


@pytest.mark.parametrize("start", ["", "nowhere", "3", "First", "interval=1h", "offset"])
def test_a_word_that_says_nothing_is_refused(client, start):
    client.send(
        "SUBSCRIBE",
        destination="/amq/queue/s",
        id="1",
        ack="client",
        prefetch_count="1",
        x_stream_offset=start,
    )
    message, body = client.error()
    assert message == "precondition_failed"
    assert "invalid arg 'x-stream-offset' for queue 's'" in body


def test_a_stream_is_read_with_a_prefetch_count(client):
    client.send("SUBSCRIBE", destination="/amq/queue/s", id="1", ack="client", x_stream_offset="first")
    assert client.error()[1].startswith("PRECONDITION_FAILED - consumer prefetch count is not set for")


def test_a_stream_is_read_with_acknowledgements(client):
    client.send("SUBSCRIBE", destination="/amq/queue/s", id="1", prefetch_count="9", x_stream_offset="first")
    assert client.error()[1].startswith("NOT_IMPLEMENTED - automatic acknowledgement not supported by stream")


@pytest.mark.parametrize(("mode", "more"), [("client", ["2", "3"]), ("client-individual", ["2"])])
def test_acknowledgements_make_room(client, mode, more):
    client.subscribe("/amq/queue/s", ack=mode, prefetch_count="2", x_stream_offset="first")
    first, second = client.received()
    assert (first.body, second.body) == (b"0", b"1")
    client.send("ACK", id=second.headers["ack"])
    assert client.bodies() == more


def test_a_nack_is_refused(client):
    client.subscribe("/amq/queue/s", ack="client", prefetch_count="1", x_stream_offset="first")
    client.send("NACK", id=client.take("MESSAGE").headers["ack"])
    assert "basic.nack and basic.reject not supported by stream queues" in client.error()[1]


def test_a_named_subscription_goes_on_where_it_was(client, connect):
    client.subscribe(
        "/amq/queue/s",
        ack="client",
        prefetch_count="3",
        x_stream_offset="first",
        x_stream_consumer_name="app",
    )
    client.send("ACK", id=client.received()[1].headers["ack"])
    client.bodies()
    client.send("DISCONNECT")
    assert read(connect(), destination="/amq/queue/s", x_stream_consumer_name="app") == ["2", "3", "4", "5"]


@pytest.mark.parametrize(("start", "first"), [("first", 0), ("offset=4", 4), ("next", 6), ("1Y", 0)])
def test_offset_if_new_applies_once(client, connect, start, first):
    named = {"x_stream_consumer_name": "app", "x_stream_offset_if_new": start}
    reader = connect()
    reader.subscribe("/amq/queue/s", ack="client", prefetch_count="100", **named)
    messages = reader.received()
    assert [each.body.decode() for each in messages] == [str(number) for number in range(first, 6)]
    if messages:
        reader.send("ACK", id=messages[-1].headers["ack"])
        reader.bodies()
    reader.send("DISCONNECT")
    client.publish("6", "/queue/s", x_queue_type="stream")
    client.received()
    assert read(connect(), destination="/amq/queue/s", **named) == ["6"]


def test_offset_if_new_needs_a_consumer_name(client):
    client.send(
        "SUBSCRIBE",
        destination="/amq/queue/s",
        id="1",
        ack="client",
        prefetch_count="1",
        x_stream_offset_if_new="first",
    )
    message, body = client.error()
    assert message == "precondition_failed"
    assert "it needs 'x-stream-consumer-name' beside it" in body


def test_one_of_a_name_is_active(client, connect):
    named = {"x_stream_consumer_name": "app", "x_single_active_consumer": "true", "x_stream_offset": "first"}
    other = connect()
    assert len(read(client, destination="/amq/queue/s", **named)) == 6
    assert read(other, destination="/amq/queue/s", **named) == []
    client.send("UNSUBSCRIBE", id="1")
    assert len(other.bodies()) == 6


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_stream_filter": "odd"}, "135"),
        ({"x_stream_filter": "odd,even"}, "012345"),
        ({"x_stream_filter": "none"}, ""),
        ({"x_stream_filter": "none", "x_stream_match_unfiltered": "true"}, "6"),
        ({"x_selector": "number = '4'"}, "4"),
    ],
)
def test_a_subscription_reads_what_it_asks_for(client, headers, expected):
    client.publish("6", "/queue/s", x_queue_type="stream")
    client.received()
    assert read(client, destination="/amq/queue/s", x_stream_offset="first", **headers) == list(expected)


def test_a_stream_is_declared_with_its_limits(world, client):
    client.publish(
        "1",
        "/queue/t",
        x_queue_type="stream",
        x_max_age="1h",
        x_max_length_bytes="1000",
        x_stream_max_segment_size_bytes="500",
        x_stream_filter_size_bytes="32",
    )
    assert world.vhost.queues["t"].arguments == {
        "x-queue-type": "stream",
        "x-max-age": "1h",
        "x-max-length-bytes": 1000,
        "x-stream-max-segment-size-bytes": 500,
        "x-stream-filter-size-bytes": 32,
    }


def test_a_topic_may_be_kept_in_a_stream(client, connect):
    headers = {
        "durable": "true",
        "auto_delete": "false",
        "x_queue_name": "log",
        "x_queue_type": "stream",
        "ack": "client",
        "prefetch_count": "9",
    }
    client.subscribe("/topic/a.*", **headers)
    client.publish("x", "/topic/a.b")
    assert client.bodies() == ["x"]
    assert read(connect(), destination="/amq/queue/log", x_stream_offset="first") == ["x"]
