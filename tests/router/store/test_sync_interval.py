"""Syncing by interval: when it happens, and what a failure of it costs."""

import pytest

from leveret.router.store.journal.checkpoint import Checkpoint
from leveret.router.store.journal.journal import numbers
from leveret.router.store.journal.records import pack_publish
from leveret.router.store.journal.sync_interval import IntervalSync
from leveret.router.store.store import Store
from leveret.router.store.writer import Commit, SaveCheckpoint, Sync
from leveret.router.turns.timers import Timers
from tests.router.store.failing import FailingFiles
from tests.router.store.test_store import FakeDisk, FakeQueue, finish, message
from tests.router.store.test_writer import JOURNAL, ONE, ROUTE, frames, open_writer, read

INTERVAL = 200


class World:
    """A store that syncs by interval, on a disk whose jobs the test runs, and the clock."""

    def __init__(self):
        self.disk = FakeDisk()
        self.timers = Timers()
        self.now = 0
        self.store = Store(
            self.disk,
            sync=False,
            sequence=1,
            segment=1,
            next_queue_id=1,
            wall_offset=lambda: 0,
            changed=self.changed,
            put_off=lambda: None,
        )
        self.interval = IntervalSync(self.store, INTERVAL, self.timers.schedule)
        self.queue = FakeQueue(self.store)

    def changed(self):
        if self.store.failure is not None:
            self.timers.schedule(self.now + 1000, self.store)
        self.interval.wrote(self.now)

    def publish(self):
        self.queue.put(message())
        self.store.end_turn()

    def done(self, error=None):
        return finish(self.store, self.disk, error)

    def at(self, now):
        self.now = now
        self.timers.run(now)


@pytest.fixture
def world():
    return World()


def test_a_commit_is_done_before_it_is_synced(world):
    world.publish()
    assert not world.done().sync
    assert (world.store.committed_batch, world.store.unsynced, world.store.busy()) == (1, True, False)


def test_the_sync_comes_an_interval_after_the_first_commit(world):
    world.at(50)
    world.publish()
    world.done()
    world.at(100)
    world.publish()
    world.done()
    world.at(249)
    assert not world.disk.jobs
    world.at(250)
    assert world.disk.jobs == [Sync()]


def test_nothing_is_synced_when_nothing_was_written(world):
    world.store.change(("SELECT 1", ()))
    world.store.end_turn()
    world.done()
    assert world.timers.next_deadline() is None
    world.publish()
    world.done()
    world.at(INTERVAL)
    world.done()
    assert world.timers.next_deadline() is None
    world.store.sync()
    assert not world.disk.jobs


def test_at_most_one_sync_is_under_way_and_commits_gather_behind_it(world):
    world.publish()
    world.done()
    world.at(INTERVAL)
    world.publish()
    world.publish()
    world.at(5 * INTERVAL)
    assert world.disk.jobs == [Sync()]
    world.done()
    assert [type(job) for job in world.disk.jobs] == [Commit]
    world.done()
    assert world.timers.next_deadline() == 6 * INTERVAL


def test_a_sync_covers_the_commit_that_is_written_before_it(world):
    world.publish()
    world.done()
    world.publish()
    world.at(INTERVAL)
    assert [type(job) for job in world.disk.jobs] == [Commit, Sync]
    world.done()
    assert not world.store.failure
    world.done()
    assert not world.store.unsynced


def test_a_sync_that_failed_stops_commits_until_it_was_made_up_for(world):
    world.publish()
    world.done()
    world.at(INTERVAL)
    world.done(OSError("the disk is gone"))
    assert world.store.failure == "the disk is gone"
    world.publish()
    assert (world.disk.jobs, world.store.committed_batch) == ([], 1)
    world.at(INTERVAL + 1000)
    assert world.disk.jobs == [Sync()]
    world.done()
    assert world.store.failure is None
    world.done()
    assert world.store.committed_batch == 2


# -- on disk ----------------------------------------------------------------------------------------------


def commit(position):
    return Commit([], pack_publish([(ONE, position, 0)], ROUTE, frames(position)), position, sync=False)


@pytest.mark.parametrize("left", [True, False], ids=["reached", "dropped"])
@pytest.mark.parametrize("then", [Sync(), commit(4)], ids=["sync", "commit"])
def test_what_was_not_on_disk_when_a_sync_failed_goes_into_a_new_file(then, left):
    files = FailingFiles(left=left)
    writer = open_writer(files)
    for position in (1, 2, 3):
        writer.run(commit(position))
        if position == 1:
            writer.run(Sync())
    files.fail = range(files.operations + 1, files.operations + 2)
    with pytest.raises(OSError, match="Input/output error"):
        writer.run(Sync())
    writer.run(then)
    assert numbers(files, JOURNAL) == [1, 2]
    expected = {1, 2, 3} if isinstance(then, Sync) else {1, 2, 3, 4}
    for seed in range(20):
        assert read(files.cut_power(seed)).messages.keys() == expected


@pytest.mark.parametrize("operation", range(1, 6))
def test_a_disk_that_fails_on_leaves_no_files_and_forgets_nothing(operation):
    files = FailingFiles()
    writer = open_writer(files)
    for position in (1, 2):
        writer.run(commit(position))
    files.fail = range(files.operations + 1, files.operations + 1 + 3 * operation)
    job = commit(3)
    failures = 0
    while True:
        try:
            writer.run(Sync() if failures % 2 == 0 else job)
        except OSError:
            failures += 1
            continue
        break
    if failures % 2 == 0:
        writer.run(job)
    writer.close()
    assert len(numbers(files, JOURNAL)) == 2
    for seed in range(20):
        assert read(files.cut_power(seed)).messages.keys() == {1, 2, 3}
    assert not files.open_files


def test_a_checkpoint_and_the_end_sync_what_is_before_them():
    files = FailingFiles()
    writer = open_writer(files)
    writer.run(commit(1))
    writer.run(SaveCheckpoint(Checkpoint(1, 1), []))
    assert all(read(files.cut_power(seed)).messages.keys() == {1} for seed in range(20))
    writer.run(commit(2))
    writer.close()
    assert all(read(files.cut_power(seed)).messages.keys() == {1, 2} for seed in range(20))


def test_a_broker_that_stops_after_a_failed_sync_writes_what_was_not_on_disk():
    files = FailingFiles()
    writer = open_writer(files)
    writer.run(commit(1))
    files.fail = range(files.operations + 1, files.operations + 2)
    with pytest.raises(OSError, match="Input/output error"):
        writer.run(Sync())
    writer.close()
    assert all(read(files.cut_power(seed)).messages.keys() == {1} for seed in range(20))


def test_a_sync_lets_no_batch_overtake_one_that_failed(world):
    world.publish()
    world.done()
    world.publish()
    world.at(INTERVAL)
    assert [type(job) for job in world.disk.jobs] == [Commit, Sync]
    world.done(OSError("no space"))
    world.done()
    world.publish()
    assert world.disk.jobs == []
    assert world.store.committed_batch == 1
    world.at(INTERVAL + 1000)
    assert [job.sequence for job in world.disk.jobs] == [2]
    world.done()
    assert world.store.committed_batch == 2
