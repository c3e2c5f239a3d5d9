"""The lock of a data directory, and the record of a regular stop."""

import errno
import fcntl
import os
import stat
import subprocess
import sys

import pytest

from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.journal import DamageError, path_of
from leveret.router.store.lock import DataDirectoryError, Lock
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.opening import DataDirectory, read
from tests.router.store.test_promises import journal

HOLD = """
import sys, time
from pathlib import Path
from leveret.router.store.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_second_process_is_refused_with_the_id_of_the_first(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        for use in (Lock, DataDirectory):
            with pytest.raises(DataDirectoryError, match=f"{tmp_path} is in use by the process {other.pid};"):
                use(tmp_path)
        other.stdin.close()
        other.wait()
    Lock(tmp_path).release()


def test_a_second_process_is_refused_although_the_file_was_removed(tmp_path):
    held = Lock(tmp_path)
    (tmp_path / "lock").unlink()
    for _ in range(2):  # the refused one leaves an empty file behind
        with pytest.raises(DataDirectoryError, match=f"{tmp_path} is in use by a process that has lost its"):
            DataDirectory(tmp_path)
    held.release()
    Lock(tmp_path).release()


def test_a_file_system_that_cannot_lock_directories_has_the_file_locked(tmp_path, monkeypatch):
    flock = fcntl.flock

    def only_files(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", only_files)
    held = Lock(tmp_path)
    with pytest.raises(DataDirectoryError, match="in use by the process"):
        Lock(tmp_path)
    held.release()


@pytest.mark.parametrize("end", [Lock.release, Lock.leave, lambda lock: lock.stop(1)])
def test_a_released_lock_leaves_no_file_open(tmp_path, end):
    before = os.listdir("/proc/self/fd")
    end(Lock(tmp_path))
    held = Lock(tmp_path)
    with pytest.raises(DataDirectoryError):
        Lock(tmp_path)
    held.release()
    assert os.listdir("/proc/self/fd") == before


def test_a_lock_is_only_as_old_as_its_process(tmp_path):
    Lock(tmp_path).release()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert Lock(tmp_path).stopped is None


def test_a_regular_stop_is_recorded_until_the_next_broker_has_read_everything(tmp_path):
    Lock(tmp_path).stop(17)
    given_up = Lock(tmp_path)
    assert given_up.stopped == 17
    given_up.release()
    again = Lock(tmp_path)
    assert again.stopped == 17
    again.begin()
    again.release()
    assert Lock(tmp_path).stopped is None


def test_a_process_that_changes_nothing_leaves_the_lock_as_it_was(tmp_path):
    Lock(tmp_path).stop(17)
    before = (tmp_path / "lock").read_bytes()
    Lock(tmp_path).leave()
    assert (tmp_path / "lock").read_bytes() == before


def test_a_journal_that_ends_before_the_regular_stop_is_damage_each_time(tmp_path):
    directory = DataDirectory(tmp_path)
    journal(tmp_path, [b""], [b""])
    directory.close(clean=True, sequence=3)
    for _ in range(2):
        again = DataDirectory(tmp_path)
        with pytest.raises(
            DamageError, match="batch 3 is gone, which was on disk when the broker stopped"
        ) as caught:
            read(again)
        assert caught.value.path == path_of(tmp_path / "journal", 1)
        again.close(clean=False)


def test_a_journal_that_is_gone_after_a_regular_stop_is_damage(tmp_path):
    directory = DataDirectory(tmp_path)
    directory.close(clean=True, sequence=3)
    assert DiskFiles().list(tmp_path / "journal") == []
    with pytest.raises(DamageError, match="batch 1 is gone"):
        read(DataDirectory(tmp_path))


def test_what_cannot_be_a_directory_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataDirectoryError, match="cannot use the data directory"):
        DataDirectory(tmp_path / "file")


@pytest.mark.parametrize("content", [None, b""])
def test_metadata_is_not_created_in_a_directory_with_messages(tmp_path, content):
    DataDirectory(tmp_path).close(clean=True)
    journal(tmp_path, [b""])
    file = tmp_path / "metadata.sqlite"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MetadataError, match=f"{file} is missing or empty.*from a backup"):
        DataDirectory(tmp_path)
    assert file.exists() == (content is not None)
    assert Lock(tmp_path).stopped == 0
