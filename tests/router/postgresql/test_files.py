"""Files of a store whose commits have an unknown outcome."""

import pytest

from leveret.router.postgresql.append import AppendError
from leveret.router.store.journal.journal import path_of


def test_other_files_are_written_after_the_removal_of_one_had_an_unknown_outcome(opened, monkeypatch):
    """The table is gone; what was written to it before, and not synced, is needed by no commit."""
    backend = opened()
    files, journal = backend.files, backend.path / "journal"
    first, second = path_of(journal, 1), path_of(journal, 2)
    files.write(files.create(first, 0), b"not synced", 0)
    commit = backend.append.commit

    def commit_and_lose_the_connection(statements=()) -> None:
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
