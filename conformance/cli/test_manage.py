"""The commands over the management API, against leveret's and RabbitMQ's."""

import json
import time
from collections.abc import Iterator

import pika
import pytest

from leveret.router.cli.api import ObjectNotFound

pytestmark = pytest.mark.usefixtures("api")


@pytest.fixture
def vhost(leveret, unique) -> Iterator[str]:
    """A virtual host with a name that has to be quoted."""
    name = f"{unique}/ü"
    leveret("vhost", "declare", name, "--description", "for a test")
    yield name
    leveret("vhost", "delete", name, "--yes")


@pytest.fixture
def listed(leveret):
    """The objects that a listing shows as JSON."""
    return lambda *args: json.loads(leveret(*args, "--format", "json"))


@pytest.fixture
def refused(leveret):
    """What a command that is refused says."""

    def refused(*args, status=1, given=""):
        done = leveret.run(*args, given=given)
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stderr.decode()

    return refused


def cells(printed):
    """The rows of a table, without its heading."""
    return [line.split() for line in printed.splitlines()[1:]]


# -- topology ------------------------------------------------------------------------------------------------


def test_queues_are_declared_listed_shown_purged_and_deleted(leveret, listed, vhost, channel, broker):
    at = ("--vhost", vhost)
    leveret("queue", "declare", "a/b", "--argument", "x-max-length:=5", *at)
    leveret("queue", "declare", "plain", "--transient", "--auto-delete", *at)
    leveret("queue", "declare", "q", "--type", "quorum", *at)
    rows = {row["name"]: row for row in listed("queue", "list", *at)}
    assert rows.keys() == {"a/b", "plain", "q"}
    assert (rows["a/b"]["durable"], rows["a/b"]["arguments"]) == (True, {"x-max-length": 5})
    assert (rows["plain"]["durable"], rows["plain"]["auto_delete"]) == (False, True)
    assert rows["q"]["type"] == "quorum"
    table = cells(leveret("queue", "list", *at))
    assert [row[1:4] for row in table] == [
        ["a/b", "classic", "D"],
        ["plain", "classic", "AD"],
        ["q", "quorum", "D"],
    ]
    shown = leveret("queue", "show", "a/b", *at)
    assert "name: a/b\n" in shown
    assert 'arguments: {"x-max-length": 5}\n' in shown
    leveret("publish", "", "a/b", "x", *at)
    leveret("queue", "purge", "a/b", *at)
    assert leveret.run("get", "a/b", "--take", *at).returncode == 1
    for name in rows:
        leveret("queue", "delete", name, *at)
    assert listed("queue", "list", *at) == []


def test_a_queue_is_deleted_under_conditions(leveret, refused, queue, channel):
    channel.basic_publish("", queue, b"x")
    assert "refused (400)" in refused("queue", "delete", queue, "--if-empty")
    leveret("queue", "purge", queue)
    leveret("queue", "delete", queue, "--if-empty", "--if-unused")


def test_exchanges_are_declared_listed_shown_and_deleted(leveret, listed, refused, vhost):
    at = ("--vhost", vhost)
    leveret("exchange", "declare", "e", "--type", "topic", "--argument", "alternate-exchange=amq.fanout", *at)
    leveret("exchange", "declare", "inner", "--type", "fanout", "--internal", "--transient", *at)
    rows = {row["name"]: row for row in listed("exchange", "list", *at)}
    assert (rows["e"]["type"], rows["e"]["arguments"]) == ("topic", {"alternate-exchange": "amq.fanout"})
    assert (rows["inner"]["internal"], rows["inner"]["durable"]) == (True, False)
    assert "type: topic\n" in leveret("exchange", "show", "e", *at)
    leveret("binding", "declare", "e", "inner", "k", "--to", "exchange", *at)
    assert "refused (400)" in refused("exchange", "delete", "e", "--if-unused", *at)
    leveret("exchange", "delete", "e", *at)
    assert "there is no exchange 'e' in virtual host" in refused("exchange", "show", "e", *at)


def test_bindings_are_declared_listed_and_deleted(leveret, listed, refused, vhost):
    at = ("--vhost", vhost)
    leveret("queue", "declare", "q", *at)
    leveret("binding", "declare", "amq.topic", "q", "a.#", *at)
    leveret("binding", "declare", "amq.headers", "q", "--argument", "x-match=any", "--argument", "n:=5", *at)
    leveret("binding", "declare", "amq.topic", "amq.fanout", "b", "--to", "exchange", *at)
    rows = listed("binding", "list", "--source", "amq.topic", *at)
    assert sorted((row["destination"], row["routing_key"]) for row in rows) == [
        ("amq.fanout", "b"),
        ("q", "a.#"),
    ]
    assert "is not bound" in refused("binding", "delete", "amq.headers", "q", *at)
    leveret("binding", "delete", "amq.headers", "q", "--argument", "x-match=any", "--argument", "n:=5", *at)
    leveret("binding", "delete", "amq.topic", "q", "a.#", *at)
    leveret("binding", "delete", "amq.topic", "amq.fanout", "b", "--to", "exchange", *at)
    left = listed("binding", "list", *at)
    assert [row["source"] for row in left] == [""]
    assert "there is no exchange 'none' or no queue 'q'" in refused("binding", "declare", "none", "q", *at)


