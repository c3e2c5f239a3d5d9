"""The amqp package (py-amqp) used directly, as older services do: channels, waits and callbacks by hand."""

import socket
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from amqp.exceptions import AccessRefused, ConsumerCancelled, MessageNacked, NotFound, PreconditionFailed

from conformance.brokers import Broker
from conformance.clients.conftest import WAIT


def connect(broker: Broker, **options: Any) -> amqp.Connection:
    """A connection whose socket operations are bounded."""
    return amqp.Connection(
        f"{broker.host}:{broker.port}",
        userid=broker.user,
        password=broker.password,
        virtual_host=broker.vhost,
        connect_timeout=WAIT,
        read_timeout=WAIT,
        **options,
    )


@pytest.fixture
def connection(broker: Broker) -> Iterator[amqp.Connection]:
    """An open connection."""
    with connect(broker) as made:
        yield made


def test_publish_consume_and_acknowledge_one_by_one(connection: amqp.Connection) -> None:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    for number in range(50):
        message = amqp.Message(
            str(number), content_type="text/plain", application_headers={"number": number, "f": 0.5}
        )
        channel.basic_publish(message, routing_key=queue)
    received: list[tuple[str, Any]] = []

    def on_message(message: amqp.Message) -> None:
        received.append((message.body, message.headers))
        message.channel.basic_ack(message.delivery_tag)

    channel.basic_qos(0, 7, False)
    channel.basic_consume(queue, callback=on_message)
    while len(received) < 50:
        connection.drain_events(timeout=WAIT)
    assert received == [(str(number), {"number": number, "f": 0.5}) for number in range(50)]


def test_confirms_wait_for_the_broker_and_a_nack_raises(broker: Broker) -> None:
    with connect(broker, confirm_publish=True) as connection:
        channel = connection.channel()
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        queue = channel.queue_declare(exclusive=True, arguments=arguments).queue
        channel.basic_publish(amqp.Message("1"), routing_key=queue)
        with pytest.raises(MessageNacked):
            channel.basic_publish(amqp.Message("2"), routing_key=queue)
        assert channel.basic_get(queue, no_ack=True).body == "1"


def test_an_immediate_publish_is_not_implemented(connection: amqp.Connection) -> None:
    channel = connection.channel()
    channel.basic_publish(amqp.Message("now"), routing_key="x", immediate=True)
    with pytest.raises(amqp.exceptions.AMQPNotImplementedError):
        connection.drain_events(timeout=WAIT)


def test_mandatory_returns_reach_the_callback(connection: amqp.Connection) -> None:
    channel = connection.channel()
    returned: list[Any] = []
    channel.events["basic_return"].add(lambda *arguments: returned.append(arguments))
    channel.basic_publish(amqp.Message("back"), routing_key="no such queue", mandatory=True)
    while not returned:
        connection.drain_events(timeout=WAIT)
    error, _exchange, key, message = returned[0]
    assert (error.reply_code, key, message.body) == (312, "no such queue", "back")


def test_errors_arrive_as_the_exceptions_of_their_codes(connection: amqp.Connection, unique: str) -> None:
    with pytest.raises(NotFound):
        connection.channel().queue_declare(unique, passive=True)
    with pytest.raises(PreconditionFailed):
        connection.channel().exchange_declare("amq.direct", "fanout", durable=True, auto_delete=False)
    with pytest.raises(AccessRefused):
        connection.channel().queue_declare("amq.mine")
    assert connection.channel().is_open


def test_deleting_a_queue_is_answered_before_its_consumer_is_cancelled(connection: amqp.Connection) -> None:
    channel = connection.channel()
    queue = channel.queue_declare().queue
    channel.basic_consume(queue)
    channel.queue_delete(queue)  # would raise if the notification came first
    with pytest.raises(ConsumerCancelled):
        connection.drain_events(timeout=WAIT)


def test_transactions(connection: amqp.Connection) -> None:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.tx_select()
    channel.basic_publish(amqp.Message("kept"), routing_key=queue)
    channel.tx_commit()
    channel.basic_publish(amqp.Message("forgotten"), routing_key=queue)
    channel.tx_rollback()
    assert channel.basic_get(queue, no_ack=True).body == "kept"
    assert channel.basic_get(queue) is None


def test_exchange_to_exchange_and_unbind(connection: amqp.Connection, unique: str) -> None:
    channel = connection.channel()
    channel.exchange_declare(unique, "fanout", auto_delete=True)
    queue = channel.queue_declare(exclusive=True).queue
    channel.exchange_bind(unique, "amq.topic", unique + ".#")
    channel.queue_bind(queue, unique)
    channel.confirm_select()
    channel.basic_publish_confirm(amqp.Message("1"), "amq.topic", unique + ".key")
    channel.exchange_unbind(unique, "amq.topic", unique + ".#")
    channel.basic_publish_confirm(amqp.Message("2"), "amq.topic", unique + ".key")
    assert channel.basic_get(queue, no_ack=True).body == "1"
    assert channel.basic_get(queue) is None


def test_heartbeats_are_negotiated_and_exchanged(broker: Broker) -> None:
    with connect(broker, heartbeat=2) as connection:
        assert connection.heartbeat == 2
        received = connection.bytes_recv
        for _ in range(6):
            connection.heartbeat_tick(rate=2)
            with pytest.raises(socket.timeout):
                connection.drain_events(timeout=0.6)
        assert connection.bytes_recv > received
        connection.channel().queue_declare(exclusive=True)


def test_a_body_of_many_frames_arrives_whole(connection: amqp.Connection) -> None:
    channel = connection.channel()
    queue = channel.queue_declare(exclusive=True).queue
    channel.basic_publish(amqp.Message(b"z" * 1_000_000), routing_key=queue)
    assert channel.basic_get(queue, no_ack=True).body == b"z" * 1_000_000


def test_channel_flow_with_active_changes_nothing(connection: amqp.Connection) -> None:
    channel = connection.channel()
    channel.flow(True)
    assert channel.active
