"""Exchanges, bindings and the rules of declaring, through pika's blocking connection."""

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from conformance.clients.conftest import Take


@pytest.fixture
def exchange(channel: BlockingChannel, unique: str) -> str:
    """A name for an exchange that the test declares with ``auto_delete``."""
    return unique + "-exchange"


def queues(channel: BlockingChannel, unique: str, count: int) -> list[str]:
    """Declare exclusive queues."""
    names = [f"{unique}-{number}" for number in range(count)]
    for name in names:
        channel.queue_declare(name, exclusive=True)
    return names


@pytest.mark.parametrize(
    ("kind", "binding_keys", "routing_key", "reached"),
    [
        ("direct", ["red", "green", "red"], "red", [0, 2]),
        ("direct", ["red", "green", "red"], "blue", []),
        ("fanout", ["", "ignored", "red"], "whatever", [0, 1, 2]),
        ("topic", ["stock.*.nyse", "stock.#", "#.nyse"], "stock.ibm.nyse", [0, 1, 2]),
        ("topic", ["stock.*.nyse", "stock.#", "#.nyse"], "stock", [1]),
        ("topic", ["*", "#", "*.#"], "", [1]),  # RabbitMQ: the empty key has no words
        ("topic", ["a.*.c", "a.#.c", "#.b.#"], "a.b.b.c", [1, 2]),
    ],
)
def test_an_exchange_routes_by_its_type(  # noqa: PLR0917 - fixtures come by name
    channel: BlockingChannel,
    unique: str,
    exchange: str,
    kind: str,
    binding_keys: list[str],
    routing_key: str,
    reached: list[int],
) -> None:
    channel.exchange_declare(exchange, kind, auto_delete=True)
    names = queues(channel, unique, len(binding_keys))
    for name, key in zip(names, binding_keys, strict=True):
        channel.queue_bind(name, exchange, key)
    channel.confirm_delivery()
    channel.basic_publish(exchange, routing_key, b"message")
    counts = [channel.queue_declare(name, passive=True).method.message_count for name in names]
    assert counts == [int(number in reached) for number in range(len(names))]


@pytest.mark.parametrize(
    ("arguments", "headers", "matches"),
    [
        ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1, "b": "two", "c": 3}, True),
        ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": "two"}, {"b": "two"}, True),
        ({"x-match": "any", "a": 1, "b": "two"}, {"b": "three"}, False),
        ({"a": 1}, {"a": 1}, True),
        ({"x-match": "all", "a": None}, {"a": "anything"}, True),
        ({"x-match": "all", "x-b": 1, "a": 1}, {"a": 1}, True),
        ({"x-match": "all-with-x", "x-b": 1, "a": 1}, {"a": 1}, False),
        ({"x-match": "any-with-x", "x-b": 1, "a": 1}, {"x-b": 1}, True),
        ({"x-match": "all"}, None, True),
        ({"x-match": "any"}, {"a": 1}, False),
    ],
)
def test_a_headers_exchange_matches(  # noqa: PLR0917 - fixtures come by name
    channel: BlockingChannel,
    unique: str,
    exchange: str,
    arguments: dict[str, Any],
    headers: dict[str, Any] | None,
    matches: bool,
) -> None:
    channel.exchange_declare(exchange, "headers", auto_delete=True)
    (name,) = queues(channel, unique, 1)
    channel.queue_bind(name, exchange, "", arguments)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "", b"message", pika.BasicProperties(headers=headers))
    assert channel.queue_declare(name, passive=True).method.message_count == int(matches)


def test_a_message_reaches_a_queue_once_whatever_the_number_of_its_bindings(
    channel: BlockingChannel, unique: str, exchange: str, take: Take
) -> None:
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    (name,) = queues(channel, unique, 1)
    for key in ("#", "a.#", "*.b"):
        channel.queue_bind(name, exchange, key)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "a.b", b"once")
    channel.basic_publish("", name, b"end")
    assert take.bodies(name, 2) == [b"once", b"end"]


def test_exchanges_bound_to_exchanges_pass_messages_on_even_in_a_circle(
    channel: BlockingChannel, unique: str, exchange: str, take: Take
) -> None:
    first, second = exchange + "-1", exchange + "-2"
    channel.exchange_declare(first, "fanout", auto_delete=True)
    channel.exchange_declare(second, "topic", auto_delete=True)
    (name,) = queues(channel, unique, 1)
    channel.queue_bind(name, second, "kept.#")
    channel.exchange_bind(second, first)
    channel.exchange_bind(first, second, "#")
    channel.confirm_delivery()
    channel.basic_publish(first, "kept.key", b"through both")
    channel.basic_publish(first, "lost.key", b"stopped")
    channel.basic_publish(second, "kept.too", b"straight")
    received = take(name, 2)
    assert [(method.exchange, body) for method, _, body in received] == [
        (first, b"through both"),
        (second, b"straight"),
    ]
    channel.exchange_unbind(second, first)
    channel.exchange_unbind(first, second, "#")


