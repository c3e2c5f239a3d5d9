"""``leveret consume`` of a stream: where it begins, and under which name it goes on."""

import pytest

from tests.router.cli.test_options import leveret


@pytest.fixture
def stream(broker):
    broker("stream", "create", "s")
    for body in "abc":
        broker("publish", "", "s", body)
    return broker


def read(broker, *options):
    return broker("consume", "s", "--format", "body", "--idle", "200ms", *options).split()


@pytest.mark.parametrize(
    ("offset", "bodies"),
    [("first", ["a", "b", "c"]), ("1", ["b", "c"]), ("next", []), ("1h", ["a", "b", "c"])],
)
def test_a_stream_is_read_from_an_offset(stream, offset, bodies):
    assert read(stream, "--offset", offset) == bodies


def test_a_new_name_begins_at_an_offset_and_goes_on_where_it_was(stream):
    named = ("--consumer-name", "app", "--offset-if-new", "first")
    assert read(stream, *named) == ["a", "b", "c"]
    stream("publish", "", "s", "d")
    assert read(stream, *named) == ["d"]
    assert [row["offset"] for row in stream.json("stream", "positions", "s")] == [4]


@pytest.mark.parametrize(
    "options",
    [
        ("--offset-if-new", "first"),
        ("--offset-if-new", "first", "--offset", "first", "--consumer-name", "n"),
    ],
)
def test_offset_if_new_needs_a_consumer_name_and_excludes_offset(options):
    assert leveret("consume", "s", *options).exit_code == 2


def test_an_offset_for_a_classic_queue_is_refused(broker):
    broker("queue", "declare", "q")
    for options in (("--offset", "first"), ("--consumer-name", "n", "--offset-if-new", "first")):
        result = broker.run("consume", "q", *options)
        assert (result.exit_code, "invalid arg 'x-stream-offset" in result.stderr) == (1, True)
