"""``leveret outbox``: what is printed, exit statuses, and errors."""

import json
import sys

import psycopg
import pytest
from click.testing import CliRunner

from leveret.router.cli import main


def leveret(*args):
    return CliRunner().invoke(main, ["outbox", *map(str, args)], prog_name="leveret")


@pytest.fixture
def installed(database):
    assert leveret("install", database).exit_code == 0
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def test_install_says_what_it_created_and_may_be_repeated(database):
    result = leveret("install", database)
    assert result.output == "created the table leveret_outbox and the trigger leveret_outbox_notify\n"
    result = leveret("install", database)
    assert (result.exit_code, result.output) == (0, "the table leveret_outbox is up to date (version 1)\n")


def test_printed_sql_can_be_run_as_it_is(database):
    result = leveret("install", "--print")
    with psycopg.connect(database) as connection:
        connection.execute(result.output)
    assert leveret("status", database).exit_code == 0


def test_install_needs_a_url():
    result = leveret("install")
    assert result.exit_code == 2
    assert "name the database: leveret outbox install postgresql://" in result.output


def test_status_of_an_empty_outbox(database, installed):
    result = leveret("status", database)
    assert result.exit_code == 0
    assert result.output == "waiting    0 rows\nfailed     0 rows\npublisher  no broker is connected\n"


def fail(connection, error="404 NOT_FOUND - no exchange 'x'", key="jobs"):
    return connection.execute(
        "INSERT INTO leveret_outbox (routing_key, failed_at, error, attempts) VALUES (%s, now(), %s, 2) "
        "RETURNING id",
        [key, error],
    ).fetchone()[0]


def test_status_lists_failed_rows(database, installed):
    installed.execute("INSERT INTO leveret_outbox (body_text) VALUES ('x')")
    installed.execute("ALTER TABLE leveret_outbox DISABLE TRIGGER leveret_outbox_notify")
    fail(installed)
    result = leveret("status", database)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("waiting    1 row, the oldest for 0.")
    assert lines[1:4] == [
        "failed     1 row",
        "publisher  no broker is connected",
        "notify     off: a broker finds rows when it polls (outbox.poll_interval)",
    ]
    assert lines[5].split() == ["ID", "VIRTUAL", "HOST", "EXCHANGE", "ROUTING", "KEY", "ATTEMPTS", "ERROR"]
    assert lines[6].split(maxsplit=4) == ["2", "/", "jobs", "2", "404 NOT_FOUND - no exchange 'x'"]


def test_status_as_json(database, installed):
    fail(installed)
    found = json.loads(leveret("status", "--json", database).output)
    assert (found["waiting"], found["failed"], found["oldest"], found["publisher"]) == (0, 1, None, None)
    assert found["failures"][0]["error"] == "404 NOT_FOUND - no exchange 'x'"
    assert found["failures"][0]["retry_at"] is None


def test_failed_rows_are_retried_by_id_or_all(database, installed):
    ids = [fail(installed) for _ in range(3)]
    assert leveret("retry", database, "--id", ids[0]).output == "1 row will be published again\n"
    result = leveret("retry", database, "--id", ids[0], "--id", ids[1])
    assert (result.exit_code, result.stdout) == (1, "1 row will be published again\n")
    assert leveret("retry", database, "--all").output == "1 row will be published again\n"
    assert leveret("status", database).exit_code == 0
    assert (
        leveret("retry", database).exit_code == leveret("retry", database, "--all", "--id", 1).exit_code == 2
    )


def test_uninstall_refuses_an_outbox_with_rows(database, installed):
    installed.execute("INSERT INTO leveret_outbox (body_text) VALUES ('x')")
    result = leveret("uninstall", database)
    assert result.exit_code == 1
    assert "has rows that were not published" in result.output
    installed.execute("DELETE FROM leveret_outbox")
    assert leveret("uninstall", database).output == "removed the table leveret_outbox\n"
    assert "there is no table leveret_outbox" in leveret("status", database).output


@pytest.mark.parametrize("command", ["install", "status", "uninstall", "retry --all"])
def test_a_database_that_cannot_be_reached_is_an_error(command):
    name, *options = command.split()
    result = leveret(name, "postgresql://u:secret@127.0.0.1:1/shop", *options)
    assert result.exit_code == 1
    assert "onnection" in result.output
    assert "secret" not in result.output


def test_a_malformed_url_is_an_error():
    result = leveret("status", "postgresql://[")
    assert result.exit_code == 1
    assert result.output.startswith("leveret: ")


def test_without_psycopg_the_command_says_what_to_install(monkeypatch):
    for name in [each for each in sys.modules if each.startswith("leveret.router.transactional_outbox.conn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = leveret("status", "postgresql:///shop")
    assert result.exit_code == 1
    assert result.output == "leveret: psycopg is not installed: pip install 'leveret[postgresql]'\n"


# -- bench ---------------------------------------------------------------------------------------------------


def test_a_bench_needs_an_outbox(database):
    result = CliRunner().invoke(main, ["bench", "outbox", database], prog_name="leveret")
    assert result.exit_code == 1
    assert "there is no table leveret_outbox; create it with 'leveret outbox install'" in result.output


def test_a_bench_says_that_no_broker_publishes(database, installed, broker, monkeypatch):
    monkeypatch.setattr("leveret.router.cli.bench_outbox.STALLED", 0.1)
    result = broker.run("bench", "outbox", database, "--rows", "10")
    assert result.exit_code == 1
    assert "0 of 10 rows have arrived: does a broker publish from the outbox?" in result.output
