"""``--filter``, ``--sort``, ``--columns``, ``--format`` and ``--watch`` of all lists."""

import json

import pytest
from click.testing import CliRunner

from leveret.router.cli import main
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.filters import parse_filter
from leveret.router.cli.table import Column
from tests.router.cli.conftest import leveret

ROWS = [
    {"vhost": "/", "name": "jobs", "type": "quorum", "messages": 5, "messages_ready": 5, "durable": True},
    {"vhost": "/", "name": "events", "type": "stream", "messages": 20, "messages_ready": 20, "durable": True},
    {"vhost": "v", "name": "jobs.dead", "type": "classic", "messages": 0, "durable": False, "policy": "p"},
]
LISTS = ("queue", "exchange", "binding", "connection", "channel", "consumer", "user", "permission", "vhost",
         "policy", "stream", "context")  # fmt: skip


@pytest.fixture
def names(server):
    """The names of the queues that a listing with these options shows."""
    server.told = (200, json.dumps(ROWS).encode())

    def names(*options):
        return leveret(server, "queue", "list", "--columns", "name", *options).stdout.split()[1:]

    return names


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (["jobs"], ["jobs", "jobs.dead"]),
        (["jobs*"], ["jobs", "jobs.dead"]),
        (["*.dead"], ["jobs.dead"]),
        (["dead*"], []),
        (["messages>0"], ["jobs", "events"]),
        (["messages >= 5", "messages<20"], ["jobs"]),
        (["ready>5"], ["events"]),
        (["messages=0"], ["jobs.dead"]),
        (["type!=stream"], ["jobs", "jobs.dead"]),
        (["durable=no"], ["jobs.dead"]),
        (["durable=yes", "vhost=/"], ["jobs", "events"]),
        (["name~^(jobs|events)$"], ["jobs", "events"]),
        (["policy="], ["jobs", "events"]),
    ],
)
def test_an_object_is_listed_if_all_filters_match(names, filters, left):
    assert names(*(f"--filter={text}" for text in filters)) == left


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", ["events", "jobs", "jobs.dead"]),
        ("-messages", ["events", "jobs", "jobs.dead"]),
        ("messages", ["jobs.dead", "jobs", "events"]),
        ("ready", ["jobs", "events", "jobs.dead"]),  # nothing is known of the last one
        ("-ready", ["events", "jobs", "jobs.dead"]),
    ],
)
def test_a_list_is_sorted_by_a_column_or_a_field(names, sort, order):
    assert names("--sort", sort) == order


@pytest.mark.parametrize("option", ["--sort=nome", "--columns=name,nome", "--filter=nome=x"])
def test_an_unknown_column_is_refused(server, option):
    server.told = (200, json.dumps(ROWS).encode())
    result = leveret(server, "queue", "list", option)
    assert (result.exit_code, "there is no column 'nome'" in result.stderr) == (2, True)


@pytest.mark.parametrize("text", ["messages>many", "name~("])
def test_an_invalid_filter_is_refused_before_the_first_request(server, text):
    assert leveret(server, "queue", "list", "--filter", text).exit_code == 2
    assert not server.asked


def test_a_comparison_with_a_missing_value_is_false():
    column = Column("n", "n")
    for text in ("n>0", "n<1", "n>=0", "n=0"):
        matches, _ = parse_filter(text, [column])
        assert not matches({})
    with pytest.raises(WrongUsage):
        parse_filter("n>x", [column])


def test_a_list_is_printed_as_table_tsv_and_json(server):
    server.told = (200, json.dumps(ROWS).encode())
    columns = ("--columns", "name,messages", "--filter", "jobs.dead")
    assert leveret(server, "queue", "list", *columns).stdout == "name       messages\njobs.dead  0\n"
    assert (
        leveret(server, "queue", "list", *columns, "--format", "tsv").stdout
        == "name\tmessages\njobs.dead\t0\n"
    )
    for form in (("--format", "json"), ("--json",)):
        assert json.loads(leveret(server, "queue", "list", *columns, *form).stdout) == [
            {"name": "jobs.dead", "messages": 0}
        ]
        assert json.loads(leveret(server, "queue", "list", *form).stdout) == ROWS


@pytest.mark.parametrize("kind", LISTS)
def test_every_list_has_the_same_options(kind):
    told = CliRunner().invoke(main, [kind, "list", "--help"]).stdout
    for option in ("--filter", "--sort", "--columns", "--watch", "--interval", "--format"):
        assert option in told


@pytest.mark.parametrize(
    "command", ["get q", "consume q", "queue peek q", "queue show q", "status", "bench", "stream show s"]
)
def test_format_is_the_one_option_for_the_form_and_json_a_hidden_alias(command):
    told = CliRunner().invoke(main, [*command.split(), "--help"]).stdout
    assert "--format [" in told
    assert "--json" not in told


@pytest.mark.parametrize("command", ["queue show q", "status", "stream show s"])
def test_the_alias_prints_json(server, command):
    server.told = (200, b'{"name": "q"}')
    assert json.loads(leveret(server, *command.split(), "--json").stdout)["name"] == "q"


def test_a_list_that_is_watched_is_shown_again_until_it_is_interrupted(server, monkeypatch):
    server.told = (200, json.dumps(ROWS).encode())
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        server.told = (200, b"[]")
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("leveret.router.cli.listing.time.sleep", sleep)
    result = leveret(server, "queue", "list", "--columns", "name", "--watch", "--interval", "5s")
    assert (result.exit_code, slept) == (0, [5.0, 5.0])
    assert result.stdout == "name\njobs\nevents\njobs.dead\n\nname\n\n"
