"""The effect of each STOMP command."""

from dataclasses import replace

import pytest

from leveret.protocol.amqp.properties import Properties
from leveret.protocol.stomp.frames import VERSIONS, Frame
from leveret.router.settings import Amqp, Settings
from tests.router.harness import message


@pytest.fixture
def client(connect):
    return connect()


def contents(world, name="q"):
    return [entry.message.body.decode() for entry in world.vhost.queues[name].ready]


def ack_of(frame):
    return frame.headers["ack"]


LARGE = [{}, {"reply_to": "/temp-queue/r"}, {"priority": "3", "receipt": "1"}]


@pytest.mark.parametrize("headers", LARGE, ids=len)
@pytest.mark.parametrize("size", [1 << 18, 9 << 20])
def test_a_large_body_is_collected_as_the_content_of_its_message(client, world, size, headers):
    body = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    data = client.packed("SEND", body, destination="/queue/q", **headers)
    for start in range(0, len(data), 1 << 16):
        client.send_raw(data[start : start + (1 << 16)])
    client.send("SEND", b"small", destination="/queue/q", **headers)
    large, small = (entry.message for entry in world.vhost.queues["q"].ready)
    assert (large.body, large.size, small.body) == (body, size, b"small")
    assert large.headers == small.headers | {"content-length": str(size)}
    assert replace(large.properties, headers=None) == replace(small.properties, headers=None)
    assert isinstance(large.frames, bytes) == ("reply_to" in headers)


# -- SEND and SUBSCRIBE, by destination ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "sent", "told"),
    [
        ("/queue/q", "/queue/q", "/queue/q"),
        ("q", "q", "/queue/q"),
        ("/queue/a%2Fb%25", "/queue/a%2Fb%25", "/queue/a%2Fb%25"),
        ("/topic/a.*", "/topic/a.b", "/topic/a.b"),
        ("/exchange/amq.direct/k", "/exchange/amq.direct/k", "/exchange/amq.direct/k"),
        ("/exchange/amq.fanout", "/exchange/amq.fanout/any", "/exchange/amq.fanout/any"),
        ("/exchange/amq.fanout", "/exchange/amq.fanout", "/exchange/amq.fanout"),
        ("/exchange/amq.topic/#", "/topic/ü", "/topic/%C3%BC"),
    ],
)
def test_what_is_sent_to_a_destination_comes_to_its_subscribers(client, destination, sent, told):
    client.subscribe(destination)
    client.publish("hi", sent)
    assert client.take("MESSAGE").headers["destination"] == told


def test_a_queue_destination_is_declared_durable(world, client):
    client.publish("1")
    queue = world.vhost.queues["q"]
    assert (queue.durable, queue.auto_delete, queue.owner) == (True, False, None)


def test_headers_say_what_a_queue_is_like(world, client):
    client.subscribe(
        durable="false",
        auto_delete="true",
        exclusive="true",
        x_message_ttl="1000",
        x_dead_letter_exchange="amq.direct",
        x_single_active_consumer="true",
    )
    queue = world.vhost.queues["q"]
    assert (queue.durable, queue.auto_delete, queue.owner) == (False, True, client.connection)
    assert queue.arguments == {
        "x-message-ttl": 1000,
        "x-dead-letter-exchange": "amq.direct",
        "x-single-active-consumer": True,
    }


@pytest.mark.parametrize(
    ("headers", "exclusive", "auto_delete"),
    [
        ({}, True, True),
        ({"exclusive": "false"}, False, True),
        ({"auto_delete": "false"}, True, False),
    ],
)
def test_a_queue_that_is_not_durable_is_the_connections_own(world, client, headers, exclusive, auto_delete):
    client.subscribe(durable="false", **headers)
    queue = world.vhost.queues["q"]
    assert (queue.durable, queue.auto_delete) == (False, auto_delete)
    assert (queue.owner is client.connection) is exclusive


def test_a_queue_is_declared_once_by_each_client_and_again_when_it_is_gone(world, client):
    client.publish("1", x_max_length="5")
    client.publish("2")
    assert contents(world) == ["1", "2"]
    world.vhost.delete_queue(world.vhost.queues["q"])
    client.publish("3")
    assert contents(world) == ["3"]


