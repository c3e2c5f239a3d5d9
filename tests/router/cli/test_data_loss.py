"""Warnings and questions about policies and queue arguments that delete messages or queues."""

import json

import pytest

from leveret.router.cli.manage.data_loss import describe_loss
from tests.router.cli.conftest import leveret

QUEUES = [
    {"vhost": "/", "name": "jobs", "type": "classic", "messages": 12, "messages_ready": 12},
    {"vhost": "/", "name": "jobs.q", "type": "quorum", "messages": 3, "messages_ready": 2},
    {"vhost": "/", "name": "other", "type": "classic", "messages": 100, "messages_ready": 100},
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
        ({"expires": 86_400_000}, "expires=86400000 deletes a queue with its messages after 1d with no"),
        ({"message-ttl": 60_000}, "messages that have waited for 1m"),
        ({"message-ttl": 0}, "messages that no consumer takes at once"),
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
def test_settings_that_delete_are_described(settings, words):
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
    monkeypatch.setattr("leveret.router.cli.manage.common._can_ask", lambda: True)
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


def test_the_warning_of_a_policy_counts_its_queues_and_messages(broker):
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


# -- every way in which a queue may lose something now -------------------------------------------------------


def row(kind="classic", own=None, **fields):
    """A queue of ten messages with 1,000 bytes, as the API lists it."""
    arguments = {} if own is None else own
    counts = {"messages": 10, "messages_ready": 10, "message_bytes_ready": 1000}
    return {"vhost": "/", "name": "jobs", "type": kind, "arguments": arguments, **counts, **fields}


DROPPING, REFUSING = {"x-overflow": "drop-head"}, {"x-overflow": "reject-publish"}


@pytest.mark.parametrize(
    ("settings", "queue", "told"),
    [
        (("max-length:=0",), row(), "10 messages of them are beyond the limit"),
        (("max-length-bytes:=250",), row(), "750 bytes of them are beyond the limit"),
        (("max-length-bytes:=1000",), row(), None),
        (("max-length-bytes:=250",), row("quorum"), "750 bytes of them"),
        (("max-length-bytes:=250",), row(own=REFUSING), None),
        (("max-length:=3", "overflow=reject-publish"), row(), None),
        (("max-length:=3", "overflow=reject-publish"), row(own=DROPPING), "7 messages of them"),
        (("max-length-bytes:=3", "overflow=reject-publish"), row(own=DROPPING), "997 bytes of them"),
        (("max-length:=3", "overflow=reject-publish-dlx"), row(), None),
        (("max-length:=3", "overflow=reject-publish-dlx"), row("quorum"), "7 messages of them"),
        (("max-length:=3", "overflow=reject-publish"), row("quorum"), None),
        (("max-length:=3",), row("stream"), None),
        (("max-age=1h",), row("stream"), "10 messages of them are in streams"),
        (("max-age=1h",), row("stream", messages=0), None),
        (("max-age=1h",), row(), None),
        (("max-length-bytes:=1", "overflow=reject-publish"), row("stream"), "10 messages of them are in"),
        (("max-length-bytes:=999",), row("stream"), "10 messages of them are in streams"),
        (("max-length-bytes:=1000",), row("stream"), None),
        (("max-length-bytes:=1000",), row("stream", message_bytes_ready=None), "10 messages of them are in"),
        (("message-ttl:=1",), row(), None),
        (("delivery-limit:=0",), row("quorum"), None),
        (("overflow=drop-head",), row(own={"x-max-length": 4}), "6 messages of them"),
        (("expires:=1000",), row(), "1 existing queue"),
    ],
)  # fmt: skip
def test_the_operator_is_asked_if_a_queue_loses_something_now(server, settings, queue, told):
    server.answers["/api/queues/"] = (200, json.dumps([queue]).encode())
    result = leveret(server, "policy", "declare", "p", "^jobs", *settings)
    assert (result.exit_code, changes(server)) == ((0, ["PUT"]) if told is None else (2, []))
    assert told is None or told in result.stderr


def test_the_warning_names_queues_whose_own_overflow_drops_messages(server):
    server.answers["/api/queues/"] = (200, json.dumps([row(own=DROPPING)]).encode())
    result = leveret(server, "policy", "declare", "p", "^jobs", "max-length:=50", "overflow=reject-publish")
    assert result.exit_code == 0
    assert "1 queue will drop the oldest messages at the limit despite the policy's overflow" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"x-overflow": "reject-publish-dlx"}, "quorum", 1),
        ({"x-overflow": "reject-publish-dlx"}, "classic", 0),
        ({"x-overflow": "reject-publish"}, "quorum", 0),
    ],
)
def test_a_queue_type_that_ignores_its_overflow_is_warned_of(broker, arguments, kind, told):
    given = [text for name, value in arguments.items() for text in ("--argument", f"{name}={value}")]
    done = broker.run("queue", "declare", "q", "--type", kind, "--argument", "x-max-length:=5", *given)
    assert (done.exit_code, done.stderr.count("max-length=5 deletes")) == (0, told)