def test_an_alternate_exchange_takes_what_is_not_routed(
    channel: BlockingChannel, unique: str, exchange: str, take: Take
) -> None:
    alternate = exchange + "-alternate"
    channel.exchange_declare(alternate, "fanout", auto_delete=True)
    channel.exchange_declare(
        exchange, "direct", auto_delete=True, arguments={"alternate-exchange": alternate}
    )
    routed, unrouted = queues(channel, unique, 2)
    channel.queue_bind(routed, exchange, "known")
    channel.queue_bind(unrouted, alternate)
    channel.confirm_delivery()
    channel.basic_publish(exchange, "known", b"routed", mandatory=True)
    channel.basic_publish(exchange, "unknown", b"unrouted", mandatory=True)
    assert take.bodies(routed, 1) == [b"routed"]
    assert take.bodies(unrouted, 1) == [b"unrouted"]


def test_cc_and_bcc_headers_route_further_and_bcc_is_hidden(
    channel: BlockingChannel, unique: str, take: Take
) -> None:
    direct, copy, blind = queues(channel, unique, 3)
    properties = pika.BasicProperties(headers={"CC": [copy], "BCC": [blind]})
    channel.basic_publish("", direct, b"to all", properties)
    for name in (direct, copy, blind):
        ((_, received, body),) = take(name, 1)
        assert body == b"to all"
        assert received.headers == {"CC": [copy]}


def test_unbinding_stops_the_flow_and_the_last_one_deletes_an_auto_delete_exchange(
    channel: BlockingChannel, unique: str, exchange: str
) -> None:
    channel.exchange_declare(exchange, "direct", auto_delete=True)
    (name,) = queues(channel, unique, 1)
    channel.queue_bind(name, exchange, "key")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(name, exchange, "key")
    with pytest.raises(ChannelClosedByBroker) as raised:
        channel.exchange_declare(exchange, passive=True)
    assert raised.value.reply_code == 404


