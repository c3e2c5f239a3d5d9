"""Other things than files in a data directory: a start, a check and a dump report them."""

import os
import shutil
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from leveret.router.broker.broker import Broker
from leveret.router.cli import main
from leveret.router.server.broker_lifecycle import StartupError
from leveret.router.server.main import open_store
from leveret.router.settings import Settings
from leveret.router.store.files import DiskFiles, read_whole
from leveret.router.store.lock import DataDirectoryError, Lock
from tests.router.store.kept import Kept
from tests.router.store.small import SMALL, SMALL_STREAMS, patched


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_directory(path: Path) -> None:
    path.mkdir()


def make_dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/file")


KINDS = (make_fifo, make_socket, make_endless, make_directory, make_dangling)
PLACES = ("checkpoint", "lock", "metadata.sqlite", "journal", "segments", "streams", "*.journal", "*.segment",
          "*.index")  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A data directory with a queue and a stream, whose files have all kinds."""
    path = tmp_path_factory.mktemp("stored") / "data"
    with patched(*SMALL, *SMALL_STREAMS):
        kept = Kept(path, budget=0)
        kept.node.queue("q", durable=True)
        kept.node.queue("s", durable=True, queue_type="stream")
        for number in range(60):
            kept.client.publish(f"{number}" * 100, "q", delivery_mode=2)
            kept.client.publish(f"{number}" * 1000, "s", delivery_mode=2)
            kept.settle()
        kept.stop()
    return path


def places(data: Path, pattern: str) -> list[Path]:
    """Return the file of that name, or the first file of each directory that matches."""
    found = sorted(data.rglob(pattern))
    return [
        path for number, path in enumerate(found) if path.parent not in {p.parent for p in found[:number]}
    ]


def start(data: Path) -> str | None:
    """Restore a broker from the directory; return the reason if that is refused."""
    try:
        store = open_store(Broker(Settings(data=str(data)), 0))
    except StartupError as error:
        return str(error)
    assert store is not None
    store._backend.close(clean=False)
    return None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pattern", PLACES)
def test_anything_else_than_a_file_is_refused_or_ignored(stored, tmp_path, pattern, kind):
    originals = places(stored, pattern)
    assert originals
    for number, original in enumerate(originals):
        data = tmp_path / str(number)
        shutil.copytree(stored, data)
        path = data / original.relative_to(stored)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        kind(path)
        for command in (("check",), ("dump",), ("check", "--repair")):
            result = CliRunner().invoke(main, ["store", *command, str(data)])
            assert isinstance(result.exception, SystemExit | None), (path, command)
            assert result.exit_code in (0, 1, 2)
        assert (refusal := start(data)) is None or str(data) in refusal


def test_a_name_of_other_digits_is_no_segment(stored, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(stored, data)
    (data / "segments" / "².segment").write_bytes(b"")
    assert start(data) is None


def test_a_file_larger_than_any_of_the_store_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("leveret.router.store.files.LARGEST", 1 << 25)
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    files = DiskFiles()
    descriptor = files.open(tmp_path / "checkpoint")
    with pytest.raises(OSError, match="none of the store's"):
        read_whole(files, descriptor)
    files.close(descriptor)


@pytest.mark.parametrize("kind", [make_fifo, make_endless, make_directory, make_dangling])
def test_a_replaced_file_heals_what_is_at_its_temporary_name(tmp_path, kind):
    kind(tmp_path / "checkpoint.tmp")
    try:
        DiskFiles().replace(tmp_path / "checkpoint", b"new")
    except IsADirectoryError:
        assert kind is make_directory
    else:
        assert (tmp_path / "checkpoint").read_bytes() == b"new"


class ReadOnly:
    """``os.open`` of a file system that is mounted read-only."""

    def __init__(self) -> None:
        self._open = os.open

    def __call__(self, path, flags, mode=0o777):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(30, os.strerror(30), str(path))
        return self._open(path, flags, mode)


@pytest.mark.parametrize("has_lock_file", [True, False])
def test_a_read_only_directory_is_checked_and_locked(stored, tmp_path, monkeypatch, has_lock_file):
    data = tmp_path / "data"
    shutil.copytree(stored, data)
    if not has_lock_file:
        (data / "lock").unlink()  # as in a snapshot
    before = (data / "lock").read_bytes() if has_lock_file else b""
    with monkeypatch.context() as patch:
        patch.setattr("leveret.router.store.files.os.open", ReadOnly())
        with pytest.raises(DataDirectoryError, match=r"Read-only file system: .*lock"):
            Lock(data)
        held = Lock(data, may_read_only=True)
        assert (held.stopped is not None) == has_lock_file
        with pytest.raises(DataDirectoryError, match="in use"):
            Lock(data, may_read_only=True)
        held.leave()
    assert (data / "lock").exists() == has_lock_file
    assert not has_lock_file or (data / "lock").read_bytes() == before