# -- policies that come into effect because another one goes -------------------------------------------------


@pytest.fixture
def covered(broker):
    """A queue with three messages, and a policy that keeps two others from it."""
    broker("queue", "declare", "jobs")
    for _ in range(3):
        broker("publish", "", "jobs", "x")
    broker("policy", "declare", "keep", "^jobs$", "queue-mode=lazy", "--priority", "9")
    broker("policy", "declare", "idle", "^jobs", "expires:=100000", "--priority", "5", "--yes")
    broker("policy", "declare", "short", ".*", "max-length:=1", "--priority", "1", "--yes")
    return broker


def applied(broker):
    return broker.json("queue", "show", "jobs")["policy"]


def test_deleting_a_policy_is_asked_about_if_another_deletes_queues_then(covered):
    refused = covered.run("policy", "delete", "keep")
    assert (refused.exit_code, applied(covered)) == (2, "keep")
    assert "the policy 'idle' will apply to 1 existing queue in '/', with 3 messages" in refused.stderr
    assert "expires=100000 deletes a queue with its messages" in refused.stderr
    covered("policy", "delete", "keep", "--yes")
    assert applied(covered) == "idle"
    refused = covered.run("policy", "delete", "idle")
    assert (refused.exit_code, "2 messages of them are beyond the limit" in refused.stderr) == (2, True)
    covered("policy", "delete", "short")  # which nothing was under
    covered("policy", "delete", "idle")  # nothing comes in its place
    assert covered.run("policy", "delete", "idle").exit_code == 1


@pytest.mark.parametrize("change", [("^other$", "9"), ("^jobs$", "4")], ids=["pattern", "priority"])
def test_a_policy_that_leaves_its_queues_to_another_is_asked_about(covered, change):
    pattern, priority = change
    refused = covered.run("policy", "declare", "keep", pattern, "queue-mode=lazy", "--priority", priority)
    assert (refused.exit_code, applied(covered)) == (2, "keep")
    assert "the policy 'idle' will apply to 1 existing queue" in refused.stderr


def test_a_policy_that_another_one_covers_deletes_nothing_now(covered):
    done = covered.run("policy", "declare", "below", "^jobs", "max-length:=1", "--priority", "2")
    assert (done.exit_code, applied(covered)) == (0, "keep")


# -- definitions ---------------------------------------------------------------------------------------------


def document(**policy):
    entry = {"name": "p", "pattern": "^jobs", "apply-to": "all", "priority": 0, **policy}
    operator = {key: value for key, value in entry.items() if key != "name"}
    return {
        "policies": {"policies": [{"vhost": "/", **entry}]},
        "operator policies": {
            "parameters": [{"component": "operator_policy", "vhost": "/", "name": "p", "value": operator}]
        },
    }


@pytest.mark.parametrize("kind", ["policies", "operator policies"])
@pytest.mark.parametrize("definition", [{"expires": 100_000}, {"max-length": 1}, {"max-length-bytes": 1}])
def test_an_import_of_policies_that_delete_now_is_asked_about(broker, kind, definition):
    broker("queue", "declare", "jobs")
    for _ in range(3):
        broker("publish", "", "jobs", "x")
    text = json.dumps(document(definition=definition)[kind])
    refused = broker.run("definitions", "import", given=text)
    assert (refused.exit_code, broker.json("queue", "show", "jobs")["messages"]) == (2, 3)
    assert "will apply to 1 existing queue in '/', with 3 messages" in refused.stderr
    assert broker.run("definitions", "import", "--yes", given=text).exit_code == 0
    assert broker.run("definitions", "import", given=text).exit_code == 0  # nothing is new in it


def test_an_import_without_existing_queues_is_not_asked_about(broker):
    text = json.dumps(document(definition={"expires": 100_000})["policies"])
    assert broker.run("definitions", "import", given=text).exit_code == 0


@pytest.mark.parametrize("policies", [None, 5, [5, {"name": 3}, {"name": "p", "definition": []}]])
def test_an_import_leaves_malformed_policies_to_the_broker(broker, policies):
    broker("queue", "declare", "jobs")
    result = broker.run("definitions", "import", given=json.dumps({"policies": policies}))
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)
