"""``leveret get``: a look that changes nothing, and ``--take``."""

import pytest

from tests.router.cli.conftest import leveret


def state(broker, queue):
    """What a look must not change."""
    found = broker.json("queue", "show", queue)
    counters = ("get", "get_no_ack", "deliver", "deliver_get", "redeliver", "ack")
    stats = found.get("message_stats") or {}
    return (
        found["messages_ready"],
        found["messages_unacknowledged"],
        [stats.get(name, 0) for name in counters],
    )


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize(
    "look",
    [
        ("get", "q", "-n", "5"),
        ("queue", "peek", "q"),
        ("queue", "show", "q"),
        ("queue", "list"),
        ("consumer", "list", "--queue", "q"),
        ("binding", "list", "--destination", "q"),
        ("top", "--once"),
        ("definitions", "export"),
    ],
    ids=" ".join,
)
def test_get_does_not_change_the_queue(broker, kind, look):
    limit = ["--argument", "x-delivery-limit:=1"] if kind == "quorum" else []
    broker("queue", "declare", "q", "--type", kind, *limit)
    for body in "ab":
        broker("publish", "", "q", body)
    before = state(broker, "q")
    for _ in range(4):
        broker(*look)
    assert state(broker, "q") == before
    taken = broker.lines("get", "q", "-n", "5", "--take")
    assert [(each["body"], each["redelivered"]) for each in taken] == [("a", False), ("b", False)]
    assert [each["properties"].get("headers", {}).get("x-delivery-count", 0) for each in taken] == [0, 0]


def test_get_shows_a_message_as_consume_does(broker):
    broker("queue", "declare", "q")
    broker("publish", "", "q", "grüße", "-H", "n:=5", "--priority", "3")
    (peeked,) = broker.lines("get", "q")
    (taken,) = broker.lines("get", "q", "--take")
    assert (peeked.pop("position"), peeked.pop("body_bytes")) == (0, 7)
    assert peeked == taken
    assert broker.run("get", "q").exit_code == 1


def test_get_prints_binary_bodies(broker, tmp_path):
    broker("queue", "declare", "q")
    (tmp_path / "body").write_bytes(b"\xff\x00")
    broker("publish", "", "q", "--file", str(tmp_path / "body"))
    result = broker.run("get", "q", "--format", "body")
    assert result.stdout_bytes == b"\xff\x00\n"


def test_get_can_still_settle_over_amqp(broker):
    broker("queue", "declare", "q")
    broker("publish", "", "q", "x")
    broker("get", "q", "--settle", "requeue")
    assert broker.lines("get", "q")[0]["redelivered"] is True
    broker("get", "q", "--settle", "reject")
    assert broker.run("get", "q").exit_code == 1


def test_get_of_a_stream_names_the_command_for_streams(broker):
    broker("queue", "declare", "s", "--type", "stream")
    result = broker.run("get", "s")
    assert (result.exit_code, "leveret consume s --offset first" in result.stderr) == (
        1,
        True,
    )


def test_get_of_a_missing_queue_names_it(broker):
    assert "there is no queue 'none' in virtual host '/'" in broker.run("get", "none").stderr


def test_get_refuses_a_count_over_the_limit_of_the_api(broker):
    result = broker.run("get", "q", "-n", "1001")
    assert (result.exit_code, "--take" in result.stderr) == (2, True)


@pytest.mark.parametrize("answer", [(400, b""), (404, b'{"error":"Object Not Found","reason":"Not Found"}')])
def test_get_from_a_broker_that_cannot_show_messages_says_so(server, answer):
    """RabbitMQ: no such path, though the queue is there."""
    server.answers["/messages?"] = answer
    result = leveret(server, "get", "q")
    assert (result.exit_code, "cannot show messages without delivering them" in result.stderr) == (1, True)
