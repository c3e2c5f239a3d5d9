"""Work through kombu's pyamqp transport: producer pools, consumer mixins, simple queues, event loops."""

import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from kombu import Connection, Consumer, Exchange, Queue
from kombu.asynchronous import Hub, set_event_loop
from kombu.common import eventloop, maybe_declare
from kombu.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu.pools import connections, producers, reset

from conformance.brokers import Broker
from conformance.clients.conftest import WAIT


@pytest.fixture
def connection(broker: Broker) -> Iterator[Connection]:
    """A connection over pyamqp."""
    with Connection(broker.url, connect_timeout=WAIT, heartbeat=4) as made:
        yield made


def test_a_producer_pool_publishes_all_serializations_and_compressions(
    connection: Connection, unique: str
) -> None:
    exchange = Exchange(unique, "topic", auto_delete=True, durable=False)
    queue = Queue(unique, exchange, routing_key="kind.#", exclusive=True)
    received: list[Any] = []

    def on_message(body: Any, message: kombu.Message) -> None:
        received.append(body)
        message.ack()

    body = {"text": "é", "numbers": [1, 2.5]}
    variants = list(itertools.product(["json", "pickle"], [None, "zlib", "bzip2"]))
    with Consumer(connection, [queue], callbacks=[on_message], accept=["json", "pickle"]):
        with producers[connection].acquire(block=True) as producer:
            for serializer, compression in variants:
                producer.publish(
                    body,
                    exchange=exchange,
                    routing_key="kind.any",
                    serializer=serializer,
                    compression=compression,
                    declare=[exchange],
                    retry=True,
                    priority=1,
                    expiration=60,
                    headers={"trace": "1"},
                )
        for _ in eventloop(connection, timeout=1.0, ignore_timeouts=True):
            if len(received) == len(variants):
                break
    reset()
    assert received == [body] * len(variants)


def test_a_consumer_mixin_survives_the_loss_of_its_connection(broker: Broker, unique: str) -> None:
    class Worker(ConsumerMixin):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection
            self.received: list[str] = []
            self.lost = 0

        def get_consumers(self, consumer: Any, channel: Any) -> list[Consumer]:
            queue = Queue(unique, durable=False, expires=60)
            return [consumer([queue], callbacks=[self.on_message], prefetch_count=1)]

        def on_connection_error(self, exc: Exception, interval: float) -> None:
            self.lost += 1

        def on_connection_revived(self) -> None:
            self.lost += 1

        def on_message(self, body: str, message: kombu.Message) -> None:
            self.received.append(body)
            if body == "break" and not message.delivery_info["redelivered"]:
                # Nothing of the connection but its transport, as when a cable is cut.
                message.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
                return
            message.ack()
            if body == "stop":
                self.should_stop = True

    with Connection(broker.url) as sending:
        worker = Worker(Connection(broker.url, connect_timeout=WAIT))
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        producer = sending.Producer()
        for body in ("first", "break", "stop"):
            producer.publish(body, routing_key=unique, declare=[Queue(unique, durable=False, expires=60)])
        thread.join(2 * WAIT)
        assert not thread.is_alive(), worker.received
    assert worker.received == ["first", "break", "break", "stop"]
    assert worker.lost


def test_a_consumer_producer_mixin_serves_rpc(broker: Broker, unique: str) -> None:
    class Server(ConsumerProducerMixin):
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def get_consumers(self, consumer: Any, channel: Any) -> list[Consumer]:
            return [consumer([Queue(unique, expires=60)], on_message=self.on_request, prefetch_count=1)]

        def on_request(self, message: kombu.Message) -> None:
            number = message.payload["number"]
            self.producer.publish(
                {"square": number**2},
                exchange="",
                routing_key=message.properties["reply_to"],
                correlation_id=message.properties["correlation_id"],
                serializer="json",
            )
            message.ack()
            if number == 19:
                self.should_stop = True

    server = Server(Connection(broker.url))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    answers: dict[str, int] = {}
    with Connection(broker.url) as connection:
        channel = connection.channel()
        replies = Queue(unique + "-replies", exclusive=True)
        Queue(unique, expires=60, channel=channel).declare()

        def on_reply(message: kombu.Message) -> None:
            answers[message.properties["correlation_id"]] = message.payload["square"]

        with Consumer(channel, [replies], on_message=on_reply, no_ack=True):
            producer = connection.Producer(channel)
            for number in range(20):
                producer.publish(
                    {"number": number},
                    routing_key=unique,
                    reply_to=replies.name,
                    correlation_id=str(number),
                )
            while len(answers) < 20:
                connection.drain_events(timeout=WAIT)
    thread.join(WAIT)
    assert answers == {str(number): number**2 for number in range(20)}


