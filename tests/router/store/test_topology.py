"""Arguments that an earlier version took and nobody may declare any more, in the rows of a data directory."""

import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from protocol.amqp.table import encode_table
from protocol.errors import PreconditionFailed
from router.broker import Broker
from router.cli import main
from router.queue.arguments import SEGMENT_MAX
from router.server.run import StartupError, keep
from router.settings import Settings
from router.store.metadata import MetadataError
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


def test_a_segment_size_beyond_the_largest_is_taken_for_that(quick_path):
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
    text = f"its {SIZE} of {SEGMENT_MAX + 1} is taken for the largest, {SEGMENT_MAX}"
    assert warning == {
        "event": OTHERWISE, "log_level": "warning", "vhost": "/", "queue": "s", "error": text
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
def test_an_exchange_whose_window_cannot_be_is_one_without(path, arguments, says):
    rewrite(path, "exchanges", arguments)
    kept, (warning,) = start(path)
    exchange = kept.node.vhost.exchanges["x"]
    assert exchange.deduplication is exchange.log is None
    error = warning.pop("error")
    assert error.startswith("it takes messages as often as they come: invalid arg 'x-")
    assert says in error
    assert warning == {"event": OTHERWISE, "log_level": "warning", "vhost": "/", "exchange": "x"}
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


def test_an_exchange_whose_window_is_as_it_should_be_has_it(path):
    rewrite(path, "exchanges", {"x-message-deduplication": True})
    kept, warned = start(path)
    assert warned == []
    assert kept.node.vhost.exchanges["x"].deduplication is not None
    kept.stop()


WHOSE = {
    "queues": ("queue 'q' in vhost '/'", "delete the queue there; 'leveret store dump'"),
    "exchanges": ("exchange 'x' in vhost '/'", "delete the exchange there"),
    "bindings": (
        "binding of exchange 'x' to queue 'q' in vhost '/' with routing key 'key'",
        "unbind it there",
    ),
}


def check(path, *options):
    return CliRunner().invoke(main, ["store", "check", str(path), *options], prog_name="leveret")


@pytest.mark.parametrize("options", [[], ["--repair"]])
def test_a_check_tells_what_a_start_would_refuse_and_a_repair_leaves_it(path, options):
    rewrite(path, "queues", {"x-max-length": -1})
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    result = check(path, *options)
    assert result.exit_code == 1
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    with pytest.raises(MetadataError) as caught:
        Kept(path)
    assert f"refused: {path / 'metadata.sqlite'}, offset 0: {caught.value}\n" in result.stdout
    assert "damage" not in result.stdout
    assert "sound" not in result.stdout
    assert result.stderr == (
        f"leveret: {path} is whole, but a broker refuses what is declared there; no repair changes it\n"
    )


@pytest.mark.parametrize(
    ("table", "arguments", "says"),
    [
        ("queues", {**STREAM, SIZE: SEGMENT_MAX + 1}, "queue 'q' in vhost '/': its x-stream"),
        (
            "exchanges",
            {"x-message-deduplication": 1},
            "exchange 'x' in vhost '/': it takes messages as often",
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
def test_any_other_argument_that_is_refused_ends_the_start_in_words(path, table, arguments, columns, why):
    whose, way_out = WHOSE[table]
    before = {file: file.read_bytes() for file in path.rglob("*.journal")}
    rewrite(path, table, arguments, **columns)
    with pytest.raises(MetadataError):
        Kept(path)
    with pytest.raises(StartupError) as caught:
        keep(Broker(Settings(data=str(path))))
    text = str(caught.value)
    assert text.startswith(f"{whose} cannot be brought back: ")
    assert why in text
    assert "PRECONDITION_FAILED" not in text
    assert "Nothing was changed. Start the version of leveret that kept it, and " in text
    assert way_out in text
    assert {file: file.read_bytes() for file in path.rglob("*.journal")} == before