@pytest.mark.parametrize("name", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
def test_the_predeclared_exchanges_exist(channel: BlockingChannel, name: str) -> None:
    channel.exchange_declare(name, passive=True)


def test_a_queue_redeclared_alike_is_fine_and_differently_is_refused(
    channel: BlockingChannel, unique: str
) -> None:
    channel.queue_declare(unique, exclusive=True, arguments={"x-max-length": 5})
    channel.queue_declare(unique, exclusive=True, arguments={"x-max-length": 5})
    with pytest.raises(ChannelClosedByBroker) as raised:
        channel.queue_declare(unique, exclusive=True, arguments={"x-max-length": 6})
    assert (raised.value.reply_code, raised.value.reply_text) == (
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{unique}' in vhost '/': "
        "received '6' but current is '5'",
    )


def refuse_missing_queue(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare(unique, passive=True)


def refuse_missing_exchange(channel: BlockingChannel, unique: str) -> None:
    channel.basic_publish(unique, "key", b"")
    channel.queue_declare("", exclusive=True)


def refuse_reserved_name(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare("amq." + unique)


def refuse_default_exchange_binding(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare(unique, exclusive=True)
    channel.queue_bind(unique, "", "key")


def refuse_default_exchange_declaration(channel: BlockingChannel, unique: str) -> None:
    channel.exchange_declare("", passive=True)


def refuse_unknown_delivery_tag(channel: BlockingChannel, unique: str) -> None:
    channel.basic_ack(99)
    channel.queue_declare(unique, exclusive=True)


def refuse_internal_exchange(channel: BlockingChannel, unique: str) -> None:
    channel.exchange_declare(unique, auto_delete=True, internal=True)
    channel.basic_publish(unique, "key", b"")
    channel.queue_declare("", exclusive=True)


def refuse_bad_argument(channel: BlockingChannel, unique: str) -> None:
    channel.queue_declare(unique, exclusive=True, arguments={"x-message-ttl": -1})


@pytest.mark.parametrize(
    ("deed", "code", "text"),
    [
        (refuse_missing_queue, 404, "no queue '{}' in vhost '/'"),
        (refuse_missing_exchange, 404, "no exchange '{}' in vhost '/'"),
        (refuse_reserved_name, 403, "queue name 'amq.{}' contains reserved prefix 'amq.*'"),
        (refuse_default_exchange_binding, 403, "operation not permitted on the default exchange"),
        (refuse_default_exchange_declaration, 403, "operation not permitted on the default exchange"),
        (refuse_unknown_delivery_tag, 406, "unknown delivery tag 99"),
        (refuse_internal_exchange, 403, "cannot publish to internal exchange '{}' in vhost '/'"),
        (
            refuse_bad_argument,
            406,
            "invalid arg 'x-message-ttl' for queue '{}' in vhost '/': {{value_negative,-1}}",
        ),
    ],
)
def test_an_error_closes_the_channel_with_its_code_and_the_connection_lives(
    connection: BlockingConnection, unique: str, deed: Any, code: int, text: str
) -> None:
    name = {403: "ACCESS_REFUSED", 404: "NOT_FOUND", 406: "PRECONDITION_FAILED"}[code]
    with pytest.raises(ChannelClosedByBroker) as raised:
        deed(connection.channel(), unique)
    assert (raised.value.reply_code, raised.value.reply_text) == (code, f"{name} - {text.format(unique)}")
    assert connection.channel().queue_declare("", exclusive=True).method.queue.startswith("amq.gen-")


def test_an_unknown_exchange_type_closes_the_connection(channel: BlockingChannel, unique: str) -> None:
    with pytest.raises(ConnectionClosedByBroker) as raised:
        channel.exchange_declare(unique, "x-no-such-type")
    assert (raised.value.reply_code, raised.value.reply_text) == (
        503,
        "COMMAND_INVALID - unknown exchange type 'x-no-such-type'",
    )


def test_an_exclusive_queue_is_locked_to_others_and_gone_with_its_connection(
    parameters: pika.ConnectionParameters, connection: BlockingConnection, unique: str
) -> None:
    connection.channel().queue_declare(unique, exclusive=True)
    with pika.BlockingConnection(parameters) as other:
        with pytest.raises(ChannelClosedByBroker) as raised:
            other.channel().queue_declare(unique, exclusive=True)
        assert raised.value.reply_code == 405
        connection.close()
        with pytest.raises(ChannelClosedByBroker) as raised:
            other.channel().queue_declare(unique, passive=True)
        assert raised.value.reply_code == 404


def test_an_auto_delete_queue_goes_with_its_last_consumer(
    channel: BlockingChannel, connection: BlockingConnection, unique: str
) -> None:
    channel.queue_declare(unique, auto_delete=True)
    tags = [channel.basic_consume(unique, lambda *_: None) for _ in range(2)]
    channel.basic_cancel(tags[0])
    assert connection.channel().queue_declare(unique, passive=True).method.consumer_count == 1
    channel.basic_cancel(tags[1])
    with pytest.raises(ChannelClosedByBroker) as raised:
        connection.channel().queue_declare(unique, passive=True)
    assert raised.value.reply_code == 404


def test_an_exclusive_consumer_keeps_others_away(
    channel: BlockingChannel, connection: BlockingConnection, queue: str
) -> None:
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    with pytest.raises(ChannelClosedByBroker) as raised:
        connection.channel().basic_consume(queue, lambda *_: None)
    assert raised.value.reply_code == 403


def test_consumers_share_a_queue_in_turn_and_higher_priority_comes_first(
    channel: BlockingChannel, connection: BlockingConnection, queue: str
) -> None:
    got: dict[str, list[bytes]] = {"first": [], "second": [], "eager": []}

    def taker(name: str) -> Any:
        return lambda _channel, _method, _properties, body: got[name].append(body)

    for name in ("first", "second"):
        channel.basic_consume(queue, taker(name), auto_ack=True)
    for number in range(10):
        channel.basic_publish("", queue, b"%d" % number)
    connection.sleep(0.3)
    assert (len(got["first"]), len(got["second"])) == (5, 5)
    channel.basic_consume(queue, taker("eager"), auto_ack=True, arguments={"x-priority": 10})
    for number in range(10):
        channel.basic_publish("", queue, b"%d" % number)
    connection.sleep(0.3)
    assert got["eager"] == [b"%d" % number for number in range(10)]


def test_single_active_consumer_hands_over_when_the_active_one_leaves(
    channel: BlockingChannel, connection: BlockingConnection, unique: str
) -> None:
    channel.queue_declare(unique, exclusive=True, arguments={"x-single-active-consumer": True})
    got: list[tuple[str, bytes]] = []

    def taker(name: str) -> Any:
        return lambda _channel, _method, _properties, body: got.append((name, body))

    tag = channel.basic_consume(unique, taker("active"), auto_ack=True)
    channel.basic_consume(unique, taker("waiting"), auto_ack=True)
    for number in range(3):
        channel.basic_publish("", unique, b"%d" % number)
    connection.sleep(0.2)
    channel.basic_cancel(tag)
    channel.basic_publish("", unique, b"3")
    connection.sleep(0.2)
    assert got == [("active", b"0"), ("active", b"1"), ("active", b"2"), ("waiting", b"3")]
