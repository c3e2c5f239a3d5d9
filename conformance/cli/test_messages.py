"""``leveret publish``, ``consume`` and ``get``."""

import json
import os
import re
import signal

import pika
import pytest

from conformance import brokers
from conformance.cli.conftest import TIMEOUT, Leveret
from conformance.clients.conftest import pump


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def bodies(found):
    return [body for _, _, body in found]


# -- publish -------------------------------------------------------------------------------------------------


def test_a_body_from_the_command_line_reaches_the_queue(leveret, queue, take):
    assert leveret("publish", "", queue, "grüße") == "1 message published and confirmed\n"
    ((method, properties, body),) = take(queue)
    assert body == "grüße".encode()
    assert (method.exchange, method.routing_key, properties.delivery_mode) == ("", queue, 2)


def test_standard_input_is_one_body_or_a_line_each(leveret, queue, take):
    assert leveret("publish", "", queue, given="one\ntwo\n") == "1 message published and confirmed\n"
    leveret("publish", "", queue, "--lines", given=b"one\n\ntwo\xff")
    assert bodies(take(queue)) == [b"one\ntwo\n", b"one", b"", b"two\xff"]


def test_files_are_a_body_each_or_read_by_line(leveret, queue, take, tmp_path):
    (tmp_path / "a").write_bytes(b"a\n\x00")
    (tmp_path / "b").write_bytes(b"b1\nb2\n")
    files = ("--file", str(tmp_path / "a"), "-f", str(tmp_path / "b"))
    leveret("publish", "", queue, *files)
    leveret("publish", "", queue, "--lines", *files)
    assert bodies(take(queue)) == [b"a\n\x00", b"b1\nb2\n", b"a", b"\x00", b"b1", b"b2"]


def test_every_property_and_header_arrives_with_its_type(leveret, queue, take):
    leveret(
        *("publish", "", queue, "x", "--transient", "--priority", "3", "--expiration", "1h"),
        *("--content-type", "text/plain", "--content-encoding", "identity", "--correlation-id", "c"),
        *("--reply-to", "r", "--message-id", "m", "--timestamp", "1700000000", "--type", "t"),
        *("--user-id", "guest", "--app-id", "a", "--cluster-id", "k"),
        *("-H", "text=a=b", "-H", "number:=-7", "-H", "yes:=true", "-H", 'deep:={"list": [1, null, "x"]}'),
    )
    ((_, properties, _),) = take(queue)
    assert properties == pika.BasicProperties(
        content_type="text/plain",
        content_encoding="identity",
        headers={"text": "a=b", "number": -7, "yes": True, "deep": {"list": [1, None, "x"]}},
        delivery_mode=1,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="3600000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        user_id="guest",
        app_id="a",
        cluster_id="k",
    )


def test_many_messages_are_confirmed(leveret, queue, channel):
    lines = "\n".join(map(str, range(5000)))
    printed = leveret("publish", "", queue, "--lines", given=lines)
    assert printed == "5000 messages published and confirmed\n"
    assert channel.queue_declare(queue, passive=True).method.message_count == 5000


@pytest.mark.parametrize("confirm", ["--confirm", "--no-confirm"])
def test_what_reaches_no_queue_is_said_and_a_failure_if_mandatory(leveret, unique, confirm):
    done = leveret.run("publish", "", unique, "x", confirm)
    assert (done.returncode, done.stderr.decode()) == (
        0,
        f"leveret: 1 message reached no queue: there is no queue {unique!r}\n",
    )
    assert leveret.run("publish", "", unique, "x", confirm, "--mandatory").returncode == 1