def test_what_is_not_there_is_named_with_what_to_try(refused, unique):
    assert refused("queue", "show", unique) == (
        f"leveret: there is no queue {unique!r} in virtual host '/'; `leveret queue list` shows them\n"
    )
    assert "there is no virtual host" in refused("queue", "list", "--vhost", unique)
    assert "there is no vhost" in refused("queue", "declare", "q", "--vhost", unique)


def test_a_declaration_that_does_not_fit_is_refused_with_the_reason(leveret, refused, queue):
    said = refused("queue", "declare", queue, "--transient")
    assert "inequivalent arg 'durable'" in said


# -- virtual hosts, users, policies --------------------------------------------------------------------------


def test_virtual_hosts_keep_what_is_not_given(leveret, listed, vhost):
    leveret("vhost", "declare", vhost, "--tags", "one,two", "--max-queues", "5", "--max-connections", "7")
    leveret("vhost", "declare", vhost, "--tracing")
    found = listed("vhost", "show", vhost)
    assert (found["description"], found["tags"], found["tracing"]) == ("for a test", ["one", "two"], True)
    assert found["limits"] == {"max-queues": 5, "max-connections": 7}
    leveret("vhost", "declare", vhost, "--no-tracing", "--max-queues", "-1")
    found = listed("vhost", "show", vhost)
    assert (found["tracing"], found["limits"]) == (False, {"max-connections": 7})
    assert vhost in [row["name"] for row in listed("vhost", "list")]


def test_a_virtual_host_is_not_deleted_by_accident(refused, vhost):
    assert "--yes is needed" in refused("vhost", "delete", vhost, status=2)


def test_users_are_made_changed_and_deleted(leveret, listed, refused, unique, broker):
    url = f"amqp://{unique}:first@{broker.host}:{broker.port}/%2F"
    leveret("user", "declare", unique, "--tags", "management", "--password-stdin", given="first\n")
    assert listed("user", "show", unique)["tags"] == ["management"]
    assert (
        "access" in refused("get", "q", "--take", "--url", url).lower()
    )  # it may log in, and enter no virtual host
    leveret("permission", "set", unique, "--read", ".*", "--configure", "^x")
    assert "no queue 'none" in refused("get", "none-such", "--take", "--url", url)
    (row,) = listed("permission", "list", "--user", unique)
    assert (row["vhost"], row["configure"], row["write"], row["read"]) == ("/", "^x", "", ".*")
    leveret("permission", "set", unique, "--topic", "amq.topic", "--write", "^a")
    (row,) = listed("permission", "list", "--topic", "--user", unique)
    assert (row["exchange"], row["write"], row["read"]) == ("amq.topic", "^a", "")
    assert "management" in leveret("user", "show", unique)
    leveret("permission", "delete", unique)
    leveret("permission", "delete", unique, "--topic")
    assert listed("permission", "list", "--user", unique) == []
    leveret("user", "declare", unique, "--no-password", "--tags", "")
    assert "Login was refused" in refused("get", "q", "--take", "--url", url)
    leveret("user", "delete", unique)
    assert "there is no user" in refused("user", "show", unique)


def test_a_user_needs_a_password(refused, unique):
    assert "a password for" in refused("user", "declare", unique, status=2)
    assert "the password is empty" in refused("user", "declare", unique, "--password-stdin", given="\n")


def test_permissions_need_a_user_that_is_there(refused, unique):
    assert f"there is no user {unique!r}" in refused("permission", "set", unique)


@pytest.mark.parametrize("operator", [(), ("--operator",)])
def test_policies_are_set_listed_shown_and_deleted(leveret, listed, refused, vhost, operator):
    at = (*operator, "--vhost", vhost)
    definition = ("max-length:=5", "message-ttl:=1000")
    leveret("policy", "declare", "p", "^a", *definition, "--apply-to", "queues", "--priority", "3", *at)
    (row,) = listed("policy", "list", *at)
    assert row == listed("policy", "show", "p", *at)
    assert (row["pattern"], row["apply-to"], row["priority"]) == ("^a", "queues", 3)
    assert row["definition"] == {"max-length": 5, "message-ttl": 1000}
    assert cells(leveret("policy", "list", *at))[0][1:5] == ["p", "^a", "queues", "3"]
    assert "refused (400)" in refused("policy", "declare", "p", "x", "max-length=many", *at)
    assert "neither" in refused("policy", "declare", "p", "x", "max-length", *at, status=2)
    leveret("policy", "delete", "p", *at)
    assert listed("policy", "list", *at) == []


