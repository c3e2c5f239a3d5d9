"""stomp.py over TCP, alone and beside pika, on a broker of its own that speaks STOMP too."""

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import Any

import pika
import pytest
import stomp
from pika.adapters.blocking_connection import BlockingChannel
from stomp.utils import Frame

from conformance import brokers
from conformance.brokers import Broker
from conformance.clients.conftest import WAIT, Take
from conformance.rabbitmq import RabbitMQ, free_ports

VERSIONS = {"1.0": stomp.Connection10, "1.1": stomp.Connection11, "1.2": stomp.Connection12}


@pytest.fixture(scope="module")
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, int]]:
    """A broker, and its port for STOMP."""
    what = request.config.getoption("--broker")
    if what == "leveret":
        (port,) = free_ports(1)
        data = str(tmp_path_factory.mktemp("data"))
        with brokers.leveret(data, arguments=("--stomp", f"127.0.0.1:{port}")) as broker:
            yield broker, port
    elif what == "rabbitmq":
        with RabbitMQ(["rabbitmq_stomp"]) as node:
            yield brokers.rabbitmq_broker(node), node.plugin_ports["rabbitmq_stomp"]
    else:
        pytest.skip("nothing says where a broker that runs already speaks STOMP")


@pytest.fixture
def broker(served: tuple[Broker, int]) -> Broker:
    """The one that the other fixtures connect to."""
    return served[0]


class Listener(stomp.ConnectionListener):  # type: ignore[misc] - stomp.py has no types
    """Keeps what arrives, in queues that are waited for."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Frame] = queue.Queue()
        self.receipts: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[Frame] = queue.Queue()
        self.ended: queue.Queue[bool] = queue.Queue()
        self.beats = 0

    def on_message(self, frame: Frame) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Frame) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: Frame) -> None:
        self.errors.put(frame)

    def on_heartbeat(self) -> None:
        self.beats += 1

    def on_disconnected(self) -> None:
        self.ended.put(True)


class Client:
    """A connection and what it has heard."""

    def __init__(self, version: str, port: int, **options: Any) -> None:
        if version != "1.0":
            options.setdefault("vhost", "/")
        self.connection = VERSIONS[version]([("127.0.0.1", port)], **options)
        self.heard = Listener()
        self.connection.set_listener("", self.heard)

    def login(self, password: str = "guest", **headers: str) -> "Client":
        self.connection.connect("guest", password, wait=True, headers=headers)
        return self

    def message(self) -> Frame:
        return self.heard.messages.get(timeout=WAIT)

    def receipt(self) -> str:
        return self.heard.receipts.get(timeout=WAIT)

    def subscribe(self, destination: str, id: str = "1", ack: str = "auto", **headers: str) -> None:
        """Subscribe, and wait until that is in effect."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.subscribe(
            destination=destination, id=id, ack=ack, headers={**named, "receipt": "subscribed"}
        )
        assert self.receipt() == "subscribed"


@pytest.fixture
def connect(served: tuple[Broker, int]) -> Iterator[Any]:
    """Make a client that has logged in."""
    made: list[Client] = []

    def connect(version: str = "1.2", **options: Any) -> Client:
        made.append(Client(version, served[1], **options))
        return made[-1].login()

    yield connect
    for client in made:
        # A broker that has refused something closes, perhaps while this asks.
        with contextlib.suppress(OSError, stomp.exception.NotConnectedException):
            if client.connection.is_connected():
                client.connection.disconnect()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_sends_and_receives(connect: Any, unique: str, version: str) -> None:
    client = connect(version)
    client.subscribe(f"/queue/{unique}", auto_delete="true", durable="false")
    client.connection.send(
        f"/queue/{unique}", "héllo\0", headers={"auto-delete": "true", "durable": "false", "own": "x"}
    )
    frame = client.message()
    assert (frame.body, frame.headers["own"]) == ("héllo\0", "x")
    assert frame.headers["destination"] == f"/queue/{unique}"


def test_a_receipt_confirms_a_persistent_message(connect: Any, unique: str, channel: BlockingChannel) -> None:
    client = connect()
    client.connection.send(f"/queue/{unique}", "1", headers={"persistent": "true", "receipt": "sent"})
    assert client.receipt() == "sent"
    assert channel.queue_declare(unique, durable=True).method.message_count == 1
    channel.queue_delete(unique)