def test_a_queue_with_other_properties_is_not_declared_again(client, connect):
    client.publish("1")
    other = connect()
    other.publish("1", durable="false", exclusive="false")
    message, detail = other.error()
    assert message == "precondition_failed"
    assert "inequivalent arg 'durable' for queue 'q'" in detail


def test_amq_queue_names_a_queue_as_it_is(world, client):
    world.vhost.declare_queue("theirs")
    client.subscribe("/amq/queue/theirs")
    client.publish("1", "/amq/queue/theirs")
    assert client.bodies() == ["1"]
    client.publish("1", "/amq/queue/nope", receipt="r")
    assert client.receipts() == ["r"]  # as in RabbitMQ: it has no queue to go to
    assert "nope" not in world.vhost.queues


def test_a_reply_queue_may_have_slashes(world, client):
    world.vhost.declare_queue("a/b")
    client.publish("1", "/reply-queue/a/b")
    assert contents(world, "a/b") == ["1"]


def test_replies_come_to_the_temporary_queue_that_was_named(client, connect):
    server = connect()
    server.subscribe("/queue/q")
    client.publish("question", reply_to="/temp-queue/mine")
    client.publish("another", reply_to="/temp-queue/mine")
    asked = server.received()
    answer_to = {frame.headers["reply-to"] for frame in asked}
    assert len(answer_to) == 1
    assert next(iter(answer_to)).startswith("/reply-queue/amq.gen-")
    server.publish("answer", answer_to.pop())
    answer = client.take("MESSAGE")
    assert answer.body == b"answer"
    assert answer.headers["subscription"] == "/temp-queue/mine"


def test_a_subscription_to_an_exchange_has_a_queue_that_goes_with_it(world, client):
    client.subscribe("/topic/a")
    (queue,) = world.vhost.queues.values()
    assert queue.name.startswith("stomp-subscription-")
    assert (queue.durable, queue.auto_delete, queue.owner) == (False, True, None)
    client.send("UNSUBSCRIBE", id="1")
    assert not world.vhost.queues


@pytest.mark.parametrize("header", ["durable", "persistent"])
def test_a_durable_subscription_is_found_again_by_its_id(world, connect, header):
    first = connect()
    first.subscribe("/topic/a", "sub", auto_delete="false", **{header: "true"})
    first.send("DISCONNECT")
    connect().publish("1", "/topic/a")
    (queue,) = world.vhost.queues.values()
    assert (queue.durable, queue.auto_delete, queue.owner) == (True, False, None)
    second = connect()
    second.subscribe("/topic/a", "sub", auto_delete="false", **{header: "true"})
    assert second.bodies() == ["1"]
    second.send("UNSUBSCRIBE", id="sub", destination="/topic/a", **{header: "true"})
    assert not world.vhost.queues


@pytest.mark.parametrize(
    ("destination", "named", "left"),
    [
        ("/exchange/amq.topic/a", {}, True),
        ("/exchange/amq.topic/a", {"x_queue_name": "mine"}, True),
        ("/topic/a", {}, True),  # the queue of the id would be meant, and there is none
        ("/topic/a", {"x_queue_name": "mine"}, False),
        ("/queue/mine", {"x_queue_name": "mine"}, True),
        ("/amq/queue/mine", {"x_queue_name": "mine"}, True),
    ],
)
def test_only_the_queue_of_a_durable_topic_subscription_is_deleted(world, client, destination, named, left):
    world.vhost.declare_queue("mine", durable=True)
    client.subscribe(destination, durable="true", auto_delete="false", x_queue_name="mine")
    client.publish("kept", "/amq/queue/mine")
    client.received()
    client.send("UNSUBSCRIBE", id="1", durable="True", **named)
    assert ("mine" in world.vhost.queues) is left
    assert not client.outbox.closed


@pytest.mark.parametrize("refused", [{"x_selector": "("}, {"x_priority": "1", "x_stream_offset": "1h"}])
def test_a_subscription_that_is_refused_leaves_no_queue(world, client, refused):
    client.send("SUBSCRIBE", destination="/topic/a", id="1", durable="true", auto_delete="false", **refused)
    client.error()
    assert not world.vhost.queues