def test_definitions_go_out_and_come_back(leveret, listed, vhost, tmp_path, api):
    try:
        api.get("definitions")
    except ObjectNotFound:
        pytest.skip("this broker's API has no definitions yet")
    at = ("--vhost", vhost)
    leveret("queue", "declare", "q", *at)
    leveret("binding", "declare", "amq.topic", "q", "k", *at)
    file = tmp_path / "definitions.json"
    leveret("definitions", "export", str(file), *at)
    leveret("queue", "delete", "q", *at)
    assert leveret("definitions", "import", str(file), *at) == "imported 1 queue, 1 binding\n"
    assert [row["name"] for row in listed("queue", "list", *at)] == ["q"]
    assert [row["routing_key"] for row in listed("binding", "list", "--source", "amq.topic", *at)] == ["k"]
    whole = json.loads(leveret("definitions", "export"))
    assert vhost in [each["name"] for each in whole["vhosts"]]


def test_what_holds_no_definitions_is_wrong_usage(refused):
    assert "is not JSON" in refused("definitions", "import", status=2, given="{")
    assert "is not a definitions document" in refused("definitions", "import", status=2, given="[]")


# -- clients and the whole -----------------------------------------------------------------------------------


def test_consumers_and_channels_are_listed(leveret, listed, channel, queue, eventually):
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=7)
    tag = channel.basic_consume(queue, lambda *args: None)
    (row,) = eventually(
        lambda: [each for each in listed("consumer", "list") if each["queue"]["name"] == queue], 1
    )
    assert (row["consumer_tag"], row["ack_required"], row["prefetch_count"]) == (tag, True, 7)
    (cell,) = cells(leveret("consumer", "list", "--queue", queue))
    assert cell[:3] == ["/", queue, tag]
    name = row["channel_details"]["name"]

    def confirming():
        rows = listed("channel", "list", "--vhost", "/")
        return [each for each in rows if each["name"] == name and each.get("confirm")]

    (own,) = eventually(confirming, 1)
    assert own["user"] == "guest"
    assert f"name: {name}\n" in leveret("channel", "show", name)


@pytest.mark.slow
def test_a_connection_is_closed_by_its_name_or_its_user(leveret, listed, unique, broker, eventually):
    leveret("user", "declare", unique, "--password-stdin", given="p")
    leveret("permission", "set", unique, "--read", ".*")
    credentials = pika.PlainCredentials(unique, "p")
    made = [
        pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, credentials=credentials))
        for _ in range(2)
    ]

    def own():
        return [row["name"] for row in listed("connection", "list") if row.get("user") == unique]

    names = eventually(own, 2)
    assert f"name: {names[0]}\n" in leveret("connection", "show", names[0])
    leveret("connection", "close", names[0], "--reason", "because")
    assert eventually(own, 1) == names[1:]
    assert leveret("connection", "close", "--user", unique) == "1 connection closed\n"
    eventually(own, 0)
    for each in made:
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
            each.process_data_events(1)
        assert caught.value.reply_code == 320
    leveret("user", "delete", unique)


@pytest.fixture
def eventually():
    """Ask until there are so many: RabbitMQ's management learns of connections some seconds late."""

    def eventually(ask, count):
        deadline = time.monotonic() + 30
        while len(found := ask()) != count:
            assert time.monotonic() < deadline, found
            time.sleep(0.5)
        return found

    return eventually


@pytest.mark.parametrize("command", ["status", "overview"])
def test_the_whole_is_on_one_page(leveret, command):
    lines = leveret(command).splitlines()
    assert [line.split(":")[0] for line in lines[1:5]] == ["messages", "rates", "objects", "listeners"]
    assert lines[5].startswith("node ")
    assert "memory" in lines[5]
    assert json.loads(leveret(command, "--format", "json"))["nodes"][0]["running"] is True


def test_top_shows_the_fullest_queue_first(leveret, channel, queue, unique, eventually):
    other = f"{unique}-fuller"
    channel.queue_declare(other)
    for name in (queue, other, other):
        channel.basic_publish("", name, b"x")

    def rows():
        page = leveret("top", "--once", "--rows", "500").splitlines()
        found = [line.split() for line in page if queue in line]
        return [row[1] for row in found if row[2:3] == ["running"] and row[3] != "0"]

    assert eventually(rows, 2) == [other, queue]
    channel.queue_delete(other)


def test_a_login_that_is_refused_says_what_to_look_at(leveret, broker):
    api = leveret.environ["LEVERET_API"].replace(":guest@", ":hidden@")
    done = leveret.run("queue", "list", "--api", api)
    assert done.returncode == 1
    assert b"the login of user 'guest' was refused" in done.stderr
    assert b"hidden" not in done.stderr


def test_an_api_that_is_not_there_says_what_to_try(leveret):
    done = leveret.run("queue", "list", "--api", "http://u:hidden@127.0.0.1:1")
    assert done.returncode == 1
    assert b"http://127.0.0.1:1: Connection refused" in done.stderr
    assert b"hidden" not in done.stderr
