"""The life of a connection through pika: URLs, logins, heartbeats, channels, reconnecting, callbacks."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from conformance.brokers import Broker, BrokerError
from conformance.clients.conftest import WAIT, pump


def test_a_url_with_parameters_is_understood(broker: Broker) -> None:
    url = broker.url + "?heartbeat=30&frame_max=8192&channel_max=7&connection_attempts=2&socket_timeout=5"
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        tuned = connection._impl.params
        assert (tuned.heartbeat, tuned.frame_max, tuned.channel_max) == (30, 8192, 7)
        channel = connection.channel()
        name = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()
        channel.basic_publish("", name, b"x" * 50_000)
        assert channel.basic_get(name, auto_ack=True)[2] == b"x" * 50_000


def test_the_server_introduces_itself_and_its_capabilities(connection: pika.BlockingConnection) -> None:
    properties = connection._impl.server_properties
    assert {"product", "version", "platform", "capabilities", "cluster_name"} <= set(properties)
    assert set(properties["capabilities"]) >= {
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    }
    assert all(properties["capabilities"].values())


def test_a_wrong_password_is_refused(broker: Broker, parameters: pika.ConnectionParameters) -> None:
    parameters.credentials = pika.PlainCredentials(broker.user, broker.password + "?")
    with pytest.raises(ProbableAuthenticationError) as raised:
        pika.BlockingConnection(parameters)
    assert "ACCESS_REFUSED" in str(raised.value)


def test_an_unknown_virtual_host_is_refused(parameters: pika.ConnectionParameters, unique: str) -> None:
    parameters.virtual_host = unique
    with pytest.raises(ProbableAccessDeniedError) as raised:
        pika.BlockingConnection(parameters)
    assert "NOT_ALLOWED" in str(raised.value)


def test_virtual_hosts_keep_equal_names_apart(broker: Broker, unique: str) -> None:
    try:
        second = broker.with_vhost(unique)
    except BrokerError as error:
        pytest.skip(str(error))
    with (
        pika.BlockingConnection(pika.URLParameters(broker.url)) as here,
        pika.BlockingConnection(pika.URLParameters(second.url)) as there,
    ):
        channels = [connection.channel() for connection in (here, there)]
        for body, channel in zip((b"here", b"there"), channels, strict=True):
            channel.queue_declare(unique, exclusive=True)
            channel.confirm_delivery()
            channel.basic_publish("", unique, body)
        assert [channel.basic_get(unique, auto_ack=True)[2] for channel in channels] == [b"here", b"there"]


def test_update_secret_is_accepted(broker: Broker, connection: pika.BlockingConnection) -> None:
    connection.update_secret(broker.password, "renewed")
    connection.channel().queue_declare("", exclusive=True)


def test_five_hundred_channels_of_one_connection_all_work(connection: pika.BlockingConnection) -> None:
    channels = [connection.channel() for _ in range(500)]
    names = [channel.queue_declare("", exclusive=True).method.queue for channel in channels]
    for channel, name in zip(channels, names, strict=True):
        channel.basic_publish("", name, name.encode())
    for channel, name in zip(reversed(channels), reversed(names), strict=True):
        assert channel.basic_get(name, auto_ack=True)[2] == name.encode()


def test_a_closed_channel_number_is_used_again(connection: pika.BlockingConnection) -> None:
    for _ in range(20):
        channel = connection.channel(1)
        with pytest.raises(ChannelClosedByBroker):
            channel.queue_declare("no such queue", passive=True)
    assert connection.channel(1).is_open


def test_the_channel_limit_that_was_agreed_on_is_kept(parameters: pika.ConnectionParameters) -> None:
    parameters.channel_max = 2
    with pika.BlockingConnection(parameters) as connection:
        assert connection._impl.params.channel_max == 2
        connection.channel()
        connection.channel()
        with pytest.raises(pika.exceptions.NoFreeChannels):
            connection.channel()


def test_heartbeats_keep_an_idle_connection(parameters: pika.ConnectionParameters) -> None:
    parameters.heartbeat = 1
    with pika.BlockingConnection(parameters) as connection:
        connection.sleep(3.5)
        connection.channel().queue_declare("", exclusive=True)


def test_a_client_that_misses_its_heartbeats_is_dropped(parameters: pika.ConnectionParameters) -> None:
    parameters.heartbeat = 1
    connection = pika.BlockingConnection(parameters)
    time.sleep(5)  # nothing is read or sent meanwhile, as in a worker that is stuck
    with pytest.raises(AMQPConnectionError):
        connection.channel()


def test_no_connection_is_reported_blocked_while_nothing_is_wrong(
    connection: pika.BlockingConnection,
) -> None:
    told: list[Any] = []
    connection.add_on_connection_blocked_callback(lambda *arguments: told.append(arguments))
    connection.add_on_connection_unblocked_callback(lambda *arguments: told.append(arguments))
    channel = connection.channel()
    name = channel.queue_declare("", exclusive=True).method.queue
    for _ in range(1000):
        channel.basic_publish("", name, b"x" * 1000)
    connection.sleep(0.2)
    assert told == []


def test_a_client_killed_in_the_middle_of_work_loses_nothing(
    broker: Broker, connection: pika.BlockingConnection, unique: str
) -> None:
    channel = connection.channel()
    channel.queue_declare(unique, durable=True)
    try:
        for number in range(10):
            channel.basic_publish("", unique, b"%d" % number, pika.BasicProperties(delivery_mode=2))
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:  # takes five messages and never returns
            try:
                worker = pika.BlockingConnection(pika.URLParameters(broker.url)).channel()
                for _ in range(5):
                    worker.basic_get(unique)
                os.write(tell, b"!")
                signal.pause()
            finally:  # never back into the test run
                os._exit(1)
        os.close(tell)
        os.read(ready, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        pump(connection, lambda: channel.queue_declare(unique, passive=True).method.message_count == 10)
        bodies = [channel.basic_get(unique, auto_ack=True)[2] for _ in range(10)]
        assert bodies == [b"%d" % number for number in range(10)]
    finally:
        connection.channel().queue_delete(unique)


def test_a_client_reconnects_after_its_connection_broke_and_finds_its_work(
    parameters: pika.ConnectionParameters, unique: str
) -> None:
    done: list[bytes] = []
    for attempt in range(3):
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.queue_declare(unique, arguments={"x-expires": 60_000})
        channel.confirm_delivery()
        channel.basic_publish("", unique, b"%d" % attempt)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(unique, lambda _channel, _method, _properties, body: done.append(body))
        pump(connection, lambda expected=attempt + 1: len(done) == expected)
        # The socket goes without a word, and without an acknowledgement.
        connection._impl._transport._sock.close()
    assert done == [b"0", b"0", b"0"]


def test_a_frame_error_closes_the_connection_alone(
    parameters: pika.ConnectionParameters, connection: pika.BlockingConnection
) -> None:
    broken = pika.BlockingConnection(parameters)
    broken._impl._output_marshaled_frames([b"\x01\x00\x01\x00\x00\x00\x04\x00\x0a\x00\x0a\x00"])
    with pytest.raises(ConnectionClosedByBroker) as raised:
        broken.sleep(WAIT)
    assert raised.value.reply_code == 501
    connection.channel().queue_declare("", exclusive=True)


class SelectWorker:
    """A consumer and publisher on pika's select adapter, where everything is a callback."""

    def __init__(self, parameters: pika.ConnectionParameters, queue: str, messages: int) -> None:
        self.queue = queue
        self.messages = messages
        self.confirmed = 0
        self.received: list[bytes] = []
        self.closed: Any = None
        self.connection = pika.SelectConnection(
            parameters, on_open_callback=self.on_open, on_close_callback=self.on_close
        )
        self.channel: Any = None

    def run(self) -> None:
        """Work until everything was received and confirmed, or WAIT is over."""
        self.connection.ioloop.call_later(WAIT, self.connection.ioloop.stop)
        self.connection.ioloop.start()

    def on_open(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel: Any) -> None:
        self.channel = channel
        channel.queue_declare(self.queue, exclusive=True, callback=self.on_declared)

    def on_declared(self, _frame: Any) -> None:
        self.channel.basic_qos(prefetch_count=20, callback=self.on_qos)

    def on_qos(self, _frame: Any) -> None:
        self.channel.confirm_delivery(self.on_confirm, callback=self.on_selected)

    def on_selected(self, _frame: Any) -> None:
        self.channel.basic_consume(self.queue, self.on_message)
        for number in range(self.messages):
            self.channel.basic_publish("", self.queue, b"%d" % number)

    def on_confirm(self, frame: Any) -> None:
        tag = frame.method.delivery_tag
        self.confirmed = tag if frame.method.multiple else self.confirmed + 1
        self.finish()

    def on_message(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self.received.append(body)
        channel.basic_ack(method.delivery_tag)
        self.finish()

    def finish(self) -> None:
        if len(self.received) == self.messages and self.confirmed >= self.messages and self.channel.is_open:
            self.connection.close()

    def on_close(self, connection: pika.SelectConnection, reason: Any) -> None:
        self.closed = reason
        connection.ioloop.stop()


def test_the_select_connection_confirms_and_consumes_with_a_small_prefetch(
    parameters: pika.ConnectionParameters, unique: str
) -> None:
    worker = SelectWorker(parameters, unique, 1000)
    worker.run()
    assert worker.received == [b"%d" % number for number in range(1000)]
    assert isinstance(worker.closed, pika.exceptions.ConnectionClosedByClient)


def test_forty_threads_with_a_connection_each_work_at_once(
    parameters: pika.ConnectionParameters, channel: Any, unique: str
) -> None:
    channel.queue_declare(unique, exclusive=False, auto_delete=False, arguments={"x-expires": 60_000})

    def publish(number: int) -> Callable[[], None]:
        def work() -> None:
            with pika.BlockingConnection(parameters) as connection:
                own = connection.channel()
                own.confirm_delivery()
                for each in range(25):
                    own.basic_publish("", unique, b"%d/%d" % (number, each))

        return work

    threads = [threading.Thread(target=publish(number)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT)
    bodies = {channel.basic_get(unique, auto_ack=True)[2] for _ in range(1000)}
    assert bodies == {b"%d/%d" % (number, each) for number in range(40) for each in range(25)}
    channel.queue_delete(unique)