def test_a_subscription_that_is_refused_leaves_the_queue_that_it_found(world, connect):
    connect().subscribe("/topic/a", durable="true", auto_delete="false")
    other = connect()
    other.send(
        "SUBSCRIBE", destination="/topic/a", id="1", durable="true", auto_delete="false", x_selector="("
    )
    other.error()
    assert len(world.vhost.queues) == 1


def test_a_subscription_can_name_its_queue(world, client):
    client.subscribe("/topic/a", x_queue_name="mine")
    assert list(world.vhost.queues) == ["mine"]


def test_a_subscription_can_have_a_selector(client):
    client.subscribe("/topic/a", x_selector="colour = 'red'")
    client.publish("1", "/topic/a", colour="blue")
    client.publish("2", "/topic/a", colour="red")
    assert client.bodies() == ["2"]


@pytest.mark.parametrize("destination", ["/queue/a", "/amq/queue/a"])
def test_a_selector_where_nothing_is_bound_is_an_error(world, client, destination):
    client.send("SUBSCRIBE", destination=destination, id="1", x_selector="colour = 'red'")
    message, text = client.error()
    assert message == "Invalid header"
    assert f"'{destination}' is a queue with all that is in it" in text
    assert not world.vhost.queues


BAD_DESTINATIONS = {
    None: ("Missing destination", "\"SEND\" must include a 'destination' header\n"),
    "": ("Invalid destination", "Destination cannot be blank"),
    "/queue": ("Invalid destination", "'' is not a valid queue destination\n"),
    "/queue/": ("Invalid destination", "'/' is not a valid queue destination\n"),
    "/queue/a/b": ("Invalid destination", "'/a/b' is not a valid queue destination\n"),
    "/topic/": ("Invalid destination", "'/' is not a valid topic destination\n"),
    "/amq/queue/": ("Invalid destination", "'/' is not a valid amqqueue destination\n"),
    "/exchange/": ("Invalid destination", "'/' is not a valid exchange destination\n"),
    "/exchange//k": ("Invalid destination", "'//k' is not a valid exchange destination\n"),
    "/exchange/e/k/x": ("Invalid destination", "'/e/k/x' is not a valid exchange destination\n"),
    "/reply-queue/": ("Invalid destination", "'/' is not a valid reply_queue destination\n"),
    "/temp-queue/x": ("Invalid destination", "'/temp-queue/x' is not a valid destination for 'SEND'\n"),
    "/queuefoo": (
        "Unknown destination",
        "'/queuefoo' is not a valid destination.\nValid destination types are: "
        "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/.\n",
    ),
    "/topic/" + "x" * 256: ("Invalid destination", "A name in a destination may have 255 bytes\n"),
    "/queue/" + "x" * 256: ("Invalid destination", "A name in a destination may have 255 bytes\n"),
    "/exchange/nope/k": ("not_found", "NOT_FOUND - no exchange 'nope' in vhost '/'"),
    "/exchange/amq.rabbitmq.trace/k": (
        "access_refused",
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
    ),
}


@pytest.mark.parametrize(("destination", "error"), BAD_DESTINATIONS.items(), ids=str)
def test_destinations_that_are_none(client, destination, error):
    client.send("SEND", **({} if destination is None else {"destination": destination}))
    assert client.error() == error


BAD_FRAMES = {
    ("SEND", "message-id"): ("Invalid header", "'message-id' is not allowed on 'SEND'.\n"),
    ("SEND", "priority"): ("Invalid header", "'priority' must be a number from 0 to 255, not 'bad'\n"),
    ("SEND", "timestamp"): (
        "Invalid header",
        "'timestamp' must be a number from 0 to 18446744073709551615, not 'bad'\n",
    ),
    ("SEND", "expiration"): (
        "precondition_failed",
        "PRECONDITION_FAILED - invalid expiration 'bad': no_integer",
    ),
    ("SEND", "user-id"): (
        "precondition_failed",
        "PRECONDITION_FAILED - user_id property set to 'bad' but authenticated user was 'guest'",
    ),
    ("SEND", "x-max-length"): ("Invalid header", "'x-max-length' must be a whole number, not 'bad'\n"),
    ("SEND", "transaction"): ("Bad transaction", 'Invalid transaction identifier: "bad"\n'),
    ("SUBSCRIBE", "ack"): (
        "Invalid header",
        "'ack' must be one of auto, client, client-individual, not 'bad'\n",
    ),
    ("SUBSCRIBE", "prefetch-count"): (
        "Invalid header",
        "'prefetch-count' must be a number from 0 to 65535, not 'bad'\n",
    ),
    ("SUBSCRIBE", "x-priority"): ("Invalid header", "'x-priority' must be a whole number, not 'bad'\n"),
    ("NONSENSE", "x"): ("Bad command", 'Could not interpret command "NONSENSE"\n'),
}


