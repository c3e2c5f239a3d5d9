"""``leveret work``: what becomes of messages, commands and the worker itself."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator

import pika
import pytest

from conformance import brokers
from conformance.cli.conftest import TIMEOUT, Leveret
from conformance.clients.conftest import pump

FAST = ("--backoff", "50ms..100ms")
ENOUGH = ("--idle", "2s")  # more than any delay here, and what a busy broker adds


@pytest.fixture
def delay_queues(channel, queue) -> Iterator[None]:
    """Delete what the worker leaves behind."""
    yield
    for delay in (50, 100, 1000, 2000, 4000, 8000, 16000):
        channel.queue_delete(f"leveret.delay.{queue}.{delay}")


pytestmark = pytest.mark.usefixtures("delay_queues")


@pytest.fixture
def sh(leveret, queue) -> Callable[..., "subprocess.CompletedProcess[bytes]"]:
    """Work on the queue with a shell script."""

    def run(script: str, *options: str) -> "subprocess.CompletedProcess[bytes]":
        return leveret.run("work", queue, *FAST, *options, "--", "sh", "-c", script)

    return run


def publish(channel, queue, *bodies, exchange="", **properties):
    for body in bodies:
        channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties))


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


# -- what becomes of messages --------------------------------------------------------------------------------


def test_each_message_is_a_command_with_the_body_as_input(sh, channel, queue):
    publish(channel, queue, b"one", b"two", b"three")
    done = sh("cat; echo", "--count", "3")
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\nthree\n")
    assert done.stderr.splitlines()[-1] == b"3 done, 0 put off, 0 failed"
    assert count(channel, queue) == 0


def test_the_message_is_described_in_variables(sh, channel, queue, unique):
    channel.exchange_declare(f"{unique}-x", "fanout", auto_delete=True)
    channel.queue_bind(queue, f"{unique}-x")
    headers = {"tenant-id": "7", "n": 5}
    publish(channel, "new.eu", b"", exchange=f"{unique}-x", headers=headers, message_id="id", type="t")
    done = sh("env | grep ^LEVERET_MSG_ | sort", "-n", "1")
    assert done.stdout.decode().splitlines() == [
        "LEVERET_MSG_ATTEMPT=1",
        "LEVERET_MSG_ATTEMPTS=6",
        "LEVERET_MSG_DELIVERY_TAG=1",
        f"LEVERET_MSG_EXCHANGE={unique}-x",
        'LEVERET_MSG_HEADERS={"tenant-id": "7", "n": 5}',
        "LEVERET_MSG_HEADER_N=5",
        "LEVERET_MSG_HEADER_TENANT_ID=7",
        "LEVERET_MSG_MESSAGE_ID=id",
        f"LEVERET_MSG_QUEUE={queue}",
        "LEVERET_MSG_REDELIVERED=false",
        "LEVERET_MSG_ROUTING_KEY=new.eu",
        "LEVERET_MSG_TYPE=t",
    ]


def test_a_failing_command_is_tried_again_with_the_message_as_it_was(sh, channel, queue, unique):
    channel.exchange_declare(f"{unique}-x", "fanout", auto_delete=True)
    channel.queue_bind(queue, f"{unique}-x")
    sent = {"headers": {"a": "b", "CC": [f"{unique}-none"]}, "user_id": "guest", "expiration": "60000"}
    publish(channel, "key", b"body", exchange=f"{unique}-x", priority=2, correlation_id="c", **sent)
    script = "env | grep ^LEVERET_MSG_ | sort; cat; echo; test $LEVERET_MSG_ATTEMPT = 3"
    done = sh(script, "--retries", "2", *ENOUGH)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, b"1 done, 2 put off, 0 failed")
    runs = done.stdout.decode().split("body\n")
    assert len(runs) == 4
    for attempt, run in enumerate(runs[:3], 1):
        variables = dict(line.split("=", 1) for line in run.splitlines())
        assert variables["LEVERET_MSG_ATTEMPT"] == str(attempt)
        assert variables["LEVERET_MSG_EXCHANGE"] == f"{unique}-x"
        assert variables["LEVERET_MSG_ROUTING_KEY"] == "key"
        assert variables["LEVERET_MSG_USER_ID"] == "guest"
        assert variables["LEVERET_MSG_EXPIRATION"] == "60000"
        assert variables["LEVERET_MSG_HEADER_A"] == "b"
        assert variables["LEVERET_MSG_PRIORITY"] == "2"
        assert variables["LEVERET_MSG_CORRELATION_ID"] == "c"
        assert f"{unique}-none" in variables["LEVERET_MSG_HEADER_CC"]
        assert "LEVERET_MSG_HEADER_X_DEATH" not in variables


def test_waiting_is_the_brokers_business(leveret, channel, queue):
    """A message that waits is in no worker: when there is none any more, it comes back all the same."""
    publish(channel, queue, b"x")
    options = ("--backoff", "100ms", "--count", "1")
    done = leveret.run("work", queue, *options, "--", "false")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, b"0 done, 1 put off, 0 failed")
    method, properties, body = next(channel.consume(queue, inactivity_timeout=TIMEOUT))
    channel.cancel()
    assert (body, properties.delivery_mode, properties.headers["x-leveret-attempt"]) == (b"x", 2, 1)
    assert properties.headers["x-leveret-error"] == "exit status 1"
    assert method.redelivered is False


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"message_id": "m-1", "correlation_id": "c-1"}, ", message-id m-1"),
        ({"correlation_id": "c-1"}, ", correlation-id c-1"),
        ({}, ""),
    ],
)
def test_each_failure_names_the_message_and_the_attempt(sh, channel, queue, properties, name):
    publish(channel, queue, b"x", **properties)
    done = sh("exit 7", "--retries", "1", "--dead-letter", queue, "--count", "2")
    assert done.stderr.decode().splitlines()[:2] == [
        f"leveret: queue {queue}, delivery 1{name}, attempt 1 of 2: exit status 7; again in 50ms",
        f"leveret: queue {queue}, delivery 2{name}, attempt 2 of 2: exit status 7; sent to {queue}",
    ]


# -- the terminal --------------------------------------------------------------------------------------------


def on_terminal(leveret, *args, status=0):
    """Run the command on a terminal of its own; what the terminal received."""
    ours, theirs = os.openpty()
    with leveret.start(*args, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        received = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ours, 65536):
                received += data
        os.close(ours)
        assert process.wait(TIMEOUT) == status, received
    return received.decode()


def test_output_of_commands_is_above_the_status_line(leveret, channel, queue):
    publish(channel, queue, *(b"%d" % number for number in range(20)))
    script = "printf 'out-'; read n; printf \"$n\\n\"; echo err-$n >&2"
    received = on_terminal(leveret, "work", queue, "-n", "20", "-c", "2", "--", "sh", "-c", script)
    assert "20 done" in received
    # What a terminal shows: each line from its last erasure on.
    lines = [line.rpartition("\r\x1b[K")[2] for line in received.split("\r\n")]
    for number in range(20):
        assert f"err-{number}" in lines
    assert sum(line.startswith("out-") for line in lines) == 20
    # On a slow machine the end of a line may come so late that its beginning is shown alone.
    expected = r"|out-.*|\d+|err-\d+|leveret: without --dead-letter.*|20 done, 0 put off, 0 failed"
    assert [line for line in lines if not re.fullmatch(expected, line)] == []


def test_a_prompt_without_a_line_end_is_shown(leveret, channel, queue):
    publish(channel, queue, b"x")
    received = on_terminal(leveret, "work", queue, "-n", "1", "--", "sh", "-c", "printf 'sure? '")
    assert "sure? \r\n" in received


def test_a_refusal_is_shown_on_a_terminal(leveret, unique):
    received = on_terminal(leveret, "work", f"{unique}-none", "--", "true", status=1)
    assert f"leveret: NOT_FOUND - no queue '{unique}-none' in vhost '/'" in received
    assert "Traceback" not in received


# -- what becomes of messages that fail ----------------------------------------------------------------------


def test_after_the_last_attempt_a_message_goes_to_the_dead_letters(sh, channel, queue, unique, take):
    dead = f"{unique}-dead"
    publish(channel, queue, b"good", b"bad", b"good")
    done = sh(
        'read x; test "$x" = good', "--retries", "2", "--dead-letter", dead, *ENOUGH, "--concurrency", "2"
    )
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (
        3,
        [b"2 done, 2 put off, 1 failed", b"leveret: 1 message failed for good"],
    )
    ((_, properties, body),) = take(dead)
    channel.queue_delete(dead)
    assert body == b"bad"
    assert properties.headers["x-leveret-attempts"] == 3
    death = properties.headers["x-death"][0]
    assert (death["queue"], death["exchange"], death["routing-keys"]) == (queue, "", [queue])
    assert "x-leveret-attempt" not in properties.headers
    assert (count(channel, queue), count(channel, f"leveret.delay.{queue}.50")) == (0, 0)


def test_dead_letters_may_go_through_an_exchange(sh, channel, queue, unique, take):
    channel.exchange_declare(unique, "direct", auto_delete=True)
    channel.queue_declare(f"{unique}-dead")
    channel.queue_bind(f"{unique}-dead", unique, "failed")
    publish(channel, queue, b"x")
    options = ("--dead-letter-exchange", unique, "--dead-letter-key", "failed", "--retries", "0", "-n", "1")
    assert sh("exit 1", *options).returncode == 3
    assert [body for _, _, body in take(f"{unique}-dead")] == [b"x"]
    channel.queue_delete(f"{unique}-dead")


def test_without_a_place_for_dead_letters_the_queues_own_is_used_and_a_warning_given(
    leveret, channel, queue, take
):
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    channel.queue_declare(f"{queue}-source", arguments=arguments)
    publish(channel, f"{queue}-source", b"x")
    done = leveret.run("work", f"{queue}-source", "--retries", "0", "-n", "1", "--", "false")
    channel.queue_delete(f"{queue}-source")
    assert done.returncode == 3
    assert b"is lost unless its queue has a dead-letter exchange" in done.stderr
    assert [body for _, _, body in take(queue)] == [b"x"]


def test_a_message_that_the_dead_letters_have_no_room_for_is_kept(leveret, channel, queue, take):
    dead = f"{queue}-dead"
    channel.queue_declare(dead, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    publish(channel, dead, b"full")
    publish(channel, queue, b"x")
    options = ("--retries", "0", "--dead-letter", dead)
    with leveret.start("work", queue, *options, "--", "false") as process:
        assert b"the broker refused it; again in 1s" in reading(process.stderr, b"again")
        process.terminate()
        reading(process.stderr, b"SIGTERM")
        process.terminate()
        assert process.wait(TIMEOUT) == 4
    assert [body for _, _, body in take(dead)] == [b"full"]
    channel.queue_delete(dead)
    assert [body for _, _, body in take(queue)] == [b"x"]


def test_a_dead_letter_that_is_sent_back_starts_afresh(sh, channel, queue, unique, take):
    dead = f"{unique}-dead"
    publish(channel, queue, b"x")
    options = ("--retries", "1", "--dead-letter", dead, *ENOUGH)
    assert sh("exit 1", *options).returncode == 3
    ((_, properties, body),) = take(dead)
    channel.basic_publish("", queue, body, properties)
    assert sh("test $LEVERET_MSG_ATTEMPT = 2", *options).returncode == 0
    channel.queue_delete(dead)


def test_what_a_command_prints_is_the_reply(sh, channel, queue, unique, take):
    channel.queue_declare(f"{unique}-replies")
    publish(channel, queue, b"abc", reply_to=f"{unique}-replies", correlation_id="7")
    publish(channel, queue, b"nobody asks")
    assert sh("tr a-z A-Z", "--reply", "--count", "2").returncode == 0
    ((_, properties, body),) = take(f"{unique}-replies")
    channel.queue_delete(f"{unique}-replies")
    assert (properties.correlation_id, body) == ("7", b"ABC")


def test_a_call_over_direct_reply_to_is_answered(sh, channel, queue):
    replies = []
    channel.basic_consume(
        "amq.rabbitmq.reply-to", lambda *args: replies.append((args[2], args[3])), auto_ack=True
    )
    publish(channel, queue, b"xyz", reply_to="amq.rabbitmq.reply-to", correlation_id="8")
    assert sh("tr a-z A-Z", "--reply", "--count", "1").returncode == 0
    pump(channel.connection, lambda: replies)
    ((properties, body),) = replies
    assert (properties.correlation_id, body) == ("8", b"XYZ")


def test_a_timeout_is_a_failure_of_the_command_alone(sh, channel, queue, unique, take):
    dead = f"{unique}-dead"
    publish(channel, queue, b"60", b"0")
    done = sh("read s; sleep $s", "--timeout", "500ms", "--retries", "0", "--dead-letter", dead, "-n", "2")
    ((_, properties, body),) = take(dead)
    channel.queue_delete(dead)
    assert (done.returncode, body) == (3, b"60")
    assert properties.headers["x-leveret-error"] == "the command took longer than 500ms"


def test_a_lost_delay_queue_is_made_again(leveret, channel, queue):
    publish(channel, queue, b"1")
    script = "read x; test $x = 2 || exit 1"
    with leveret.start("work", queue, "--backoff", "50ms", "-n", "4", "--", "sh", "-c", script) as process:
        assert b"again in 50ms" in reading(process.stderr, b"again")
        channel.queue_delete(f"leveret.delay.{queue}.50")
        publish(channel, queue, b"1", b"2", b"2", b"2")
        process.communicate()


def reading(stream, word):
    """Lines of the stream up to the first with this word in it."""
    lines = b""
    while word not in lines:
        line = stream.readline()
        assert line, lines
        lines += line
    return lines


# -- the end -------------------------------------------------------------------------------------------------


def test_sigterm_lets_commands_end_and_takes_no_more(leveret, channel, queue, tmp_path):
    publish(channel, queue, b"first", b"second")
    os.mkfifo(tmp_path / "go")
    script = f"echo started; read line < {tmp_path}/go; echo ended"
    with leveret.start("work", queue, "--", "sh", "-c", script) as process:
        assert process.stdout.readline() == b"started\n"
        process.terminate()
        reading(process.stderr, b"SIGTERM: waiting for 1 command")
        (tmp_path / "go").write_text("go\n")
        assert process.wait(TIMEOUT) == 0
        assert process.stdout.read() == b"ended\n"
    assert count(channel, queue) == 1


def test_a_second_signal_kills_commands_and_their_messages_are_back(leveret, channel, queue, take):
    publish(channel, queue, b"x")
    with leveret.start("work", queue, "--", "sh", "-c", "echo started; sleep 60") as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        reading(process.stderr, b"SIGINT")
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 4
        assert b"unfinished messages are back in the queue" in process.stderr.read()
    ((method, _, body),) = take(queue)
    assert (method.redelivered, body) == (True, b"x")


def test_a_worker_that_is_killed_loses_nothing(leveret, channel, queue):
    publish(channel, queue, b"x")
    with leveret.start("work", queue, "--", "sh", "-c", "echo started; exec sleep 1") as process:
        assert process.stdout.readline() == b"started\n"
        process.kill()
    method, _, body = next(channel.consume(queue, inactivity_timeout=TIMEOUT))
    channel.cancel()
    assert (method.redelivered, body) == (True, b"x")


def test_a_queue_that_is_not_there_is_named_with_what_to_try(leveret, unique):
    done = leveret.run("work", f"{unique}-none", "--retries", "0", "--", "true")
    assert done.returncode == 1
    assert f"no queue '{unique}-none' in vhost '/'".encode() in done.stderr
    assert b"leveret queue declare" in done.stderr


def test_a_queue_that_is_deleted_ends_the_worker(leveret, channel, queue):
    publish(channel, queue, b"x")
    with leveret.start("work", queue, "--", "echo", "x") as process:
        assert process.stdout.readline() == b"x\n"
        channel.queue_delete(queue)
        assert process.wait(TIMEOUT) == 1
        assert b"its queue was deleted" in process.stderr.read()


def test_a_command_that_is_not_there_takes_no_message(leveret, channel, queue):
    publish(channel, queue, b"x")
    assert leveret.run("work", queue, "--", "no-such-command-here").returncode == 127
    assert leveret.run("work", queue, "--", "/etc/passwd").returncode == 126
    assert count(channel, queue) == 1


@pytest.mark.parametrize(
    "options",
    [("--backoff", "5m..1s"), ("--backoff", "0s"), ("--dead-letter", "d", "--dead-letter-exchange", "x")],
)
def test_wrong_options_are_status_2(leveret, queue, options):
    assert leveret.run("work", queue, *options, "--", "true").returncode == 2


# -- a broker that crashes -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_messages_that_wait_survive_a_crash_of_the_broker_and_the_worker_comes_back(tmp_path):
    data, received = str(tmp_path / "data"), tmp_path / "received"
    with brokers.leveret(data=data) as broker:
        leveret = Leveret(broker)
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"x", pika.BasicProperties(delivery_mode=2))
        connection.close()
        script = f"echo $LEVERET_MSG_ATTEMPT >> {received}; test $LEVERET_MSG_ATTEMPT = 2"
        worker = leveret.start("work", "q", "--backoff", "10s", "--idle", "20s", "--", "sh", "-c", script)
        reading(worker.stderr, b"again in 10s")
        assert leveret("get", "leveret.delay.q.10000", "--format", "body") == "x\n"
        os.kill(broker.pid, signal.SIGKILL)
        reading(worker.stderr, b"connection was lost")
    with worker, brokers.leveret(data=data, port=broker.port):
        assert worker.wait(TIMEOUT) == 0
        assert b"1 done, 1 put off, 0 failed" in worker.stderr.read()
    assert received.read_text() == "1\n2\n"
