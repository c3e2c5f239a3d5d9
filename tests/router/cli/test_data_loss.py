"""Policies and queue arguments that delete something: what is warned of, and when somebody is asked."""

import json

import pytest

from router.cli.manage.data_loss import describe_loss
from tests.router.cli.conftest import leveret

QUEUES = [
    {"name": "jobs", "type": "classic", "messages": 12, "messages_ready": 12},
    {"name": "jobs.q", "type": "quorum", "messages": 3, "messages_ready": 2},
    {"name": "other", "type": "classic", "messages": 100, "messages_ready": 100},
]


@pytest.fixture
def queues(server):
    server.answers["/api/queues/"] = (200, json.dumps(QUEUES).encode())
    return server


def changes(server):
    return [method for method, *_ in server.asked if method != "GET"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"expires": 86_400_000}, "expires=86400000 deletes a queue with its messages when for 1d it had no"),
        ({"message-ttl": 60_000}, "messages that have waited for 1m"),
        ({"message-ttl": 0}, "messages that have waited for 0d"),
        (
            {"max-length": 5},
            "the oldest messages of a queue beyond 5 messages; one with overflow=reject-publish",
        ),
        ({"max-length-bytes": 5}, "the oldest messages of a queue beyond 5 bytes"),
        ({"overflow": "drop-head"}, "the oldest messages of a queue at its length limit"),
        ({"delivery-limit": 3}, "a message of a quorum queue that is returned more than 3 times"),
        ({"max-age": "7D"}, "deletes messages of a stream that are older than that"),
    ],
)
def test_what_deletes_is_told_in_words(settings, words):
    (said,) = describe_loss(settings)
    assert words in said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dead-letter-exchange": "d"},
        {"max-length": 5, "overflow": "reject-publish"},
        {"max-length-bytes": 5, "overflow": "reject-publish-dlx"},
        {"max-length": "many", "expires": True},  # the broker refuses these
    ],
)
def test_what_deletes_nothing_is_not_warned_of(settings):
    assert list(describe_loss(settings)) == []


@pytest.mark.parametrize("operator", [(), ("--operator",)])
def test_expires_is_not_set_unasked(queues, operator):
    command = ("policy", "declare", "idle", "^jobs", "expires:=86400000", *operator)
    refused = leveret(queues, *command)
    assert (refused.exit_code, changes(queues)) == (2, [])
    assert "matches 2 existing queues in '/', with 15 messages" in refused.stderr
    assert "--yes is needed" in refused.stderr
    assert leveret(queues, *command, "--yes").exit_code == 0
    assert changes(queues) == ["PUT"]


@pytest.mark.parametrize(("answer", "changed"), [("y\n", ["PUT"]), ("n\n", []), ("\n", [])])
def test_a_terminal_is_asked(queues, monkeypatch, answer, changed):
    monkeypatch.setattr("router.cli.manage.common._can_ask", lambda: True)
    result = leveret(queues, "policy", "declare", "idle", "^jobs", "expires:=1000", given=answer)
    assert "Set the policy 'idle' at http://127.0.0.1" in result.stderr
    assert changes(queues) == changed


def test_a_limit_that_deletes_messages_now_is_not_set_unasked(queues):
    command = ("policy", "declare", "short", "^jobs", "max-length:=10")
    refused = leveret(queues, *command)
    assert (refused.exit_code, changes(queues)) == (2, [])
    assert "2 messages of them are beyond the limit, and are deleted at once" in refused.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("max-length:=12",),
        ("max-length:=10", "--apply-to", "quorum_queues"),
        ("max-length:=10", "overflow=reject-publish"),
        ("message-ttl:=1000",),
        ("expires:=1000", "--apply-to", "exchanges"),
    ],
    ids=" ".join,
)
def test_other_limits_are_set_with_a_warning_at_most(queues, options):
    assert leveret(queues, "policy", "declare", "p", "^jobs", *options).exit_code == 0
    assert changes(queues) == ["PUT"]


@pytest.mark.parametrize(
    ("own", "policy", "operator", "asked"),
    [
        ("reject-publish", None, False, False),
        ("reject-publish", None, True, False),
        ("drop-head", "reject-publish", True, True),
        (None, "reject-publish", True, False),
        (None, "reject-publish", False, True),  # the policy that says so gives way to this one
        (None, None, True, True),
    ],
)
def test_a_queue_that_rejects_loses_nothing_at_a_limit(server, own, policy, operator, asked):
    arguments = {} if own is None else {"x-overflow": own}
    effective = {} if policy is None else {"overflow": policy}
    queue = QUEUES[0] | {"arguments": arguments, "effective_policy_definition": effective}
    server.answers["/api/queues/"] = (200, json.dumps([queue]).encode())
    command = ("policy", "declare", "p", "^jobs", "max-length:=10")
    result = leveret(server, *command, *(("--operator",) if operator else ()))
    assert result.exit_code == (2 if asked else 0)


def test_a_policy_that_is_set_already_is_not_asked_about_again(queues):
    policy = {
        "name": "p",
        "pattern": "^jobs",
        "definition": {"expires": 1000},
        "apply-to": "all",
        "priority": 0,
    }
    queues.answers["/api/policies/"] = (200, json.dumps([{"vhost": "/", **policy}]).encode())
    again = leveret(queues, "policy", "declare", "p", "^jobs", "expires:=1000")
    assert (again.exit_code, "deletes" in again.stderr) == (0, False)
    assert leveret(queues, "policy", "declare", "p", "^jobs", "expires:=999").exit_code == 2


def test_a_queue_is_declared_with_a_warning(broker):
    done = broker.run(
        "queue", "declare", "q", "--argument", "x-expires:=60000", "--argument", "x-max-length:=5"
    )
    assert (done.exit_code, done.stdout) == (0, "queue 'q' in '/': declared\n")
    assert done.stderr.count("leveret: queue 'q': ") == 2


def test_a_real_policy_tells_what_it_matches(broker):
    broker("queue", "declare", "jobs.a")
    broker("queue", "declare", "other")
    for _ in range(3):
        broker("publish", "", "jobs.a", "x")
    done = broker.run("policy", "declare", "p", r"^jobs\.", "max-length:=1")
    assert (done.exit_code, "matches 1 existing queue in '/', with 3 messages" in done.stderr) == (2, True)
    assert "2 messages of them are beyond the limit" in done.stderr
    assert broker.json("queue", "show", "jobs.a")["messages"] == 3
    broker("policy", "declare", "p", r"^jobs\.", "max-length:=1", "--yes")
    assert broker.json("queue", "show", "jobs.a")["messages"] == 1
