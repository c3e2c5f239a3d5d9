"""Rows with arguments that an earlier version accepted and that are invalid now."""

import json
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from leveret.protocol.amqp.table import encode_table
from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.table import SEGMENT_MAX
from leveret.router.auth import hash_password
from leveret.router.broker.broker import Broker
from leveret.router.cli import main
from leveret.router.server.broker_lifecycle import populate
from leveret.router.server.main import open_store
from leveret.router.settings import Settings
from leveret.router.vhost.metadata import make_metadata
from tests.router.store.kept import Kept

SIZE = "x-stream-max-segment-size-bytes"
STREAM = {"x-queue-type": "stream"}
OTHERWISE = "restored otherwise than declared"


def rewrite(path, table, arguments, **columns):
    """Give the only row of a table other arguments and other values, as if it had been declared so."""
    changes = {"arguments": encode_table(arguments), **columns}
    with closing(sqlite3.connect(path / "metadata.sqlite")) as connection:
        names = ", ".join(f"{name} = ?" for name in changes)
        cursor = connection.execute(f"UPDATE {table} SET {names}", tuple(changes.values()))
        connection.commit()
        assert cursor.rowcount == 1


@pytest.fixture
def path(quick_path):
    """A directory with a queue ``q`` of one message, an exchange ``x``, and a binding of the two."""
    kept = Kept(quick_path)
    exchange = kept.node.vhost.declare_exchange("x", "direct", durable=True)
    kept.node.vhost.bind(exchange, kept.node.queue("q", durable=True), "key")
    kept.publish("m")
    kept.stop()
    return quick_path


def start(path):
    """A broker on a directory, and what it warned of."""
    with capture_logs() as logged:
        kept = Kept(path)
    return kept, [each for each in logged if each["log_level"] in ("warning", "error")]


def test_a_segment_size_beyond_the_largest_is_replaced_by_the_largest(quick_path):
    kept = Kept(quick_path)
    kept.node.queue("s", durable=True, queue_type="stream")
    kept.publish("m", queue="s")
    kept.stop()
    arguments = {**STREAM, SIZE: SEGMENT_MAX + 1}
    rewrite(quick_path, "queues", arguments)
    kept, (warning,) = start(quick_path)
    stream = kept.node.vhost.queues["s"]
    assert stream.settings.stream_segment_size == SEGMENT_MAX
    assert (stream.first, stream.committed) == (0, 1)
    text = f"its {SIZE} of {SEGMENT_MAX + 1} is replaced by the largest size, {SEGMENT_MAX}"
    assert warning == {
        "event": OTHERWISE, "log_level": "warning", "what": "queue 's' in vhost '/'", "error": text
    }  # fmt: skip
    assert kept.node.vhost.declare_queue("s", durable=True, arguments=arguments) is stream
    with pytest.raises(PreconditionFailed, match="Exceeded max value"):
        kept.node.vhost.declare_queue("other", durable=True, arguments=arguments)
    kept.stop()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x-message-deduplication": "yes"}, "{unacceptable_type,longstr}"),
        ({"x-message-deduplication": True, "x-cache-size": 0}, "{value_zero,0}"),
        ({"x-message-deduplication": True, "x-cache-ttl": "1h"}, "expected integer"),
        ({"x-message-deduplication": True, "x-deduplication-header": 1}, "{unacceptable_type,signedint}"),
    ],
)
def test_an_exchange_with_invalid_arguments_is_restored_without_a_cache(path, arguments, says):
    rewrite(path, "exchanges", arguments)
    kept, (warning,) = start(path)
    exchange = kept.node.vhost.exchanges["x"]
    assert exchange.deduplication is exchange.log is None
    error = warning.pop("error")
    assert error.startswith("its arguments have no effect: invalid arg 'x-")
    assert says in error
    assert warning == {"event": OTHERWISE, "log_level": "warning", "what": "exchange 'x' in vhost '/'"}
    for _ in range(2):
        kept.client.publish("again", "key", "x", headers={"x-deduplication-header": 1}, delivery_mode=2)
    assert kept.node.contents() == ["m", "again", "again"]
    with pytest.raises(PreconditionFailed, match="invalid arg 'x-"):
        kept.node.vhost.declare_exchange("other", "direct", durable=True, arguments=arguments)
    kept.node.vhost.delete_exchange(exchange)
    kept.stop()
    kept, warned = start(path)
    assert "x" not in kept.node.vhost.exchanges
    assert warned == []
    kept.stop()


