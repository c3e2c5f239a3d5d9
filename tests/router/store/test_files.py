import os

import pytest

from leveret.router.store.files import DiskFiles, read_whole
from tests.router.store.failing import FailingFiles


@pytest.fixture(params=[DiskFiles, FailingFiles])
def files(request):
    return request.param()


@pytest.mark.parametrize("size", [0, 5000])
def test_a_new_file_holds_zeros(files, tmp_path, size):
    descriptor = files.create(tmp_path / "new", size)
    assert read_whole(files, descriptor) == bytes(size)
    files.close(descriptor)
    assert files.list(tmp_path) == [tmp_path / "new"]


def test_a_file_is_made_once(files, tmp_path):
    files.close(files.create(tmp_path / "new", 0))
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "new", 0)


def test_what_is_written_is_read(files, tmp_path):
    descriptor = files.create(tmp_path / "new", 10)
    files.write(descriptor, b"abc", 4)
    files.write(descriptor, bytearray(b"de"), 12)
    files.sync(descriptor)
    assert files.read(descriptor, 5, 3) == b"\0abc\0"
    assert files.read(descriptor, 100, 10) == b"\0\0de"
    assert files.read(descriptor, 100, 14) == b""
    files.close(descriptor)
    descriptor = files.open(tmp_path / "new")
    assert read_whole(files, descriptor) == b"\0\0\0\0abc\0\0\0\0\0de"
    files.close(descriptor)


def test_a_file_that_is_not_there_cannot_be_opened(files, tmp_path):
    with pytest.raises(FileNotFoundError):
        files.open(tmp_path / "none")


def test_a_file_is_replaced_as_a_whole(files, tmp_path):
    for data in (b"a long one", b"short"):
        files.replace(tmp_path / "it", data)
        descriptor = files.open(tmp_path / "it")
        assert read_whole(files, descriptor) == data
        files.close(descriptor)
    assert files.list(tmp_path) == [tmp_path / "it"]


def test_a_file_is_removed_once_or_more(files, tmp_path):
    files.replace(tmp_path / "it", b"")
    files.remove(tmp_path / "it")
    files.remove(tmp_path / "it")
    assert list(files.list(tmp_path)) == []


def test_files_are_listed_by_name(files, tmp_path):
    assert list(files.list(tmp_path / "nowhere")) == []
    for name in ("b", "a", "c"):
        files.replace(tmp_path / name, b"")
    assert [path.name for path in files.list(tmp_path)] == ["a", "b", "c"]


# -- only the real ones -----------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        DiskFiles().list(tmp_path / "file")


def test_a_write_goes_on_where_the_system_stopped(tmp_path, monkeypatch):
    files = DiskFiles()
    descriptor = files.create(tmp_path / "new", 0)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:3], offset))
    files.write(descriptor, b"0123456789", 1)
    assert read_whole(files, descriptor) == b"\x000123456789"
    files.close(descriptor)


def failing(error):
    def fail(*_):
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync"])
def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, call):
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, call, failing(28))
    with pytest.raises(OSError, match="No space"):
        DiskFiles().create(tmp_path / "new", 100)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("error", [95, 22])
def test_a_file_system_that_cannot_allocate_will_do(tmp_path, monkeypatch, error):
    monkeypatch.setattr(os, "posix_fallocate", failing(error))
    files = DiskFiles()
    descriptor = files.create(tmp_path / "new", 100)
    assert read_whole(files, descriptor) == bytes(100)
    files.close(descriptor)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch, call):
    before = os.listdir("/proc/self/fd")
    files = DiskFiles()
    files.replace(tmp_path / "it", b"old")
    monkeypatch.setattr(os, call, failing(28))
    with pytest.raises(OSError, match="No space"):
        files.replace(tmp_path / "it", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("it", b"old")]
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("size", [0, 100])
def test_names_are_synced_with_their_directory(tmp_path, monkeypatch, size):
    synced = []
    fsync = os.fsync

    def note(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    files = DiskFiles()
    files.close(files.create(tmp_path / "new", size))
    assert synced == [str(tmp_path / "new")] * bool(size) + [str(tmp_path)]
    synced.clear()
    files.replace(tmp_path / "it", b"x")
    assert synced == [str(tmp_path / "it.tmp"), str(tmp_path)]