@pytest.mark.parametrize(("frame", "error"), BAD_FRAMES.items(), ids=str)
def test_headers_that_are_wrong(client, frame, error):
    command, header = frame
    client.send(command, destination="/queue/q", **{header: "bad"})
    assert client.error() == error


@pytest.mark.parametrize(
    ("command", "header", "value", "most"),
    [
        ("SEND", "priority", "300", 255),
        ("SUBSCRIBE", "prefetch-count", "-1", 65535),
        ("SUBSCRIBE", "prefetch-count", "70000", 65535),
    ],
)
def test_numbers_that_amqp_has_no_room_for(client, command, header, value, most):
    client.send(command, destination="/queue/q", **{header: value})
    assert client.error() == (
        "Invalid header",
        f"'{header}' must be a number from 0 to {most}, not '{value}'\n",
    )


@pytest.mark.parametrize("header", ["content-type", "reply-to", "correlation-id"])
def test_properties_that_are_too_long(client, header):
    client.send("SEND", destination="/queue/q", **{header: "ä" * 128})
    assert client.error() == ("Invalid header", f"'{header}' may have 255 bytes\n")


@pytest.mark.parametrize("value", [str(2**63), "1e3", "- 1", "9" * 5000, ""])
def test_arguments_that_no_integer_holds(client, value):
    client.subscribe("/queue/other", x_max_length=str(2**63 - 1))
    client.publish("1", x_max_length=value)
    assert client.error() == (
        "Invalid header",
        f"'x-max-length' must be a whole number, not '{value[:80]}'\n",
    )


# -- subscriptions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_without_id_is_known_by_its_destination(connect, version):
    client = connect(version)
    client.send("SUBSCRIBE", destination="/queue/q")
    client.publish("1")
    assert "subscription" not in client.take("MESSAGE").headers
    client.send("UNSUBSCRIBE", destination="/queue/q", receipt="r")
    client.publish("2")
    assert client.receipts() == ["r"]


@pytest.mark.parametrize(
    ("command", "headers", "error"),
    [
        (
            "SUBSCRIBE",
            {"destination": "/queue/q", "id": "1"},
            ("Duplicated subscription identifier", "A subscription identified by 'T_1' already exists."),
        ),
        (
            "SUBSCRIBE",
            {"destination": "/queue/q", "id": "/temp-queue/x"},
            ("Invalid id", "SUBSCRIBE 'id' may not start with /temp-queue/\n"),
        ),
        (
            "SUBSCRIBE",
            {"destination": "/topic/a", "durable": "true"},
            ("Missing Header", "Header 'id' is required for durable subscriptions"),
        ),
        (
            "SUBSCRIBE",
            {"destination": "/amq/queue/nope", "id": "2"},
            ("not_found", "NOT_FOUND - no queue 'nope' in vhost '/'"),
        ),
        (
            "SUBSCRIBE",
            {"destination": "/exchange/nope/x", "id": "2"},
            ("not_found", "NOT_FOUND - no exchange 'nope' in vhost '/'"),
        ),
        (
            "SUBSCRIBE",
            {"destination": "/temp-queue/x", "id": "2"},
            ("Invalid destination", "'/temp-queue/x' is not a valid destination for 'SUBSCRIBE'\n"),
        ),
        (
            "SUBSCRIBE",
            {},
            ("Missing destination", "\"SUBSCRIBE\" must include a 'destination' header\n"),
        ),
        (
            "UNSUBSCRIBE",
            {"id": "3"},
            (
                "No subscription found",
                "UNSUBSCRIBE must refer to an existing subscription.\n"
                "Subscription to \"id='3'\" not found.\n",
            ),
        ),
        (
            "UNSUBSCRIBE",
            {},
            ("Missing destination or id", "UNSUBSCRIBE must include a 'destination' or 'id' header"),
        ),
    ],
)
def test_subscriptions_that_are_refused(world, client, command, headers, error):
    client.subscribe()
    client.send(command, **headers)
    assert client.error() == error
    assert world.vhost.queues.keys() == {"q"}