def test_what_a_full_queue_refuses_is_a_failure(leveret, channel, unique):
    channel.queue_declare(
        unique, exclusive=False, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    done = leveret.run("publish", "", unique, "--lines", given="1\n2\n3\n")
    channel.queue_delete(unique)
    assert (done.returncode, done.stdout) == (1, b"1 message published and confirmed\n")
    assert done.stderr == b"leveret: 2 messages refused by the broker; is a queue full?\n"


@pytest.mark.parametrize("confirm", ["--confirm", "--no-confirm"])
def test_an_exchange_that_is_not_there_is_named_with_what_to_try(leveret, unique, confirm):
    done = leveret.run("publish", unique, "key", "x", confirm)
    assert done.returncode == 1
    assert f"NOT_FOUND - no exchange '{unique}' in vhost '/'" in done.stderr.decode()
    assert b"leveret exchange declare NAME" in done.stderr


def test_publish_interrupted_by_ctrl_c_reports_the_confirmed_messages(leveret, queue, channel):
    with leveret.start("publish", "", queue, "--lines") as process:
        process.stdin.write(b"1\n2\n3\n")
        process.stdin.flush()
        pump(channel.connection, lambda: count(channel, queue) == 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 1
        assert process.stdout.read() == b"3 messages published and confirmed\n"
        assert process.stderr.read() == b"leveret: interrupted before the end\n"


@pytest.mark.parametrize(
    ("confirm", "told"),
    [
        ("--confirm", "[23] messages sent before that, 2 confirmed(; 1 message not confirmed .*)?"),
        (
            "--no-confirm",
            "[23] messages sent before that; without confirms it is unknown how many of them arrived",
        ),
    ],
)
def test_publish_that_loses_the_broker_reports_the_confirmed_messages(tmp_path, confirm, told):
    with brokers.leveret(data=str(tmp_path / "data")) as broker:
        leveret = Leveret(broker)
        leveret("queue", "declare", "q")
        with leveret.start("publish", "", "q", "--lines", confirm) as process:
            process.stdin.write(b"1\n2\n")
            process.stdin.flush()
            while leveret("queue", "list", "--format", "json").count('"messages": 2') == 0:
                pass  # each look takes a process
            os.kill(broker.pid, signal.SIGKILL)
            process.stdin.write(b"3\n")
            process.stdin.close()
            assert process.wait(TIMEOUT) == 1
            assert re.fullmatch(f"leveret: {told}", process.stderr.read().decode().splitlines()[-1])


# -- consume -------------------------------------------------------------------------------------------------


def test_consume_prints_each_message_and_acknowledges_it(leveret, queue, channel):
    for number in range(3):
        channel.basic_publish("", queue, b"%d" % number, pika.BasicProperties(headers={"n": number}))
    found = leveret.lines("consume", queue, "--count", "2", "--format", "json")
    assert found[0] == {
        "exchange": "",
        "routing_key": queue,
        "redelivered": False,
        "properties": {"headers": {"n": 0}},
        "body_encoding": "utf-8",
        "body": "0",
    }
    assert found[1]["body"] == "1"
    assert leveret("consume", queue, "-n", "1", "--format", "body") == "2\n"


def test_consume_ends_when_nothing_comes(leveret, queue):
    assert leveret("consume", queue, "--idle", "100ms") == ""


def test_consume_ends_in_good_order_at_a_signal(leveret, queue, channel):
    for number in (signal.SIGINT, signal.SIGTERM):
        with leveret.start("consume", queue, "--format", "body") as process:
            channel.basic_publish("", queue, b"x")
            assert process.stdout.readline() == b"x\n"
            process.send_signal(number)
            assert process.wait() == 0
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_messages_that_are_put_back_stay_in_order(leveret, queue, channel, take):
    for number in range(3):
        channel.basic_publish("", queue, b"%d" % number)
    assert leveret("consume", queue, "-n", "2", "--settle", "requeue", "--format", "body") == "0\n1\n"
    assert leveret("get", queue, "-n", "9", "--settle", "requeue", "--format", "body") == "0\n1\n2\n"
    found = take(queue)
    assert bodies(found) == [b"0", b"1", b"2"]
    assert [method.redelivered for method, _, _ in found] == [True] * 3


@pytest.mark.parametrize("command", ["consume", "get"])
def test_refused_messages_go_to_the_dead_letters(leveret, channel, queue, take, command):
    source = f"{queue}-source"
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    channel.queue_declare(source, arguments=arguments)
    channel.basic_publish("", source, b"x")
    leveret(command, source, "-n", "1", "--settle", "reject")
    channel.queue_delete(source)
    assert bodies(take(queue)) == [b"x"]


def test_what_consume_prints_can_be_published_again(leveret, queue, channel, take):
    sent = pika.BasicProperties(headers={"b": b"\xff", "t": "x"}, priority=4, delivery_mode=1)
    channel.basic_publish("", queue, b"\x00\xff", sent)
    printed = leveret("consume", queue, "-n", "1", "--format", "json")
    leveret("publish", "", queue, "--json-lines", given=printed)
    ((_, properties, body),) = take(queue)
    assert (properties, body) == (sent, b"\x00\xff")


def test_what_is_printed_cannot_control_the_terminal(leveret, queue, channel):
    headers = {"\x1b[2J": "\x1b[31m"}
    channel.basic_publish("", queue, b"\x1b[0m\nline", pika.BasicProperties(headers=headers, message_id="é"))
    printed = leveret("get", queue, "--take")
    assert "\x1b" not in printed
    assert printed.splitlines()[1:] == [
        "   message_id: é",
        "   header \\x1b[2J: \\x1b[31m",
        "\\x1b[0m",
        "line",
    ]


def test_an_empty_queue_is_status_1(leveret, queue):
    done = leveret.run("get", queue, "--take")
    assert (done.returncode, done.stderr.decode()) == (1, f"leveret: queue {queue!r} is empty\n")


def test_get_does_not_count_as_a_delivery_on_leveret(leveret, queue, channel, take, broker):
    channel.basic_publish("", queue, b"x")
    done = leveret.run("get", queue, "--format", "body")
    if broker.name == "leveret":
        assert (done.returncode, done.stdout) == (0, b"x\n")
    else:
        assert (done.returncode, b"this needs leveret" in done.stderr) == (1, True)
    ((method, _, _),) = take(queue)
    assert method.redelivered is False


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("consume",), ("get", "--take")])
def test_a_queue_that_is_not_there_is_named_with_what_to_try(leveret, unique, command):
    done = leveret.run(*command, unique)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        f"leveret: NOT_FOUND - no queue '{unique}' in vhost '/'",
        "leveret: `leveret queue list` shows the queues; `leveret queue declare NAME` makes one",
    ]


def test_a_refused_login_comes_with_advice(leveret, broker):
    done = leveret.run("get", "q", "--take", "--url", broker.url.replace(":guest@", ":wrong@"))
    assert done.returncode == 1
    said = done.stderr.decode()
    assert said.startswith("leveret: ACCESS_REFUSED - Login was refused")
    assert "user and password" in said
    assert "wrong" not in said


def test_a_virtual_host_that_is_not_there_is_said(leveret):
    done = leveret.run("get", "q", "--take", "--vhost", "none/such")
    assert done.returncode == 1
    assert b"vhost none/such not found" in done.stderr
    assert b"leveret vhost list" in done.stderr


def test_json_lines_that_are_none_name_the_line(leveret, queue):
    good = json.dumps({"body": "x"})
    done = leveret.run("publish", "", queue, "--json-lines", given=f"{good}\n{{}}\n")
    assert (done.returncode, done.stderr) == (
        1,
        b'leveret: line 2: wanted an object with "body", a text\n'
        b"leveret: 1 message sent before that, 1 confirmed\n",
    )
