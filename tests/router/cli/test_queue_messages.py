"""``leveret queue peek``, ``move``, ``replay`` and ``delete-messages``."""

import json

import pytest

from tests.router.cli.conftest import leveret


@pytest.fixture
def queue(broker):
    """A queue with four messages, of which two have n > 1."""
    broker("queue", "declare", "q")
    for number in range(4):
        broker("publish", "", "q", f"m{number}", "-H", f"n:={number}")
    return broker


def bodies(broker, name):
    result = broker.run("queue", "peek", name, "--count", "100", "--format", "body")
    return result.stdout.split()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), ["m0", "m1", "m2", "m3"]),
        (("--count", "2"), ["m0", "m1"]),
        (("--from", "2"), ["m2", "m3"]),
        (("--selector", "n > 2"), ["m3"]),
        (("--truncate", "1", "--count", "1"), ["m"]),
    ],
)
def test_peek_shows_the_selected_messages(queue, options, shown):
    assert queue("queue", "peek", "q", "--format", "body", *options).split() == shown


def test_peek_shows_positions(queue):
    assert [each["position"] for each in queue.lines("queue", "peek", "q")] == [0, 1, 2, 3]
    assert '── "" → q  position 0\n' in queue("queue", "peek", "q")


def test_peek_of_nothing_is_a_failure(queue):
    result = queue.run("queue", "peek", "q", "--selector", "n = 9")
    assert (result.exit_code, "no ready message of queue 'q' matches" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "said", "left", "moved"),
    [
        (("--all",), "moved 4 messages", [], ["m0", "m1", "m2", "m3"]),
        (("--all", "--limit", "1"), "moved 1 message", ["m1", "m2", "m3"], ["m0"]),
        (("--selector", "n > 1"), "moved 2 messages", ["m0", "m1"], ["m2", "m3"]),
        (("--position", "0", "--position", "3"), "moved 2 messages", ["m1", "m2"], ["m0", "m3"]),
    ],
)
def test_messages_are_moved_to_another_queue(queue, options, said, left, moved):
    queue("queue", "declare", "other")
    assert queue("queue", "move", "q", "--to", "other", *options) == f"{said} from 'q' to queue 'other'\n"
    assert (bodies(queue, "q"), bodies(queue, "other")) == (left, moved)


def test_unroutable_messages_stay_and_the_move_fails(queue):
    result = queue.run("queue", "move", "q", "--exchange", "amq.topic", "--routing-key", "none", "--all")
    assert (result.exit_code, result.stdout) == (1, "moved 0 messages from 'q' to exchange 'amq.topic'\n")
    assert "4 messages left in place: no other queue accepts them" in result.stderr
    assert len(bodies(queue, "q")) == 4


def test_a_move_needs_an_existing_target(queue):
    assert "there is no queue 'none'" in queue.run("queue", "move", "q", "--to", "none", "--all").stderr
    assert "no exchange 'none'" in queue.run("queue", "move", "q", "--exchange", "none", "--all").stderr


@pytest.mark.parametrize(
    "options",
    [
        ("move", "q", "--all"),
        ("move", "q", "--to", "a", "--exchange", "b", "--all"),
        ("move", "q", "--to", "a", "--routing-key", "b", "--all"),
        ("move", "q", "--to", "q", "--all"),
        ("replay", "q"),
        ("delete-messages", "q"),
        ("delete-messages", "q", "--all", "--position", "1"),
    ],
    ids=" ".join,
)
def test_messages_must_be_selected(server, options):
    assert leveret(server, "queue", *options).exit_code == 2
    assert not [method for method, *_ in server.asked if method != "GET"]


def test_messages_are_deleted(queue):
    assert queue("queue", "delete-messages", "q", "--position", "1") == "deleted 1 message from 'q'\n"
    assert bodies(queue, "q") == ["m0", "m2", "m3"]
    assert queue("queue", "delete-messages", "q", "--all", "--quiet") == ""
    assert bodies(queue, "q") == []


def test_dead_letters_are_replayed(broker):
    dead_letters = ("--argument", "x-dead-letter-exchange=", "--argument", "x-dead-letter-routing-key=dead")
    broker("queue", "declare", "work", *dead_letters)
    broker("queue", "declare", "dead")
    broker("publish", "", "work", "x")
    broker("get", "work", "--settle", "reject")
    broker("publish", "", "dead", "undead")
    result = broker.run("queue", "replay", "dead", "--all")
    assert (result.exit_code, result.stdout) == (1, "replayed 1 message from 'dead'\n")
    assert "1 message left in place: they are not dead letters" in result.stderr
    assert (bodies(broker, "work"), bodies(broker, "dead")) == (["x"], ["undead"])


def test_a_limited_rate_is_kept_by_requests_that_are_answered_in_time(server):
    server.answers["/messages/replay"] = (
        200, b'{"done": 50, "unroutable": 0, "skipped": 0, "examined": 50, "more": true}'
    )  # fmt: skip
    server.told = (200, b'{"messages_ready": 120}')
    result = leveret(server, "queue", "replay", "dead", "--all", "--rate", "5")
    assert result.stdout == "replayed 150 messages from 'dead'\n"
    limits = [body["limit"] for method, _, body, _ in server.asked if method == "POST"]
    assert limits == [50, 50, 20]


def test_the_command_ends_when_a_request_acts_on_no_message(server):
    answer = {"done": 0, "unroutable": 7, "skipped": 0, "examined": 1_000_000, "more": True}
    server.answers["/messages/move"] = (200, json.dumps(answer).encode())
    server.told = (200, b'{"messages_ready": 120}')
    result = leveret(server, "queue", "move", "q", "--exchange", "e", "--all")
    assert (result.exit_code, "7 messages left in place" in result.stderr) == (1, True)


def test_a_broker_that_cannot_do_it_is_named(server):
    server.answers["/messages/delete"] = (405, b"")
    server.told = (200, b'{"messages_ready": 1}')
    result = leveret(server, "queue", "delete-messages", "q", "--all")
    assert (result.exit_code, "this needs leveret" in result.stderr) == (1, True)
