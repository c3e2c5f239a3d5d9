"""Alarms through pika's blocking connection, on brokers of their own that are short from the start."""

from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ConnectionBlockedTimeout

from conformance import brokers
from conformance.brokers import Broker
from conformance.clients.conftest import WAIT, pump
from conformance.rabbitmq import RabbitMQ

PLENTY = str(10**15)  # bytes free that no disk has

# What is short -> leveret's setting, what rabbitmqctl is told, and the reason given.
SHORT = {
    "memory": ("alarms.memory_high_watermark=0", ("set_vm_memory_high_watermark", "0"), "low on memory"),
    "disk": (f"alarms.disk_free_limit={PLENTY}", ("set_disk_free_limit", PLENTY), "low on disk"),
}


@pytest.fixture(scope="module", params=SHORT)
def short(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, str]]:
    """A broker with an alarm, and the reason it gives."""
    setting, command, reason = SHORT[request.param]
    what = request.config.getoption("--broker")
    if what == "leveret":
        data = tmp_path_factory.mktemp("data")
        with brokers.leveret(str(data), arguments=("--set", setting)) as broker:
            yield broker, reason
    elif what == "rabbitmq":
        with RabbitMQ() as node:
            node.ctl(*command)
            yield brokers.rabbitmq_broker(node), reason
    else:
        pytest.skip("a broker that runs already is not to be short of anything")


@pytest.fixture
def broker(short: tuple[Broker, str]) -> Broker:
    """The one that the other fixtures connect to."""
    return short[0]


def test_a_blocked_publisher_is_notified_with_the_reason(
    short: tuple[Broker, str], parameters: pika.ConnectionParameters, unique: str
) -> None:
    parameters.blocked_connection_timeout = 1  # after which pika hangs up: a close would not be read
    reasons: list[str] = []
    connection = pika.BlockingConnection(parameters)
    connection.add_on_connection_blocked_callback(
        lambda _connection, frame: reasons.append(frame.method.reason)
    )
    channel = connection.channel()
    channel.queue_declare(unique, exclusive=True)

    def told() -> bool:
        if not reasons:
            channel.basic_publish("", unique, b"x")  # RabbitMQ looks at its memory some time later
        return bool(reasons)

    pump(connection, told)
    assert reasons == [short[1]]
    with pytest.raises(ConnectionBlockedTimeout):
        connection.sleep(WAIT)


def test_who_does_not_publish_notices_nothing(channel: BlockingChannel, queue: str) -> None:
    assert channel.basic_get(queue) == (None, None, None)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="c")
    channel.basic_cancel("c")
    assert channel.queue_declare(queue, passive=True).method.message_count == 0