def test_the_prefetch_count_limits_what_is_held(client):
    client.subscribe(ack="client-individual", prefetch_count="2")
    for number in range(4):
        client.publish(str(number))
    first, second = client.received()
    assert (first.body, second.body) == (b"0", b"1")
    client.send("ACK", id=ack_of(first))
    assert client.take("MESSAGE").body == b"2"


def test_a_higher_priority_is_served_first(client, connect):
    other = connect()
    other.subscribe()
    client.subscribe(x_priority="5")
    client.publish("1")
    assert (client.bodies(), other.bodies()) == (["1"], [])


def test_a_deleted_queue_is_reported_and_the_connection_stays(world, client):
    client.subscribe(id="sub")
    world.vhost.delete_queue(world.vhost.queues["q"])
    frame = client.take("ERROR")
    assert frame.headers["message"] == "Server cancelled subscription"
    assert frame.headers["subscription"] == "sub"
    assert frame.body == (
        b"The server has canceled a subscription.\nNo more messages will be delivered for \"id='sub'\".\n"
    )
    assert not client.outbox.closed
    client.subscribe(id="sub")


# -- ACK and NACK --------------------------------------------------------------------------------------------


def hold(client, mode, count=3):
    """Have messages delivered and held; return their frames."""
    client.subscribe(ack=mode)
    for number in range(count):
        client.publish(str(number))
    return client.received()


def held(world, name="q"):
    """What goes back to the queue when everybody leaves."""
    for client in list(world.broker.clients):
        client.lost()
    world.flush()
    return contents(world, name)


def test_auto_settles_at_once(world, client):
    frames = hold(client, "auto")
    assert len(frames) == 3
    assert not any("ack" in frame.headers for frame in frames)
    assert held(world) == []


def test_client_settles_all_that_came_before(world, client):
    frames = hold(client, "client")
    client.send("ACK", id=ack_of(frames[1]))
    assert held(world) == ["2"]


@pytest.mark.parametrize("command", ["ACK", "NACK"])
@pytest.mark.parametrize("transaction", [False, True])
def test_client_settles_nothing_of_other_subscriptions(world, client, command, transaction):
    for name, mode in (("a", "client"), ("b", "client"), ("c", "client-individual")):
        client.subscribe(f"/queue/{name}", id=name, ack=mode)
    for number in range(3):
        for name in "abc":
            client.publish(f"{name}{number}", f"/queue/{name}")
    frames = {frame.body.decode(): frame for frame in client.received()}
    named = {}
    if transaction:
        client.send("BEGIN", transaction="t")
        named = {"transaction": "t"}
    client.send(command, id=ack_of(frames["b1"]), requeue="false", **named)
    if transaction:
        client.send("COMMIT", transaction="t")
    client.send("ACK", id=ack_of(frames["b2"]))
    client.send("ACK", id=ack_of(frames["c1"]))
    left = {name: held(world, name) for name in "abc"}
    assert left == {"a": ["a0", "a1", "a2"], "b": [], "c": ["c0", "c2"]}


def test_client_settles_messages_that_came_together(world, client):
    for number in range(5):
        client.publish(str(number))
    client.subscribe(ack="client")
    frames = client.received()
    client.send("ACK", id=ack_of(frames[1]))
    client.send("ACK", id=ack_of(frames[3]))
    assert held(world) == ["4"]