def test_a_simple_queue_puts_gets_counts_and_clears(connection: Connection, unique: str) -> None:
    queue = connection.SimpleQueue(unique, queue_opts={"durable": False, "expires": 60})
    with connection.SimpleBuffer(unique + "-buffer") as buffer:
        buffer.put({"kept": "in memory"})
        assert buffer.get(timeout=WAIT).payload == {"kept": "in memory"}
    for number in range(5):
        queue.put({"number": number})
    for number in range(2):
        message = queue.get(block=True, timeout=WAIT)
        assert message.payload == {"number": number}
        message.ack()
    assert queue.get(block=True, timeout=WAIT).payload == {"number": 2}
    queue.clear()
    queue.close()
    with pytest.raises(queue.Empty):
        connection.SimpleQueue(unique, queue_opts={"durable": False, "expires": 60}).get(block=False)


def test_the_event_loop_of_the_hub_receives_and_keeps_heartbeats(broker: Broker, unique: str) -> None:
    hub = Hub()
    set_event_loop(hub)
    received: list[int] = []
    with Connection(broker.url, heartbeat=2) as connection:
        connection.register_with_event_loop(hub)
        queue = Queue(unique, exclusive=True)

        def on_message(message: kombu.Message) -> None:
            received.append(message.payload)
            message.ack()
            if len(received) == 100:
                hub.call_later(3, hub.stop)  # outlive the heartbeat

        hub.call_repeatedly(1, connection.heartbeat_check)
        with Consumer(connection, [queue], on_message=on_message, prefetch_count=10):
            producer = connection.Producer()
            for number in range(100):
                producer.publish(number, routing_key=unique)
            hub.run_forever()
            connection.default_channel.queue_declare(unique, passive=True)
    assert received == list(range(100))


def test_a_queue_declared_with_all_of_kombus_limits_equals_itself(
    connection: Connection, unique: str
) -> None:
    queue = Queue(
        unique,
        Exchange(unique, "direct", auto_delete=True),
        routing_key="key",
        exclusive=True,
        expires=60,
        message_ttl=30,
        max_length=100,
        max_length_bytes=1_000_000,
        max_priority=3,
    )
    channel = connection.channel()
    bound = queue(channel)
    for _ in range(2):
        bound.declare()
    maybe_declare(bound, channel)
    producer = connection.Producer(channel)
    for priority in (0, 3, 1):
        producer.publish(priority, exchange=bound.exchange, routing_key="key", priority=priority)
    bound.unbind_from(bound.exchange, "key")
    assert [bound.get(no_ack=True).payload for _ in range(3)] == [3, 1, 0]


def test_a_connection_pool_is_limited_and_failover_finds_the_broker(broker: Broker) -> None:
    with Connection(f"amqp://127.0.0.1:1//;{broker.url}", connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=3, interval_start=0.05)
        assert connection.connected
    pool = connections[Connection(broker.url)]
    pool.limit = 2
    with pool.acquire() as first, pool.acquire() as second:
        assert first is not second
        with pytest.raises(pool.LimitExceeded):
            pool.acquire(block=False)
    reset()


def test_publishing_reconnects_when_its_connection_was_lost(broker: Broker, unique: str) -> None:
    with Connection(broker.url) as connection:
        queue = Queue(unique, durable=False, expires=60)
        producer = connection.Producer()
        producer.publish("before", routing_key=unique, declare=[queue])
        connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        policy = {"max_retries": 5, "interval_start": 0.05}
        for _ in range(2):  # the first write to a dead socket may still succeed
            producer.publish("after", routing_key=unique, declare=[queue], retry=True, retry_policy=policy)
        bodies = set()
        while (message := queue(connection.default_channel).get(no_ack=True)) is not None:
            bodies.add(message.payload)
        assert bodies == {"before", "after"}
