"""``leveret store copy``: everything of a data directory is in the PostgreSQL, and back, and is compared."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from leveret.router.cli import main
from leveret.router.postgresql.backend import PostgresBackend
from leveret.router.postgresql.location import StoreLocation
from leveret.router.store.offline import copying
from tests.router.harness import message
from tests.router.postgresql.test_backend import bodies
from tests.router.store.kept import Kept


def copy(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["store", "copy", *map(str, arguments)], prog_name="leveret")


@pytest.fixture
def directory(tmp_path: Path, small: None) -> Path:
    """A data directory with pages, a stream, bindings, and the ids of deleted queues."""
    path = tmp_path / "data"
    kept = Kept(path, budget=0)
    kept.node.queue("q", durable=True)
    kept.node.queue("s", queue_type="stream", durable=True)
    exchange = kept.node.vhost.declare_exchange("x", "direct", durable=True)
    kept.node.vhost.bind(exchange, kept.node.vhost.queues["q"], "k")
    kept.settle()
    kept.publish(*map(str, range(100)))
    kept.publish(*map(str, range(20)), queue="s")
    kept.node.queue("deleted", durable=True)
    kept.publish("gone", queue="deleted")
    kept.node.vhost.delete_queue(kept.node.vhost.queues["deleted"])
    kept.stop()
    return path


def test_copy_into_postgresql_and_back_has_everything(
    directory: Path, database: str, location: StoreLocation, opened: Callable[[], PostgresBackend]
) -> None:
    there = copy(directory, database)
    assert there.exit_code == 0, there.output
    assert there.output.startswith("copied and compared: ")
    back = directory.with_name("back")
    assert copy(database, back).exit_code == 0
    for kept in (Kept(opened()), Kept(back), Kept(directory)):
        assert kept.directory.stopped is not None
        assert bodies(kept) == [str(number) for number in range(100)]
        assert kept.node.vhost.queues["s"].committed == 20
        client = kept.node.client()
        client.session.publish(message("routed", "k", exchange="x"))
        kept.settle()
        assert bodies(kept) == ["routed"]
        kept.node.queue("new", durable=True)
        assert kept.node.vhost.queues["new"].log.id == 4
        kept.crash()


def test_copy_into_a_store_with_content_is_refused(directory: Path, database: str) -> None:
    assert copy(directory, database).exit_code == 0
    again = copy(directory, database)
    assert again.exit_code == 1
    assert "is not empty: a store can be copied only into a new place" in again.output


def test_difference_is_found(directory: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_copy_rows", lambda *_: 0)
    result = copy(directory, database)
    assert result.exit_code == 1
    assert "differs from" in result.output
    assert "bindings" in result.output


def test_copy_of_nothing_is_refused(tmp_path: Path, database: str) -> None:
    result = copy(tmp_path / "nowhere", database)
    assert result.exit_code == 1
    assert "is not a data directory: it has no metadata.sqlite" in result.output


@pytest.mark.parametrize("command", ["check", "dump"])
def test_commands_for_directories_say_how_to_get_one_from_postgresql(command: str) -> None:
    result = CliRunner().invoke(main, ["store", command, "postgresql://db/leveret"], prog_name="leveret")
    assert result.exit_code == 2
    assert "Copy the store into one with 'leveret store copy URL DIR'" in result.output
