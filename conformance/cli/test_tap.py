"""``leveret tap``: what is seen, and that watching changes nothing."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pika
import pytest

from conformance.cli.conftest import TIMEOUT
from conformance.clients.conftest import pump

pytestmark = pytest.mark.usefixtures("api")


class Tap:
    """A running ``leveret tap``."""

    def __init__(self, process):
        self._process = process

    def events(self, count):
        """The next events, in their order."""
        return [json.loads(self._process.stdout.readline()) for _ in range(count)]

    def kill(self):
        self._process.kill()
        self._process.wait(TIMEOUT)

    def end(self):
        """Ctrl-C; what it still printed, as lines of either stream."""
        self._process.send_signal(signal.SIGINT)
        printed, said = self._process.communicate(timeout=TIMEOUT)
        assert self._process.returncode == 0, said
        return printed.decode().splitlines(), said.decode().splitlines()


WAS_ON = b"leveret: tracing was on before and stays on; `leveret vhost declare / --no-tracing` ends it\n"


@pytest.fixture
def tap(leveret):
    @contextmanager
    def start(*args: str, was_on: bool = False) -> Iterator[Tap]:
        with leveret.start("tap", *args, "--format", "json") as process:
            try:
                if was_on:
                    assert process.stderr.readline() == WAS_ON
                assert process.stderr.readline() == b"leveret: watching\n"
                yield Tap(process)
            finally:
                process.send_signal(signal.SIGINT)  # killed, it would leave tracing on
                process.wait(TIMEOUT)

    return start


@pytest.fixture
def exchange(channel, unique) -> Iterator[str]:
    channel.exchange_declare(unique, "topic")
    yield unique
    channel.exchange_delete(unique)


def tracing(api):
    return api.get("vhosts", "/")["tracing"]


def test_a_publish_is_seen_with_where_it_went(tap, channel, queue, exchange):
    channel.queue_bind(queue, exchange, "new.#")
    with tap(exchange, "new.*") as watching:
        channel.basic_publish(exchange, "old.eu", b"other")
        properties = pika.BasicProperties(headers={"n": 1}, type="t", delivery_mode=2)
        channel.basic_publish(exchange, "new.eu", b"body", properties)
        (event,) = watching.events(1)
        assert watching.end()[0] == []
    assert event.pop("connection").startswith("127.0.0.1:")
    assert event == {
        "event": "publish",
        "exchange": exchange,
        "routing_keys": ["new.eu"],
        "queues": [queue],
        "vhost": "/",
        "channel": channel.channel_number,
        "user": "guest",
        "properties": {"headers": {"n": 1}, "type": "t", "delivery_mode": 2},
        "body_encoding": "utf-8",
        "body": "body",
    }


def test_deliveries_are_seen_by_queue(tap, channel, queue):
    with tap("--queue", queue) as watching:
        channel.basic_publish("", queue, b"1")
        channel.basic_get(queue)
        channel.basic_recover(requeue=True)
        channel.basic_get(queue, auto_ack=True)
        first, second = watching.events(2)
    assert [each["event"] for each in (first, second)] == ["deliver", "deliver"]
    assert [each["queue"] for each in (first, second)] == [queue, queue]
    assert [each["redelivered"] for each in (first, second)] == [False, True]


def test_without_an_exchange_everything_is_seen(tap, channel, queue):
    with tap("--deliveries") as watching:
        channel.basic_publish("", queue, b"1")
        channel.basic_get(queue, auto_ack=True)
        channel.basic_publish("amq.fanout", "x", b"2")
        events = watching.events(3)
    assert [(each["event"], each["exchange"], each["body"]) for each in events] == [
        ("publish", "", "1"),
        ("deliver", "", "1"),
        ("publish", "amq.fanout", "2"),
    ]


def test_watching_changes_neither_returns_nor_alternate_exchanges(tap, channel, queue, unique):
    channel.exchange_declare(f"{unique}-else", "fanout")
    channel.exchange_declare(unique, "direct", arguments={"alternate-exchange": f"{unique}-else"})
    returned = []
    channel.add_on_return_callback(lambda *args: returned.append(args[3]))
    with tap(unique) as watching:
        channel.basic_publish(unique, "k", b"1", mandatory=True)
        channel.queue_bind(queue, f"{unique}-else")
        channel.basic_publish(unique, "k", b"2", mandatory=True)
        events = watching.events(2)
        channel.connection.process_data_events(0)
    channel.exchange_delete(unique)
    channel.exchange_delete(f"{unique}-else")
    assert [each["queues"] for each in events] == [[], [queue]]
    assert returned == [b"1"]
    assert channel.basic_get(queue, auto_ack=True)[2] == b"2"


def test_names_with_the_words_of_patterns_stand_for_themselves(tap, channel, unique):
    channel.exchange_declare(f"{unique}.#", "fanout")
    channel.exchange_declare(f"{unique}.a", "fanout")
    with tap(f"{unique}.#") as watching:
        channel.basic_publish(f"{unique}.a", "k", b"no")
        channel.basic_publish(f"{unique}.#", "k", b"yes")
        (event,) = watching.events(1)
    channel.exchange_delete(f"{unique}.#")
    channel.exchange_delete(f"{unique}.a")
    assert event["body"] == "yes"


def test_the_last_of_several_taps_switches_tracing_off(tap, api):
    assert not tracing(api)
    with tap() as first, tap() as second, tap() as third:
        for each in (second, first):
            assert each.end()[1] == ["leveret: tracing stays on: other queues are bound to it"]
            assert tracing(api)
        assert third.end()[1] == []
    assert not tracing(api)


def test_tracing_does_not_outlive_a_tap_that_is_killed(tap, api, broker, channel):
    if broker.name != "leveret":
        pytest.skip("RabbitMQ leaves tracing on when nobody is bound any more")
    with tap() as watching:
        watching.kill()
    pump(channel.connection, lambda: not tracing(api))


def test_a_missing_exchange_or_queue_is_an_error_at_once(leveret, api, unique):
    for args, name in (((unique,), "exchange"), (("--queue", unique), "queue")):
        done = leveret.run("tap", *args)
        assert done.returncode == 1
        assert f"no {name} '{unique}' in vhost '/'" in done.stderr.decode()
        assert f"leveret {name} list" in done.stderr.decode()
    assert not tracing(api)


def test_an_exclusive_queue_of_another_connection_can_be_watched(tap, channel, unique):
    channel.queue_declare(unique, exclusive=True)
    with tap("--queue", unique) as watching:
        channel.basic_publish("", unique, b"1")
        channel.basic_get(unique, auto_ack=True)
        assert watching.events(1)[0]["queue"] == unique


def test_alone_it_switches_tracing_off_again(tap, api):
    with tap() as watching:
        watching.end()
    assert not tracing(api)


def test_tracing_that_was_on_stays_on(tap, api):
    api.put("vhosts", "/", body={"tracing": True})
    with tap(was_on=True) as watching:
        watching.end()
    assert tracing(api)
    api.put("vhosts", "/", body={"tracing": False})


def test_a_tap_without_the_api_names_the_alternative(leveret, broker):
    done = leveret.run("tap", "--url", broker.url, "--api", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert b"Connection refused" in done.stderr
    assert b"--no-switch" in done.stderr


def test_it_prints_for_people_too(leveret, channel, queue):
    with leveret.start("tap", "", "-n", "1") as process:
        process.stderr.readline()
        channel.basic_publish("", queue, b"hello", pika.BasicProperties(message_id="m"))
        lines = process.stdout.read().decode().splitlines()
        assert process.wait() == 0
    assert lines[0] == f'── "" → {queue} → {queue}'
    assert lines[1].startswith("   guest at 127.0.0.1:")
    assert lines[2:] == ["   message_id: m", "hello"]