def test_an_exchange_with_valid_arguments_is_restored_with_its_cache(path):
    rewrite(path, "exchanges", {"x-message-deduplication": True})
    kept, warned = start(path)
    assert warned == []
    assert kept.node.vhost.exchanges["x"].deduplication is not None
    kept.stop()


WHOSE = {
    "queues": "queue 'q' in vhost '/'",
    "exchanges": "exchange 'x' in vhost '/'",
    "bindings": "binding of exchange 'x' to queue 'q' in vhost '/' with routing key 'key'",
}


def check(path, *options):
    return CliRunner().invoke(main, ["store", "check", str(path), *options], prog_name="leveret")


@pytest.mark.parametrize(
    ("table", "arguments", "says"),
    [
        ("queues", {**STREAM, SIZE: SEGMENT_MAX + 1}, "queue 'q' in vhost '/': its x-stream"),
        (
            "exchanges",
            {"x-message-deduplication": 1},
            "exchange 'x' in vhost '/': its arguments have no effect",
        ),
    ],
)
def test_a_check_warns_of_what_is_brought_back_otherwise(path, table, arguments, says):
    rewrite(path, table, arguments)
    result = check(path)
    assert result.exit_code == 0, result.output
    assert f"warning: {path / 'metadata.sqlite'}, offset 0: {says}" in result.stdout


REFUSED = [
    ("queues", {"x-max-length": -1}, {}, "{value_negative,-1}"),
    ("queues", {"x-queue-type": "other"}, {}, "unsupported queue type 'other'"),
    ("queues", {**STREAM, "x-max-age": 5}, {}, "{unacceptable_type,signedint}"),
    ("queues", STREAM, {"auto_delete": 1}, "invalid property 'auto-delete'"),
    ("exchanges", {}, {"type": b"x-gone"}, "unknown exchange type 'x-gone'"),
    ("exchanges", {"hash-property": "color"}, {"type": b"x-consistent-hash"}, "Unsupported property: color"),
    ("bindings", {"x-selector": "("}, {}, "invalid arg 'x-selector'"),
]


@pytest.mark.parametrize(("table", "arguments", "columns", "why"), REFUSED)
def test_a_broker_starts_without_a_row_whose_arguments_are_refused(path, table, arguments, columns, why):
    rewrite(path, table, arguments, **columns)
    checked = check(path)
    kept, errors = start(path)
    assert errors[0]["event"] == "not restored"
    assert errors[0]["what"] == WHOSE[table]
    assert why in errors[0]["error"]
    assert "PRECONDITION_FAILED" not in errors[0]["error"]
    assert f"'leveret store check {path}'" in errors[0]["advice"]
    # A check says the same, row by row.
    assert checked.exit_code == 1
    told = [line.partition("offset 0: ")[2] for line in checked.stdout.splitlines() if "refused: " in line]
    assert told == [f"{each['what']} cannot be restored: {each['error']}" for each in errors]
    vhost = kept.node.vhost
    assert ("q" in vhost.queues, "x" in vhost.exchanges) == (table != "queues", table != "exchanges")
    bindings = sum(len(exchange.bindings) for exchange in vhost.exchanges.values())
    assert bindings == 0
    kept.stop()


