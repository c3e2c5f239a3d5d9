"""The file operations over PostgreSQL keep what those of a disk keep: the same tests, and those of rows."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from leveret.router.postgresql import tables
from leveret.router.postgresql.append_session import AppendError, AppendSession
from leveret.router.postgresql.backend import PostgresBackend
from leveret.router.postgresql.files import PostgresFiles
from leveret.router.postgresql.location import Statement
from leveret.router.store.files import read_whole
from leveret.router.store.journal.journal import path_of
from tests.router.postgresql.test_backend import tables_of
from tests.router.store.test_files import (  # noqa: F401, they use the fixtures of this module
    test_a_file_is_made_once,
    test_a_file_is_removed_once_or_more,
    test_a_file_is_replaced_as_a_whole,
    test_a_file_that_is_not_there_cannot_be_opened,
    test_files_are_listed_by_name,
)

Opened = Callable[[], PostgresBackend]
STREAM = "streams/0000000007-00000000000000000012.segment"
PLACES = [
    "journal/0000000001.journal",
    "segments/0000000001.segment",
    "other",
    "transient/0000000001.segment",
]


@pytest.fixture
def backend(opened: Opened) -> PostgresBackend:
    return opened()


@pytest.fixture
def files(backend: PostgresBackend) -> PostgresFiles:
    return backend.files


@pytest.fixture
def tmp_path(backend: PostgresBackend) -> Path:
    """The directory in which the tests of ``tests/router/store`` create files."""
    return backend.path / "set-aside"


@pytest.mark.parametrize("name", PLACES)
def test_what_is_written_is_read_before_and_after_it_is_committed(
    backend: PostgresBackend, name: str
) -> None:
    files, path = backend.files, backend.path / name
    descriptor = files.create(path, 0)
    files.write(descriptor, b"abc", 4)
    files.write(descriptor, bytearray(b"de"), 12)
    for _ in range(2):
        assert files.read(descriptor, 6, 3) == b"\0abc\0\0"
        assert files.read(descriptor, 100, 10) == b"\0\0de"
        assert files.read(descriptor, 100, 14) == b""
        assert files.size(path) == 14
        files.sync(descriptor)
    files.write(descriptor, b"ABCDE", 5)
    files.sync(descriptor)
    files.close(descriptor)
    descriptor = files.open(path)
    assert read_whole(files, descriptor) == b"\0\0\0\0aABCDE\0\0de"
    files.close(descriptor)


def test_next_owner_finds_names_and_sizes(opened: Opened) -> None:
    first = opened()
    places = [*PLACES[:3], STREAM]
    for name in places:
        descriptor = first.files.create(first.path / name, 0)
        first.files.write(descriptor, bytes(3 * tables.ROW) + b"end", 7)
        first.files.sync(descriptor)
    first.files.replace(first.path / "checkpoint", b"one")
    first.files.replace(first.path / "checkpoint", b"other")
    first.close(clean=False)
    second = opened()
    assert [path.name for path in second.files.list(second.path / "journal")] == ["0000000001.journal"]
    for name in places:
        path = second.path / name
        assert second.files.size(path) == 7 + 3 * tables.ROW + 3
        descriptor = second.files.open(path)
        assert second.files.read(descriptor, 10, 3 * tables.ROW + 5) == b"\0\0end"
    assert read_whole(second.files, second.files.open(second.path / "checkpoint")) == b"other"


def test_what_could_not_be_committed_is_written_again(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = backend.files, backend.path / PLACES[1]
    descriptor = files.create(path, 0)
    files.write(descriptor, b"lost", 0)

    def fail(*_: object) -> None:
        raise AppendError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(AppendSession, "commit", fail)
        with pytest.raises(AppendError):
            files.sync(descriptor)
    files.sync(descriptor)
    assert files.read(descriptor, 10, 0) == b""


def test_other_files_are_written_after_the_removal_of_one_had_an_unknown_outcome(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is gone; what was written to it before, and not synced, is needed by no commit."""
    backend = opened()
    files, journal = backend.files, backend.path / "journal"
    first, second = path_of(journal, 1), path_of(journal, 2)
    files.write(files.create(first, 0), b"not synced", 0)
    commit = backend.append.commit

    def commit_and_lose_the_connection(statements: Sequence[Statement] = ()) -> None:
        commit(statements)
        raise AppendError("the connection was lost")

    monkeypatch.setattr(backend.append, "commit", commit_and_lose_the_connection)
    with pytest.raises(AppendError):
        files.remove(first)
    monkeypatch.undo()
    descriptor = files.create(second, 0)
    files.write(descriptor, b"synced", 0)
    files.sync(descriptor)
    files.remove(first)  # the job is repeated
    assert list(files.list(journal)) == [second]


def test_checkpoint_whose_replacement_had_an_unknown_outcome_is_dropped(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, commit = backend.path / "checkpoint", backend.append.commit

    def commit_and_lose_the_connection(statements: Sequence[Statement] = ()) -> None:
        commit(statements)
        raise AppendError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(backend.append, "commit", commit_and_lose_the_connection)
        with pytest.raises(AppendError):
            backend.files.replace(path, b"one")
    backend.files.replace(path, b"other")
    backend.files.drop_unused()
    found = [name for name in tables_of(backend.location.url) if name.startswith("checkpoint")]
    assert len(found) == 1
    assert read_whole(backend.files, backend.files.open(path)) == b"other"


def test_segment_of_a_stream_gets_a_table_when_it_grows(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SMALL", 100)
    backend = opened()
    path = backend.path / STREAM
    own = "stream_0_7_12"
    descriptor = backend.files.create(path, 0)
    written = bytearray()
    for number in range(5):
        data = bytes([number]) * 30
        backend.files.write(descriptor, data, len(written))
        backend.files.sync(descriptor)
        written += data
        assert (own in tables_of(backend.location.url)) == (len(written) > 100)
    backend.files.write(descriptor, b"again", 10)
    backend.files.sync(descriptor)
    written[10:15] = b"again"
    backend.close(clean=False)
    backend = opened()
    assert backend.files.list(path.parent) == [path]
    assert backend.files.size(path) == len(written)
    descriptor = backend.files.open(path)
    assert read_whole(backend.files, descriptor) == written
    assert backend.files.read(descriptor, 40, 80) == written[80:120]
    backend.files.remove(path)
    assert own not in tables_of(backend.location.url)
    backend.close(clean=False)
    assert opened().files.list(path.parent) == []