@pytest.mark.parametrize(("mode", "left"), [("client", 1), ("client-individual", 2)])
def test_acknowledging_is_cumulative_or_not(
    connect: Any, unique: str, channel: BlockingChannel, mode: str, left: int
) -> None:
    client = connect()
    client.subscribe(f"/queue/{unique}", ack=mode)
    for number in range(3):
        client.connection.send(f"/queue/{unique}", str(number))
    frames = [client.message() for _ in range(3)]
    client.connection.ack(frames[1].headers["ack"], receipt="acked")
    assert client.receipt() == "acked"
    client.connection.disconnect(receipt="bye")
    assert client.receipt() == "bye"
    deadline = time.monotonic() + WAIT
    while channel.queue_declare(unique, durable=True).method.message_count != left:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    channel.queue_delete(unique)


def test_nack_puts_a_message_back(connect: Any, unique: str) -> None:
    client = connect()
    client.subscribe(f"/queue/{unique}", ack="client-individual", exclusive="true", prefetch_count="1")
    client.connection.send(f"/queue/{unique}", "1", headers={"exclusive": "true"})
    frame = client.message()
    assert frame.headers["redelivered"] == "false"
    client.connection.nack(frame.headers["ack"])
    frame = client.message()
    assert frame.headers["redelivered"] == "true"
    client.connection.ack(frame.headers["ack"])


def test_transactions_are_committed_or_aborted(connect: Any, unique: str) -> None:
    client = connect()
    client.subscribe(f"/topic/{unique}")
    for body, end in (("aborted", client.connection.abort), ("kept", client.connection.commit)):
        transaction = client.connection.begin()
        client.connection.send(f"/topic/{unique}", body, transaction=transaction)
        end(transaction)
    assert client.message().body == "kept"
    assert client.heard.messages.empty()


def test_topics_and_exchanges(connect: Any, unique: str) -> None:
    client = connect()
    client.subscribe(f"/topic/{unique}.*.x", "topic")
    client.subscribe(f"/exchange/amq.direct/{unique}", "direct")
    client.subscribe("/exchange/amq.fanout", "fanout")
    for destination, subscription in (
        (f"/topic/{unique}.a.x", "topic"),
        (f"/exchange/amq.direct/{unique}", "direct"),
        ("/exchange/amq.fanout", "fanout"),
    ):
        client.connection.send(destination, "x")
        assert client.message().headers["subscription"] == subscription
    client.connection.unsubscribe("topic", receipt="unsubscribed")
    assert client.receipt() == "unsubscribed"


def test_a_durable_subscription_gathers_messages_while_disconnected(connect: Any, unique: str) -> None:
    first = connect()
    first.subscribe(f"/topic/{unique}", unique, durable="true", auto_delete="false")
    first.connection.disconnect(receipt="bye")
    assert first.receipt() == "bye"
    second = connect()
    second.connection.send(f"/topic/{unique}", "kept", headers={"receipt": "sent"})
    assert second.receipt() == "sent"
    second.subscribe(f"/topic/{unique}", unique, durable="true", auto_delete="false")
    assert second.message().body == "kept"
    second.connection.unsubscribe(unique, headers={"durable": "true", "destination": f"/topic/{unique}"})


def test_requests_are_answered_through_a_temporary_queue(connect: Any, unique: str) -> None:
    client, server = connect(), connect()
    server.subscribe(f"/queue/{unique}", exclusive="false", auto_delete="true")
    client.connection.send(
        f"/queue/{unique}", "2+2", headers={"reply-to": "/temp-queue/answers", "auto-delete": "true"}
    )
    server.connection.send(server.message().headers["reply-to"], "4")
    frame = client.message()
    assert (frame.body, frame.headers["subscription"]) == ("4", "/temp-queue/answers")