def dump(path):
    result = CliRunner().invoke(main, ["store", "dump", str(path)], prog_name="leveret")
    assert result.exit_code == 0, result.output
    return [json.loads(line)["body"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize("arguments", [{"x-max-length": -1}, None], ids=["refused", "undecodable"])
def test_messages_of_a_queue_that_is_not_restored_stay_until_its_row_is_removed(path, arguments):
    kept = Kept(path)
    kept.node.queue("other", durable=True)
    kept.stop()
    good = encode_table({})
    spoil = encode_table(arguments) if arguments is not None else b"\0\0\0\x05spoil"
    change(path, "UPDATE queues SET arguments = ? WHERE name = ?", spoil, b"q")
    for _ in range(3):  # its journal file goes, and the message moves
        kept, errors = start(path)
        assert [each["event"] for each in errors] == ["not restored"] * 2  # with its binding
        assert "q" not in kept.node.vhost.queues
        with pytest.raises(PreconditionFailed, match="is kept and cannot be restored: "):
            kept.node.vhost.declare_queue("q", durable=True)
        kept.publish(*("x" * 1000 for _ in range(10)), queue="other")
        kept.take(10, queue="other")
        kept.stop()
        assert dump(path) == ["m"]
    change(path, "UPDATE queues SET arguments = ? WHERE name = ?", good, b"q")
    kept, errors = start(path)
    assert errors == []
    assert kept.get(no_ack=False)[1].message.body == b"m"
    kept.stop()
    change(path, "UPDATE queues SET arguments = ? WHERE name = ?", spoil, b"q")
    result = check(path, "--repair")
    assert result.exit_code == 0, result.output
    assert "removed: queue 'q' in vhost '/' cannot be restored: " in result.stdout
    assert dump(path) == []
    kept, errors = start(path)
    assert errors == []
    kept.node.vhost.declare_queue("q", durable=True)
    kept.stop()


def test_messages_of_a_stream_that_is_not_restored_stay(quick_path):
    kept = Kept(quick_path)
    kept.node.queue("s", durable=True, queue_type="stream")
    kept.publish("one", "two", queue="s")
    kept.stop()
    rewrite(quick_path, "queues", {**STREAM, "x-max-age": "never"})
    for _ in range(3):
        kept, (error,) = start(quick_path)
        assert "invalid_max_age" in error["error"]
        kept.stop()
        assert dump(quick_path) == ["one", "two"]
    rewrite(quick_path, "queues", STREAM)
    kept, errors = start(quick_path)
    assert errors == []
    assert kept.node.vhost.queues["s"].committed == 2
    kept.stop()


# -- any row ------------------------------------------------------------------------------------------------

LONG = b"n" * 256
DEEP = b"{}"
for _ in range(200):
    DEEP = b'{"d":%b}' % DEEP
# What earlier versions took, or a fault has made of a row: the statement, and what of it is told.
SPOILED = [
    ("UPDATE queues SET name = ?", (LONG,), "queue should be less than 255 bytes"),
    ("UPDATE queues SET name = ?", (b"",), "it has no name"),
    ("UPDATE queues SET name = 5", (), "stands where a text should be"),
    ("UPDATE queues SET arguments = ?", (b"\0\0\0\x05\x01kA\0\0",), "truncated field table"),
    ("UPDATE exchanges SET name = ?", (LONG,), "exchange should be less than 255 bytes"),
    ("UPDATE exchanges SET name = ?", (b"amq.topic",), "every virtual host has an exchange of this name"),
    ("UPDATE bindings SET routing_key = ?", (LONG,), "routing_key should be less than 255 bytes"),
    ("UPDATE vhosts SET metadata = ?", (b"[",), "Expecting value"),
    ("UPDATE vhosts SET name = ?", (LONG,), "virtual host name should be less than 255 bytes"),
    ("UPDATE users SET name = ?", (LONG,), "user name should be less than 255 bytes"),
    ("UPDATE users SET limits = ?", (b'{"max-channels": "many"}',), "max-channels should be a number"),
    ("UPDATE users SET tags = ?", (b"[1]",), "a tag is not a text"),
    ("UPDATE permissions SET configure = ?", (b"(",), "regular expression"),
    ("UPDATE permissions SET user = ?", (b"nobody",), "there is no user 'nobody'"),
    ("UPDATE topic_permissions SET write = ?", (b"\xff",), "can't decode byte 0xff"),
    ("UPDATE policies SET definition = ?", (b'{"message-ttl": 1%b}' % (b"0" * 30),), "64 bits"),
    ("UPDATE policies SET definition = ?", (b'{"expires": 315360000001}',), "not a valid queue expiry"),
    ("UPDATE policies SET definition = ?", (DEEP,), "nested more than 128 deep"),
    ("UPDATE policies SET definition = ?", (DEEP * 0 + b"[" * 100_000,), "RecursionError"),
    ("UPDATE policies SET priority = ?", (b"1" * 5000,), "4300"),
    ("UPDATE parameters SET value = ?", (b"[]",), "limits are an object"),
    ("UPDATE global_parameters SET value = ?", (DEEP,), "nested more than 128 deep"),
    ("UPDATE windows SET exchange = ?", (b"\xff",), "can't decode byte 0xff"),
]  # fmt: skip


def change(path, statement, *values):
    with closing(sqlite3.connect(path / "metadata.sqlite")) as connection:
        changed = connection.execute(statement, values).rowcount
        connection.commit()
    assert changed


@pytest.fixture
def full(quick_path):
    """A directory with a row in every table."""
    kept = Kept(quick_path)
    admin, vhost = kept.administration, kept.node.vhost
    admin.put_vhost("/", make_metadata(description="d"))
    admin.put_user("u", password=hash_password("p", "sha256"), limits={"max-channels": 5})
    admin.set_permission("u", "/", configure=".*", write=".*", read=".*")
    admin.set_topic_permission("u", "/", "amq.topic", write="^u", read="^u")
    admin.set_policy("/", "p", "^q", {"max-length": 10})
    admin.set_vhost_limits("/", {"max-queues": 10})
    admin.parameters.set_global("g", {"a": 1})
    exchange = vhost.declare_exchange(
        "x", "direct", durable=True, arguments={"x-message-deduplication": True}
    )
    vhost.bind(exchange, kept.node.queue("q", durable=True), "key")
    kept.publish("m")
    kept.stop()
    return quick_path


@pytest.mark.parametrize(("statement", "values", "why"), SPOILED)
def test_a_broker_starts_without_any_row_that_it_cannot_use(full, statement, values, why):
    change(full, statement, *values)
    checked = check(full)
    kept, errors = start(full)
    kept.stop()
    assert why in errors[0]["error"]
    told = [line.partition("offset 0: ")[2] for line in checked.stdout.splitlines() if "refused: " in line]
    assert told == [f"{each['what']} cannot be restored: {each['error']}" for each in errors]
    mended = check(full, "--repair")
    assert mended.exit_code == 0, mended.output
    kept, errors = start(full)
    assert errors == []
    kept.stop()


def test_an_unreadable_topic_permission_permits_nothing(full):
    change(full, "UPDATE topic_permissions SET write = ?", b"(")
    kept, _ = start(full)
    assert not kept.node.broker.users["u"].may_route("/", "amq.topic", "write", "u.1")
    kept.stop()


def test_the_default_user_is_not_made_where_users_could_not_be_restored(full):
    change(full, "UPDATE users SET limits = ?", b"[")
    broker = Broker(Settings(data=str(full)))
    with capture_logs():
        keeping = open_store(broker)
        populate(broker, users_lost=bool(keeping.restored.bad.of("users")))
    assert list(broker.users) == []
    keeping._backend.close(clean=False)


@pytest.mark.parametrize("repaired", [False, True])
def test_the_default_user_is_not_made_where_the_last_user_is_gone(full, repaired):
    if repaired:
        change(full, "UPDATE users SET limits = ?", b"[")
        check(full, "--repair")
    else:
        change(full, "DELETE FROM users WHERE name != ?", b"")
    for _ in range(2):
        broker = Broker(Settings(data=str(full)))
        with capture_logs() as logs:
            keeping = open_store(broker)
            populate(broker)
        assert list(broker.users) == []
        assert [each["reason"] for each in logs if each["event"] == "no user can log in"]
        keeping._backend.close(clean=False)
