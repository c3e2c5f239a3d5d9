"""The local directory of a store in PostgreSQL: what a killed broker leaves behind is removed."""

import os
import tempfile

import pytest

from leveret.router.postgresql.local_directory import PREFIX, LocalDirectory


@pytest.fixture(autouse=True)
def parent(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_over(parent, name: str, age: float):
    path = parent / f"{PREFIX}{name}"
    (path / "transient").mkdir(parents=True)
    (path / "transient" / "1.pages").write_bytes(b"pages")
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def test_directory_of_a_killed_broker_is_removed(parent):
    old, young = left_over(parent, "old", 1000), left_over(parent, "young", 1)
    directory = LocalDirectory()
    assert not old.exists()
    assert young.exists()  # its broker may have no lock yet
    directory.remove()
    assert not directory.path.exists()


def test_directory_of_a_running_broker_is_kept(parent):
    running = LocalDirectory()
    os.utime(running.path, (0, 0))
    other = LocalDirectory()
    assert running.path.exists()
    running.remove()
    other.remove()
    assert list(parent.iterdir()) == []


def test_other_directories_are_kept(parent):
    (parent / "other").mkdir()
    os.utime(parent / "other", (0, 0))
    LocalDirectory().remove()
    assert (parent / "other").exists()
