"""Snapshots of a directory in use: at any moment they hold what a crash at that moment would leave."""

import os
import shutil
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from leveret.router.store.files import DiskFiles
from leveret.router.store.offline.check import check
from leveret.router.store.offline.directory import lock
from leveret.router.store.snapshot import SNAPSHOTS, SnapshotError, finish, prepare, remove_partial, stage
from leveret.router.store.streams import log as stream_log
from leveret.router.store.streams.files import stream_files
from tests.router.store.kept import Kept, contents
from tests.router.store.small import patched


def snapshot(kept: Kept, path, name="s", meanwhile=lambda: None):
    """Take a snapshot; ``meanwhile`` is what the broker does after the moment it is of."""
    staged = stage(path, prepare(path, name), kept.writer.growing())
    meanwhile()
    return finish(staged)


@contextmanager
def closing_crashed(kept: Kept):
    yield kept
    kept.crash()


def is_sound(path) -> bool:
    held = lock(path)
    try:
        return not check(path, held.stopped or 0).inspection.damage
    finally:
        held.leave()


def test_a_snapshot_holds_what_was_confirmed_and_nothing_later(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue("q", durable=True)
    kept.publish("1", "2", "3")
    kept.take(1)

    def go_on():
        kept.node.queue("later", durable=True)
        kept.publish("4", *(f"{number:0500}" for number in range(50)))
        kept.publish("5", queue="later")
        kept.take(2)

    taken = snapshot(kept, tmp_path, meanwhile=go_on)
    assert contents(taken.path) == {"q": {1: "2", 2: "3"}}
    assert is_sound(taken.path)
    kept.stop()
    assert is_sound(tmp_path)


def test_a_broker_starts_from_a_snapshot_and_leaves_the_first_one_alone(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue("q", durable=True)
    kept.publish(*(f"{number:0300}" for number in range(100)))  # journal files are given up meanwhile
    assert kept.store.segments._pages
    taken = snapshot(kept, tmp_path)
    assert taken.linked
    other = Kept(taken.path)
    assert [other.get()[1].message.body for _ in range(60)] == [b"%0300d" % number for number in range(60)]
    other.publish(*(f"{number:0300}" for number in range(100, 200)))
    other.stop()
    assert contents(tmp_path)["q"] == {number: f"{number:0300}" for number in range(100)}
    kept.take(100)
    kept.stop()
    assert is_sound(tmp_path)
    assert len(contents(taken.path)["q"]) == 140


SMALL = (patch.object(stream_log, "FLUSH", 900), patch.object(stream_log, "MOST", 1800))


def found_in(path):
    """The messages of the queue and the stream that a broker finds in a directory."""
    with closing_crashed(Kept(path)) as kept:
        stream = kept.node.vhost.queue("s")
        return contents(path)["q"], stream.first, stream.committed, kept.cut


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_snapshot_between_any_two_jobs_is_what_a_crash_would_have_left(quick_path):
    data, crashed = quick_path / "data", quick_path / "crashed"
    with patched(*SMALL):
        kept = Kept(data, budget=4000)
        kept.node.queue("q", durable=True)
        kept.node.queue("s", durable=True, queue_type="stream", stream_max_segment_size_bytes=3000)
        snapshots = 0
        for number in range(80):
            for queue in ("q", "s"):
                kept.client.publish(f"{number:0400}", queue, delivery_mode=2)
            if number % 4 == 3:
                assert kept.get() is not None
            kept.node.settle()
            kept.store.flush()
            while kept.step():
                kept.read()
                kept.store.flush()
                shutil.copytree(data, crashed, ignore=shutil.ignore_patterns(SNAPSHOTS, "lock"))
                taken = snapshot(kept, data, f"at-{snapshots}")
                assert found_in(taken.path) == found_in(crashed)
                assert is_sound(taken.path)
                shutil.rmtree(crashed)
                shutil.rmtree(taken.path)
                snapshots += 1
        assert snapshots > 100
        assert len(stream_files(kept.directory.files, data)) == 1
        kept.stop()
    assert is_sound(data)


def test_settled_messages_do_not_come_back(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue("q", durable=True)
    kept.publish("1", "2")
    kept.take(2)
    assert contents(snapshot(kept, tmp_path).path) == {"q": {}}


def test_files_that_grow_are_copied_and_others_are_shared(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue("q", durable=True)
    kept.publish(*(f"{number:0300}" for number in range(100)))
    taken = snapshot(kept, tmp_path)
    growing = {path.relative_to(tmp_path) for path in kept.writer.growing()}
    assert growing
    for place in ("journal", "segments"):
        for path in DiskFiles().list(tmp_path / place):
            there = taken.path / path.relative_to(tmp_path)
            assert os.path.samefile(path, there) is (path.relative_to(tmp_path) not in growing)
    kept.stop()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "x.partial", "x" * 101, "ä", "a\nb"])
def test_an_invalid_snapshot_name_is_refused(tmp_path, name):
    with pytest.raises(SnapshotError, match="is not a valid snapshot name"):
        prepare(tmp_path, name)
    assert not (tmp_path / SNAPSHOTS).exists()


def test_a_snapshot_is_never_replaced(tmp_path):
    kept = Kept(tmp_path)
    kept.node.queue("q", durable=True)
    kept.publish("1")
    taken = snapshot(kept, tmp_path)
    with pytest.raises(SnapshotError, match="there is a snapshot 's' already"):
        prepare(tmp_path, "s")
    assert contents(taken.path) == {"q": {0: "1"}}


def test_an_interrupted_snapshot_is_removed(tmp_path):
    prepare(tmp_path, "cut-off")
    (tmp_path / SNAPSHOTS / "whole").mkdir()
    remove_partial(tmp_path)
    assert os.listdir(tmp_path / SNAPSHOTS) == ["whole"]


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "directory"])
def test_what_an_interrupted_snapshot_may_have_left_is_removed_whatever_it_is(tmp_path, kind):
    partial = tmp_path / "snapshots" / "old.partial"
    partial.parent.mkdir()
    kept = tmp_path / "kept"
    kept.mkdir()
    match kind:
        case "file":
            partial.write_bytes(b"")
        case "link":
            partial.symlink_to(kept)
        case "fifo":
            os.mkfifo(partial)
        case "directory":
            (partial / "journal").mkdir(parents=True)
    remove_partial(tmp_path)
    assert list(partial.parent.iterdir()) == []
    assert kept.exists()