def test_all_properties_travel_from_stomp_to_amqp(
    connect: Any, unique: str, channel: BlockingChannel, take: Take
) -> None:
    channel.queue_declare(unique, exclusive=True)
    headers = {
        "content-encoding": "utf-8",
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
        "own": "x:\n\\",
    }
    connect().connection.send(f"/amq/queue/{unique}", "body", content_type="text/plain", headers=headers)
    ((method, properties, body),) = take(unique, 1)
    assert (method.exchange, method.routing_key, body) == ("", unique, b"body")
    assert properties.headers["own"] == "x:\n\\"
    properties.headers = None
    assert properties == pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        correlation_id="c",
        reply_to="/queue/answers",
        expiration="60000",
        message_id="m",
        type="t",
        user_id="guest",
        app_id="a",
        priority=3,
        timestamp=123,
        delivery_mode=2,
    )


def test_all_properties_travel_from_amqp_to_stomp(
    connect: Any, unique: str, channel: BlockingChannel
) -> None:
    channel.queue_declare(unique, auto_delete=True)
    client = connect()
    client.subscribe(f"/amq/queue/{unique}")
    properties = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={"text": "x:\n\\", "number": 5},
        correlation_id="c",
        reply_to="answers",
        expiration="60000",
        message_id="m",
        type="t",
        user_id="guest",
        app_id="a",
        priority=3,
        timestamp=123,
        delivery_mode=2,
    )
    channel.basic_publish("", unique, b"body", properties)
    frame = client.message()
    own = {name: frame.headers.pop(name) for name in ("message-id", "subscription", "redelivered")}
    assert (own["subscription"], own["redelivered"]) == ("1", "false")
    assert frame.body == "body"
    assert frame.headers == {
        "destination": f"/queue/{unique}",
        "content-type": "text/plain",
        "content-encoding": "utf-8",
        "content-length": "4",
        "text": "x:\n\\",
        "number": "5",
        "correlation-id": "c",
        "reply-to": "/reply-queue/answers",
        "expiration": "60000",
        "amqp-message-id": "m",
        "type": "t",
        "user-id": "guest",
        "app-id": "a",
        "priority": "3",
        "timestamp": "123",
        "persistent": "true",
    }


def test_the_end_of_a_queue_is_an_error_that_ends_no_connection(
    connect: Any, unique: str, channel: BlockingChannel
) -> None:
    client = connect()
    client.subscribe(f"/queue/{unique}")
    channel.queue_delete(unique)
    frame = client.heard.errors.get(timeout=WAIT)
    assert frame.headers["message"] == "Server cancelled subscription"
    assert frame.headers["subscription"] == "1"
    client.connection.send(f"/topic/{unique}", "x", headers={"receipt": "alive"})
    assert client.receipt() == "alive"


@pytest.mark.parametrize(
    ("password", "options", "detail"),
    [("wrong", {}, "Access refused"), ("guest", {"vhost": "nope"}, "access denied")],
)
def test_a_refused_login_gets_an_error(
    served: tuple[Broker, int], password: str, options: dict[str, str], detail: str
) -> None:
    client = Client("1.2", served[1], reconnect_attempts_max=1, **options)
    with pytest.raises(stomp.exception.ConnectFailedException):
        client.login(password)
    frame = client.heard.errors.get(timeout=WAIT)
    assert frame.headers["message"] == "Bad CONNECT"
    assert detail in frame.body


@pytest.mark.parametrize(
    ("destination", "message"),
    [("/exchange/nope/x", "not_found"), ("/nope", "Unknown destination"), ("/queue/", "Invalid destination")],
)
def test_errors_have_the_same_messages(connect: Any, destination: str, message: str) -> None:
    client = connect()
    client.connection.send(destination, "x")
    assert client.heard.errors.get(timeout=WAIT).headers["message"] == message


def test_heartbeats_keep_an_idle_connection(connect: Any) -> None:
    client = connect(heartbeats=(1000, 1000))
    deadline = time.monotonic() + WAIT
    while client.heard.beats < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.connection.send("/topic/nobody", "x", headers={"receipt": "alive"})
    assert client.receipt() == "alive"


def test_a_silent_client_is_dropped(served: tuple[Broker, int]) -> None:
    client = Client("1.2", served[1], reconnect_attempts_max=1)
    client.login(**{"heart-beat": "1000,0"})  # stomp.py was not told to keep that promise
    assert client.heard.ended.get(timeout=WAIT)
