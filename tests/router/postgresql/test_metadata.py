"""The metadata in PostgreSQL: the rows are those of SQLite, whatever was changed."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from leveret.router.persistence.rows import VHostRow
from leveret.router.postgresql.backend import PostgresBackend
from leveret.router.postgresql.metadata import translate
from leveret.router.postgresql.schema import METADATA
from leveret.router.store.metadata.database import Metadata
from leveret.router.store.metadata.reading import StoredMetadata, tables
from leveret.router.store.metadata.statements import (
    QueueRow,
    Statement,
    add_binding,
    add_queue,
    forget,
    keep,
    remove_binding,
    remove_exchange,
    remove_queue,
    remove_user,
    remove_vhost,
)
from tests.router.store.test_metadata import ALL, BINDING, KINDS, QUEUE, TABLE

SECOND = BINDING._replace(routing_key="b.*", arguments=TABLE)
CHANGES: dict[str, list[Statement]] = {
    "all": ALL,
    "twice": [*ALL, *ALL],
    "replaced": [
        *ALL,
        add_queue(QUEUE._replace(auto_delete=True)),
        keep(VHostRow("/", {"description": "d"})),
    ],
    "same name": [add_queue(QUEUE), add_queue(QUEUE._replace(id=9))],
    "queue": [*ALL, *remove_queue("/", "q")],
    "exchange": [*ALL, *remove_exchange("/", "e")],
    "virtual host": [*ALL, *remove_vhost("/")],
    "user": [*ALL, *remove_user("guest")],
    "bindings": [add_binding(SECOND), add_binding(BINDING), add_binding(SECOND)],
    "binding": [add_binding(SECOND), add_binding(BINDING), remove_binding(SECOND)],
    "names": [add_queue(QueueRow(3, "\0", "\udcff", True, TABLE))],
    **{f"no {table}": [*ALL, *forget(row)] for table, (make, row) in KINDS.items() if make is keep},
}


def content(metadata: StoredMetadata) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of all tables, without the numbers of bindings, which are their order."""
    return {
        table: [tuple(row[table == "bindings" :]) for row in metadata.select(table, order)[1]]
        for table, order in tables()
    }


@pytest.mark.parametrize("change", CHANGES)
def test_changes_leave_the_rows_that_sqlite_has(
    opened: Callable[[], PostgresBackend], tmp_path: Path, change: str
) -> None:
    metadata = opened().metadata
    with closing(Metadata(tmp_path / "metadata.sqlite")) as sqlite:
        for each in (metadata, sqlite):
            each.commit(CHANGES[change])
        assert content(metadata) == content(sqlite)
        assert sorted(metadata.ids()) == sorted(sqlite.ids())
        assert metadata.next_queue_id() == sqlite.next_queue_id()


def test_columns_are_those_of_sqlite(tmp_path: Path) -> None:
    with closing(Metadata(tmp_path / "metadata.sqlite")) as sqlite:
        for table, order in tables():
            assert tuple(sqlite.select(table, order)[0]) == METADATA[table][0]


def test_staged_statements_are_committed_with_the_next_batch(opened: Callable[[], PostgresBackend]) -> None:
    backend = opened()
    position = backend.append.position
    journal = backend.files.create(backend.path / "journal" / "0000000001.journal", 0)
    backend.metadata.commit([add_queue(QUEUE)], with_batch=True)
    assert backend.metadata.ids() == []
    backend.files.write(journal, b"batch", 0)
    backend.files.sync(journal)
    assert backend.metadata.ids() == [1]
    assert backend.append.position == position + 2


@pytest.mark.parametrize("statement", ["DROP TABLE queues", "DELETE FROM queues WHERE id IS ?", "SELECT 1"])
def test_statement_without_a_translation_is_an_error(statement: str) -> None:
    with pytest.raises(ValueError, match="no translation"):
        translate(statement, 0)