@pytest.mark.parametrize("number", [0, 2, 3])
def test_client_settles_only_what_its_subscription_holds(client, number):
    frames = hold(client, "client")
    client.subscribe("/queue/other", id="2", ack="client")
    client.publish("other", "/queue/other")
    client.take("MESSAGE")
    client.send("ACK", id=ack_of(frames[2]))
    client.send("ACK", id=ack_of(frames[0])[:-1] + str(number + 1))
    assert client.error() == (
        "precondition_failed",
        f"PRECONDITION_FAILED - unknown delivery tag {number + 1}",
    )


def test_client_individual_settles_one(world, client):
    frames = hold(client, "client-individual")
    client.send("ACK", id=ack_of(frames[1]))
    assert held(world) == ["0", "2"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_older_versions_settle_by_message_id(world, connect, version):
    client = connect(version)
    frames = hold(client, "client-individual")
    assert "ack" not in frames[0].headers
    client.send("ACK", message_id=frames[0].headers["message-id"], subscription="1")
    assert held(world) == ["1", "2"]


def test_nack_puts_back(world, client):
    client.subscribe(ack="client-individual", prefetch_count="1")
    client.publish("1")
    first = client.take("MESSAGE")
    assert first.headers["redelivered"] == "false"
    client.send("NACK", id=ack_of(first))
    assert client.take("MESSAGE").headers["redelivered"] == "true"


def test_nack_without_requeue_dead_letters(world, client):
    client.subscribe(
        ack="client-individual", x_dead_letter_exchange="amq.fanout", x_dead_letter_routing_key="k"
    )
    client.subscribe("/exchange/amq.fanout", id="2")
    client.publish("1")
    client.send("NACK", id=ack_of(client.take("MESSAGE")), requeue="false")
    assert client.take("MESSAGE").headers["destination"] == "/exchange/amq.fanout/k"


def test_messages_of_a_subscription_that_ended_can_be_settled(world, client):
    (frame,) = hold(client, "client", 1)
    client.send("UNSUBSCRIBE", id="1")
    client.send("ACK", id=ack_of(frame), receipt="r")
    assert client.receipts() == ["r"]
    assert held(world) == []


@pytest.mark.parametrize(
    ("version", "headers", "error"),
    [
        ("1.2", {}, ("Missing header", '"ACK" must include the "id" header\n')),
        ("1.1", {"id": "x"}, ("Missing header", '"ACK" must include the "message-id" header\n')),
        ("1.2", {"id": "x"}, ("Invalid header", '"ACK" must include a valid "id" header\n')),
        ("1.2", {"id": "T_1@@s@@x"}, ("Invalid header", '"ACK" must include a valid "id" header\n')),
        (
            "1.2",
            {"id": "T_1@@s@@" + "9" * 30},
            ("Invalid header", '"ACK" must include a valid "id" header\n'),
        ),
        (
            "1.2",
            {"id": "T_1@@session-other@@1"},
            ("Subscription not found", 'Message with id "T_1@@session-other@@1" has no subscription'),
        ),
    ],
)
def test_acks_of_nothing(connect, version, headers, error):
    client = connect(version)
    client.send("ACK", **headers)
    assert client.error() == error


def test_what_was_settled_cannot_be_settled_again(client):
    (frame,) = hold(client, "client", 1)
    client.send("ACK", id=ack_of(frame))
    client.send("ACK", id=ack_of(frame))
    assert client.error() == ("precondition_failed", "PRECONDITION_FAILED - unknown delivery tag 1")


# -- transactions --------------------------------------------------------------------------------------------


def test_a_transaction_takes_effect_when_it_is_committed(world, client):
    client.subscribe(ack="client-individual", prefetch_count="1")
    client.publish("0")
    first = client.take("MESSAGE")
    client.send("BEGIN", transaction="a", receipt="begun")
    client.publish("1", transaction="a", receipt="sent")
    client.send("ACK", id=ack_of(first), transaction="a", receipt="acked")
    assert client.receipts() == ["begun", "acked"]
    assert contents(world) == []
    client.send("COMMIT", transaction="a", receipt="committed")
    frames = client.received()
    assert [frame.headers.get("receipt-id") for frame in frames] == ["sent", "committed", None]
    assert frames[-1].body == b"1"


def test_an_aborted_transaction_is_forgotten(world, client):
    client.send("BEGIN", transaction="a")
    client.publish("1", transaction="a")
    client.send("ABORT", transaction="a", receipt="r")
    assert client.receipts() == ["r"]
    client.publish("2")
    assert contents(world) == ["2"]


def test_several_transactions_do_not_mix_with_each_other_or_with_the_rest(world, client):
    for name in "ab":
        client.send("BEGIN", transaction=name)
        client.publish(name, transaction=name)
    client.publish("neither", receipt="r")
    client.send("COMMIT", transaction="b")
    client.send("ABORT", transaction="a")
    assert contents(world) == ["neither", "b"]
    assert client.receipts() == ["r"]


def test_a_transaction_that_cannot_be_committed_has_no_effect(world, client):
    client.publish("0")
    client.send("BEGIN", transaction="a")
    client.publish("1", transaction="a")
    client.publish("2", "/exchange/nope/x", transaction="a")
    client.send("COMMIT", transaction="a", receipt="r")
    assert client.error() == ("not_found", "NOT_FOUND - no exchange 'nope' in vhost '/'")
    assert contents(world) == ["0"]


@pytest.mark.parametrize("command", ["BEGIN", "COMMIT", "ABORT"])
def test_transactions_have_names(connect, command):
    client = connect()
    client.send(command)
    assert client.error() == ("Missing transaction", f"\"{command}\" must include a 'transaction' header\n")


def test_transactions_that_are_refused(connect):
    for commands, error in (
        (["COMMIT"], ("Bad transaction", 'Invalid transaction identifier: "a"\n')),
        (["ABORT"], ("Bad transaction", 'Invalid transaction identifier: "a"\n')),
        (["BEGIN", "BEGIN"], ("Bad transaction", 'There is a transaction "a" already\n')),
        (["BEGIN", "COMMIT", "COMMIT"], ("Bad transaction", 'Invalid transaction identifier: "a"\n')),
    ):
        client = connect()
        for command in commands:
            client.send(command, transaction="a")
        assert client.error() == error


def test_only_so_many_transactions_at_a_time(client):
    for number in range(17):
        client.send("BEGIN", transaction=str(number))
    assert client.error() == ("Transaction limit exceeded", "At most 16 transactions at a time\n")


def test_open_transactions_may_hold_so_many_bytes_together(world, client):
    world.broker.settings = Settings(amqp=Amqp(max_message_size=10_000))
    for name in "ab":
        client.send("BEGIN", transaction=name)
    for name in "abab":
        client.publish("x" * 8_000, transaction=name)
    client.send("ABORT", transaction="a", receipt="aborted")
    for _ in range(2):
        client.publish("x" * 8_000, transaction="b", receipt="sent")
    client.send("COMMIT", transaction="b")
    assert client.receipts() == ["aborted", "sent", "sent"]
    client.send("BEGIN", transaction="c")
    for _ in range(5):
        client.publish("x" * 8_000, transaction="c")
    assert client.error() == (
        "Transaction too large",
        "All open transactions of a connection may take up 40000 bytes together: commit smaller ones\n",
    )
    assert len(contents(world)) == 4


def test_frames_without_bodies_count_in_a_transaction(world, client):
    world.broker.settings = Settings(amqp=Amqp(max_message_size=10_000))
    client.send("BEGIN", transaction="a")
    for _ in range(100):
        client.send("ACK", id="1", transaction="a")
    assert client.error()[0] == "Transaction too large"


# -- receipts ------------------------------------------------------------------------------------------------


def test_every_command_has_a_receipt(client):
    client.subscribe(ack="client")
    client.publish("1", receipt="send")
    frames = client.received()
    assert [frame.command for frame in frames] == ["MESSAGE", "RECEIPT"]
    for command, headers in {
        "ACK": {"id": ack_of(frames[0])},
        "UNSUBSCRIBE": {"id": "1"},
        "BEGIN": {"transaction": "a"},
        "COMMIT": {"transaction": "a"},
    }.items():
        client.send(command, receipt=command, **headers)
    assert client.receipts() == ["ACK", "UNSUBSCRIBE", "BEGIN", "COMMIT"]


def test_a_message_that_a_full_queue_refuses_ends_the_connection(client):
    client.send("SEND", destination="/queue/q", x_max_length="1", x_overflow="reject-publish", receipt="1")
    client.publish("2", receipt="2")
    assert [frame.command for frame in client.received()] == ["RECEIPT", "ERROR"]
    assert client.outbox.closed


# -- MESSAGE -------------------------------------------------------------------------------------------------


ALL = {
    "content-type": "text/plain",
    "content-encoding": "gzip",
    "correlation-id": "c",
    "reply-to": "/queue/answers",
    "expiration": "60000",
    "amqp-message-id": "m",
    "type": "t",
    "user-id": "guest",
    "app-id": "a",
    "priority": "3",
    "timestamp": "123",
    "persistent": "true",
}


def test_all_properties_come_back_as_they_were_sent(world, client):
    client.send("SEND", b"hi", destination="/queue/q", custom="x:\\\n", **ALL)
    (entry,) = world.vhost.queues["q"].ready
    assert entry.message.properties == Properties(
        content_type="text/plain",
        content_encoding="gzip",
        headers={"custom": "x:\\\n", "content-length": "2"},
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="/queue/answers",
        expiration="60000",
        message_id="m",
        timestamp=123,
        type="t",
        user_id="guest",
        app_id="a",
    )
    client.subscribe(ack="client")
    frame = client.take("MESSAGE")
    session = client.connected.headers["session"]
    assert frame == Frame(
        "MESSAGE",
        {
            **ALL,
            "subscription": "1",
            "message-id": f"T_1@@{session}@@1",
            "ack": f"T_1@@{session}@@1",
            "redelivered": "false",
            "destination": "/queue/q",
            "custom": "x:\\\n",
            "content-length": "2",
        },
        b"hi",
    )


def test_headers_of_all_types_are_sent_as_texts(world, client):
    client.subscribe()
    headers = {"i": 1, "b": True, "f": 1.5, "s": "x", "y": b"z", "none": None, "list": [1], "table": {"a": 1}}
    world.vhost.queues["q"].enqueue(
        message("hi", headers=headers | {"subscription": "forged"}, reply_to="r"), world.broker.now
    )
    world.flush()
    frame = client.take("MESSAGE")
    told = {name: frame.headers.get(name) for name in headers}
    assert told == {
        "i": "1", "b": "true", "f": "1.5", "s": "x", "y": "z", "none": None, "list": None, "table": None
    }  # fmt: skip
    assert (frame.headers["subscription"], frame.headers["reply-to"]) == ("1", "/reply-queue/r")


def test_quorum_queues_tell_how_often_a_message_was_delivered(client):
    client.subscribe(ack="client", x_queue_type="quorum")
    client.publish("1")
    first = client.take("MESSAGE")
    assert "x-delivery-count" not in first.headers
    client.send("NACK", id=ack_of(first))
    assert client.take("MESSAGE").headers["x-delivery-count"] == "1"


# -- permissions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "frame", "refused"),
    [
        ({"write": ".*"}, ("SEND", "/queue/q", {}), "queue 'q'"),
        ({"configure": ".*"}, ("SEND", "/queue/q", {}), "exchange 'amq.default'"),
        ({"configure": ".*"}, ("SUBSCRIBE", "/queue/q", {"id": "1"}), "queue 'q'"),
        (
            {"configure": ".*", "write": ".*", "read": "^n$"},
            ("SUBSCRIBE", "/topic/a", {"id": "1", "x-queue-name": "n"}),
            "exchange 'amq.topic'",
        ),
        (
            {"configure": ".*", "read": ".*"},
            ("SUBSCRIBE", "/topic/a", {"id": "1", "x-queue-name": "n"}),
            "queue 'n'",
        ),
    ],
)
def test_users_may_do_what_their_permissions_say(world, dial, rights, frame, refused):
    world.user("bob", **rights)
    client = dial()
    client.send("CONNECT", login="bob", passcode="guest", accept_version="1.2")
    client.take("CONNECTED")
    command, destination, headers = frame
    client.send(command, destination=destination, **headers)
    assert client.error() == (
        "access_refused",
        f"ACCESS_REFUSED - access to {refused} in vhost '/' refused for user 'bob'",
    )
