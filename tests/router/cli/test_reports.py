"""The line that a command prints after a change, and ``--quiet``."""

import pytest

from leveret import __version__
from tests.router.cli.conftest import leveret


def declare(broker):
    """A queue with two messages, an exchange, and a binding between them."""
    broker("queue", "declare", "q")
    broker("exchange", "declare", "e", "--type", "topic")
    broker("binding", "declare", "e", "q", "k")
    for _ in range(2):
        broker("publish", "", "q", "x")


@pytest.fixture
def prepared(broker):
    declare(broker)
    yield broker
    broker.run("exchange", "delete", "e")
    broker.run("user", "delete", "ada")
    broker.run("vhost", "delete", "v", "--yes")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("queue declare new", "queue 'new' in '/': declared"),
        ("queue declare q", "queue 'q' in '/': existed already"),
        ("queue purge q", "queue 'q' in '/': purged of 2 messages"),
        ("queue delete q", "queue 'q' in '/': deleted, with 2 messages"),
        ("exchange declare e --type topic", "exchange 'e' in '/': existed already"),
        ("exchange delete e", "exchange 'e' in '/': deleted, with 1 binding"),
        ("binding declare e q k", "queue 'q' in '/': already bound to exchange 'e' with key 'k'"),
        ("binding declare e q l", "queue 'q' in '/': bound to exchange 'e' with key 'l'"),
        ("binding delete e q k", "queue 'q' in '/': unbound from exchange 'e', key 'k'"),
        ("policy declare p ^x max-length:=5 overflow=reject-publish", "policy 'p' in '/': set"),
        ("user declare ada --no-password", "user 'ada': created"),
        ("vhost declare v", "virtual host 'v': created"),
        (
            "permission set guest --configure .* --write .* --read .*",
            "permissions of user 'guest' in '/': set",
        ),
        ("connection close --user nobody", "0 connections closed"),
        ("stream create s --max-age 7D", "stream 's' in '/': created"),
        ("stream create-super s --partitions 2", "super stream 's' in '/': 2 partitions: s-0, s-1"),
    ],
)
def test_a_change_is_reported_in_one_line_without_quiet(prepared, command, said):
    assert prepared(*command.split()) == said + "\n"
    for undo in ("queue delete q", "queue delete new", "exchange delete e", "user delete ada"):
        prepared.run(*undo.split())
    prepared.run("exchange", "delete", "s")
    declare(prepared)
    assert prepared(*command.split(), "--quiet") == ""


def test_deletions_are_reported(broker):
    broker("policy", "declare", "p", "^x", "max-length:=5", "overflow=reject-publish")
    broker("user", "declare", "ada", "--no-password")
    broker("permission", "set", "ada")
    broker("vhost", "declare", "v")
    assert broker("policy", "delete", "p") == "policy 'p' in '/': deleted\n"
    assert broker("permission", "delete", "ada") == "permissions of user 'ada' in '/': deleted\n"
    assert broker("user", "delete", "ada") == "user 'ada': deleted\n"
    assert broker("vhost", "delete", "v", "--yes") == "virtual host 'v': deleted, with 0 messages\n"


def test_purge_reports_unacknowledged_messages(server):
    server.told = (200, b'{"messages_ready": 1, "messages_unacknowledged": 4}')
    purged = leveret(server, "queue", "purge", "q")
    assert purged.stdout == "queue 'q' in '/': purged of 1 message; 4 more are unacknowledged\n"


def test_streams_are_listed_and_shown(broker):
    broker("stream", "create", "s")
    broker("queue", "declare", "q")
    broker("publish", "", "s", "x")
    assert [row["name"] for row in broker.json("stream", "list")] == ["s"]
    shown = broker("stream", "show", "s")
    assert "next_offset: 1\n" in shown
    assert broker.json("stream", "show", "s")["messages"] == 1
    assert "there is no stream 'q'" in broker.run("stream", "show", "q").stderr


def test_the_broker_is_called_by_its_own_name(broker):
    for command in (("status",), ("overview",), ("top", "--once")):
        heading = f"leveret {__version__} (speaks to clients as RabbitMQ 3.13.7), cluster "
        assert broker(*command).startswith(heading)
