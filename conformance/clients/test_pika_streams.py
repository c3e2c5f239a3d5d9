"""Streams through pika: append, replay, every way to begin, what is leveret's own, and docs/streams.md."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from conformance.brokers import Broker
from conformance.clients.conftest import WAIT, pump

PAGE = Path(__file__).parents[2] / "docs" / "streams.md"
COUNT = 500

Read = Callable[..., list[tuple[int, bytes]]]


@pytest.fixture
def stream(channel: BlockingChannel, unique: str) -> Iterator[str]:
    """A stream with some messages, each of which is its offset."""
    channel.queue_declare(unique, durable=True, arguments={"x-queue-type": "stream"})
    channel.confirm_delivery()
    for number in range(COUNT):
        channel.basic_publish("", unique, str(number).encode(), pika.BasicProperties(delivery_mode=2))
    yield unique
    if channel.is_open:
        channel.queue_delete(unique)


@pytest.fixture
def read(parameters: pika.ConnectionParameters) -> Read:
    """Read so many messages on a connection of its own, acknowledging them: offsets and bodies."""

    def reading(queue: str, count: int, prefetch: int = 50, every: int = 10, **arguments: Any) -> Any:
        connection = BlockingConnection(parameters)
        reader = connection.channel()
        reader.basic_qos(prefetch_count=prefetch)
        found: list[tuple[int, bytes]] = []

        def take(_: object, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            if len(found) < count:
                assert properties.headers is not None
                found.append((properties.headers["x-stream-offset"], body))
                if len(found) % every == 0 or len(found) == count:
                    reader.basic_ack(method.delivery_tag, multiple=True)

        named = {f"x-stream-{name.replace('_', '-')}": value for name, value in arguments.items()}
        reader.basic_consume(queue, take, arguments=named)
        pump(connection, lambda: len(found) == count)
        reader.queue_declare(queue, passive=True)  # the last acknowledgement has arrived, too
        connection._impl._transport.abort()  # to close it, pika would reject what else has come
        return found

    return reading


def numbered(first: int, below: int = COUNT) -> list[tuple[int, bytes]]:
    return [(number, str(number).encode()) for number in range(first, below)]


def test_a_stream_is_replayed_from_its_beginning_as_often_as_one_likes(stream: str, read: Read) -> None:
    for _ in range(2):
        assert read(stream, COUNT, offset="first") == numbered(0)


@pytest.mark.parametrize("offset", [0, 17, COUNT - 1])
def test_a_reader_begins_at_an_offset(stream: str, read: Read, offset: int) -> None:
    assert read(stream, COUNT - offset, offset=offset) == numbered(offset)


def test_the_last_chunk_ends_with_the_newest_message(stream: str, read: Read) -> None:
    (offset, body), *_ = read(stream, 1, offset="last")
    assert body == str(offset).encode()


def test_a_reader_begins_some_time_ago(stream: str, read: Read) -> None:
    assert read(stream, COUNT, offset="1h") == numbered(0)
    assert read(stream, COUNT, offset=datetime.now(UTC) - timedelta(hours=1)) == numbered(0)


@pytest.mark.parametrize("arguments", [{}, {"x-stream-offset": "next"}])
def test_a_reader_at_the_end_gets_what_comes(
    connection: BlockingConnection, channel: BlockingChannel, stream: str, arguments: dict[str, Any]
) -> None:
    reader = connection.channel()
    reader.basic_qos(prefetch_count=10)
    found: list[bytes] = []
    reader.basic_consume(stream, lambda *delivery: found.append(delivery[3]), arguments=arguments)
    channel.basic_publish("", stream, b"new")
    pump(connection, lambda: found)
    assert found == [b"new"]


def test_a_reader_gets_no_more_than_its_prefetch(connection: BlockingConnection, stream: str) -> None:
    reader = connection.channel()
    reader.basic_qos(prefetch_count=3)
    tags: list[int] = []
    reader.basic_consume(
        stream,
        lambda *delivery: tags.append(delivery[1].delivery_tag),
        arguments={"x-stream-offset": "first"},
    )
    pump(connection, lambda: len(tags) == 3)
    connection.process_data_events(0.2)
    assert len(tags) == 3
    reader.basic_ack(tags[1], multiple=True)
    pump(connection, lambda: len(tags) == 5)


def test_every_reader_gets_everything(connection: BlockingConnection, stream: str) -> None:
    found: dict[int, list[bytes]] = {}
    for number in range(3):
        reader = connection.channel()
        reader.basic_qos(prefetch_count=1000)
        found[number] = []

        def keep(*delivery: Any, mine: list[bytes] = found[number]) -> None:
            mine.append(delivery[3])

        reader.basic_consume(stream, keep, arguments={"x-stream-offset": "first"})
    pump(connection, lambda: all(len(each) == COUNT for each in found.values()))
    assert found[0] == found[1] == found[2] == [body for _, body in numbered(0)]


def test_a_stream_takes_what_exchanges_route_to_it(channel: BlockingChannel, unique: str, read: Read) -> None:
    channel.queue_declare(unique, durable=True, arguments={"x-queue-type": "stream"})
    channel.queue_bind(unique, "amq.topic", f"{unique}.#")
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", f"{unique}.a", b"yes")
    channel.basic_publish("amq.topic", "other", b"no")
    channel.basic_publish("amq.topic", f"{unique}.b", b"too")
    assert read(unique, 2, offset="first") == [(0, b"yes"), (1, b"too")]
    channel.queue_delete(unique)


@pytest.mark.parametrize(
    ("code", "act"),
    [
        (540, lambda channel, name: channel.basic_get(name)),
        (540, lambda channel, name: channel.queue_purge(name)),
        (540, lambda channel, name: channel.basic_consume(name, print, auto_ack=True)),
    ],
)
def test_what_ends_the_connection(
    connection: BlockingConnection, stream: str, code: int, act: Callable[[BlockingChannel, str], object]
) -> None:
    other = connection.channel()
    other.basic_qos(prefetch_count=5)
    with pytest.raises(ConnectionClosedByBroker) as refused:
        act(other, stream)
    assert refused.value.reply_code == code


def test_reading_needs_a_prefetch_count(connection: BlockingConnection, stream: str) -> None:
    with pytest.raises(ChannelClosedByBroker) as refused:
        connection.channel().basic_consume(stream, print)
    assert refused.value.reply_code == 406
    assert "consumer prefetch count is not set" in refused.value.reply_text


@pytest.mark.parametrize(
    "arguments",
    [{"x-message-ttl": 5}, {"x-max-priority": 5}, {"x-max-length": 5}, {"x-dead-letter-exchange": ""}],
)
def test_what_a_stream_cannot_have(channel: BlockingChannel, unique: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ChannelClosedByBroker) as refused:
        channel.queue_declare(unique, durable=True, arguments={"x-queue-type": "stream", **arguments})
    assert refused.value.reply_code == 406


def test_old_segments_go(channel: BlockingChannel, unique: str, read: Read) -> None:
    arguments = {
        "x-queue-type": "stream",
        "x-max-length-bytes": 20_000,
        "x-stream-max-segment-size-bytes": 5_000,
    }
    channel.queue_declare(unique, durable=True, arguments=arguments)
    channel.confirm_delivery()
    for number in range(600):
        channel.basic_publish("", unique, str(number).encode() + b" " * 200)
    deadline = time.monotonic() + WAIT
    while not (first := read(unique, 1, offset="first")[0][0]):
        assert time.monotonic() < deadline, "nothing has gone"
        time.sleep(0.1)
    assert 0 < first < 600
    channel.queue_delete(unique)


@pytest.fixture
def leveret(broker: Broker) -> None:
    if broker.name != "leveret":
        pytest.skip("only leveret has this over AMQP 0-9-1")


@pytest.mark.usefixtures("leveret")
def test_a_named_reader_goes_on_where_it_was(stream: str, read: Read) -> None:
    assert read(stream, 20, consumer_name="app", offset="first") == numbered(0, 20)
    assert read(stream, COUNT - 20, consumer_name="app") == numbered(20)


@pytest.mark.usefixtures("leveret")
def test_a_filter_leaves_out_the_rest(channel: BlockingChannel, stream: str, read: Read) -> None:
    for number in range(10):
        headers = {"x-stream-filter-value": "even" if number % 2 == 0 else "odd"}
        channel.basic_publish("", stream, b"filtered", pika.BasicProperties(headers=headers))
    found = read(stream, 5, offset="first", filter="odd")
    assert [offset for offset, _ in found] == [COUNT + number for number in (1, 3, 5, 7, 9)]


@pytest.mark.usefixtures("leveret")
def test_what_is_sent_twice_is_stored_once(channel: BlockingChannel, stream: str, read: Read) -> None:
    for number in (1, 2, 2, 1, 3):
        headers = {"x-publisher-name": "p", "x-publishing-id": number}
        channel.basic_publish("", stream, str(number).encode(), pika.BasicProperties(headers=headers))
    assert [body for _, body in read(stream, 3, offset=COUNT)] == [b"1", b"2", b"3"]
    assert channel.queue_declare(stream, passive=True).method.message_count == COUNT + 3


@pytest.mark.usefixtures("leveret")
def test_the_worked_example_does_what_the_page_says(
    broker: Broker, channel: BlockingChannel, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text().partition("## A worked example")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    printed = re.search(r"```text\n(.*?)```", section, re.DOTALL)
    assert code is not None
    assert printed is not None
    exec(code[1].replace("guest:guest@localhost:5672", broker.address), {})
    assert capsys.readouterr().out == printed[1]
    channel.queue_delete("orders.log")
    channel.exchange_delete("orders")
