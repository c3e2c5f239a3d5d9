"""Truncation of the journal: messages that move into pages, checkpoints, and removed files."""

import pytest

from leveret.router.store.journal import truncation as retirement
from leveret.router.store.store import Store
from leveret.router.store.writer import Commit, SaveCheckpoint, WritePages
from leveret.router.turns.backlog import start_at_once
from tests.router.harness import Node
from tests.router.store.checkpoints import read_checkpoint
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import Kept

pytestmark = pytest.mark.usefixtures("small")


# -- what waits for what ----------------------------------------------------------------------------------


class Disk:
    """Jobs are done when a test says so. If ``sliced``, so are the slices of the store's long work."""

    def __init__(self):
        self.jobs = []
        self.work = []
        self.sliced = False
        self.store = None

    def start(self, what, slices):
        if self.sliced:
            self.work.append(slices)
        else:
            start_at_once(what, slices)

    def do_slices(self, count):
        for _ in range(count):
            if self.work and next(self.work[0], True):
                self.work.pop(0)

    def submit(self, job):
        self.jobs.append(job)

    def kinds(self):
        return [type(job) for job in self.jobs]

    def do(self, kind, file=1):
        """The first job of a kind is done; a commit went to this journal file."""
        job = next(job for job in self.jobs if isinstance(job, kind))
        self.jobs.remove(job)
        self.store.done(job, file, None)
        return job


def named_in(job):
    """Return the segments that a checkpoint names. The job is not done yet."""
    return {page.segment for queue in job.checkpoint.queues for page in queue.pages}


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def node(disk):
    node = Node()
    node.broker.storage = disk.store = Store(
        disk,
        sync=True,
        sequence=1,
        segment=1,
        next_queue_id=1,
        wall_offset=lambda: 0,
        put_off=lambda: None,
        changed=lambda: None,
        start=disk.start,
    )
    node.queue(durable=True)
    node.settle()
    disk.do(Commit, 0)
    return node


@pytest.fixture
def client(node):
    return node.client()


def publish(client, count, delivery_mode=2):
    for _ in range(count):
        client.publish("m", delivery_mode=delivery_mode)
    client.node.settle()


def begin(client, disk, count=3):
    """The first journal file is full, with so many messages, and its retirement has begun."""
    publish(client, count)
    disk.do(Commit, 1)
    publish(client, 1)
    disk.do(Commit, 2)


def test_a_checkpoint_waits_for_the_page_of_what_lives_on(client, disk):
    begin(client, disk)
    assert disk.kinds() == [WritePages]
    disk.do(WritePages)
    (job,) = disk.jobs
    assert isinstance(job, SaveCheckpoint)
    assert (job.checkpoint.journal, job.checkpoint.sequence) == (2, 2)
    (queue,) = job.checkpoint.queues
    assert [(page.first, page.last) for page in queue.pages] == [(0, 2)]


def test_pages_are_written_some_at_a_time(client, disk, monkeypatch):
    monkeypatch.setattr(retirement, "STEP", 1)
    begin(client, disk, 10)
    for _ in range(3):
        assert disk.kinds() == [WritePages]
        disk.do(WritePages)
    assert disk.kinds() == [SaveCheckpoint]


def test_pages_that_are_small_are_written_together(client, disk):
    begin(client, disk, 10)
    assert disk.kinds() == [WritePages]
    disk.do(WritePages)
    assert disk.kinds() == [SaveCheckpoint]


def test_what_was_settled_before_its_journal_file_is_full_is_not_written_again(client, disk):
    publish(client, 3)
    disk.do(Commit, 1)
    for _ in range(3):
        client.get()
    publish(client, 1)
    disk.do(Commit, 2)
    assert disk.kinds() == [SaveCheckpoint]


def test_a_checkpoint_waits_for_the_batch_whose_effects_it_contains(node, client, disk):
    begin(client, disk)
    client.get()
    publish(client, 1)
    disk.do(WritePages)
    assert disk.kinds() == [Commit], "that the first message is settled is not on disk yet"
    disk.do(Commit, 2)
    (job,) = disk.jobs
    assert job.checkpoint.queues[0].pages[0].settled == [(0, 1)]


def test_a_checkpoint_waits_for_pages_that_leave_memory_meanwhile(node, client, disk):
    begin(client, disk)
    disk.store.pager.budget = 0
    publish(client, 10)
    assert disk.kinds() == [WritePages, Commit, WritePages]
    disk.do(Commit, 2)
    disk.do(WritePages)
    assert disk.kinds() == [WritePages], "what was paged out is told of, and not yet written"
    disk.do(WritePages)
    (job,) = disk.jobs
    assert isinstance(job, SaveCheckpoint)
    told = {position for page in job.checkpoint.queues[0].pages for position in range(page.first, page.last)}
    assert len(job.checkpoint.queues[0].pages) > 2
    assert told <= set(range(14))


def test_pages_written_after_their_queue_was_deleted_are_ignored(node, client, disk):
    begin(client, disk)
    node.vhost.delete_queue(node.vhost.queues["q"])
    node.settle()
    disk.do(WritePages)
    while Commit in disk.kinds():
        disk.do(Commit, 2)
    (job,) = disk.jobs
    assert list(job.checkpoint.queues) == []


def test_a_checkpoint_is_saved_for_the_sake_of_dead_segments_alone(node, client, disk):
    begin(client, disk)
    disk.do(WritePages)
    disk.do(SaveCheckpoint)
    disk.store.segments.begin_another()
    for _ in range(4):
        client.get()
    publish(client, 1)
    disk.do(Commit, 2)
    (job,) = disk.jobs
    assert isinstance(job, SaveCheckpoint)
    assert (list(job.segments), job.checkpoint.journal) == ([1], 2)


@pytest.mark.parametrize("when", range(20))
def test_a_segment_that_dies_while_a_checkpoint_is_made_is_not_removed_if_it_is_named(
    node, client, disk, monkeypatch, when
):
    monkeypatch.setattr(retirement, "LOGS", 1)
    begin(client, disk)
    disk.do(WritePages)
    disk.do(SaveCheckpoint)
    disk.store.segments.begin_another()
    for name in ("second", "third"):
        node.queue(name, durable=True)
    disk.sliced = True
    publish(client, 3)
    removed = []
    for step in range(100):
        if step == when:  # the first segment dies
            while client.get() is not None:
                pass
            publish(client, 1)
        disk.do_slices(1)
        if not disk.jobs:
            continue
        job = disk.jobs[0]
        if isinstance(job, SaveCheckpoint):
            assert named_in(job).isdisjoint(job.segments)
            removed += job.segments
            publish(client, 1)
        disk.do(type(job), 3)
    assert 1 in removed


# -- on disk ----------------------------------------------------------------------------------------------


@pytest.fixture
def files():
    return FailingFiles()


def keep(path, files, **options):
    return Kept(path, files=files, journal_size=2048, **options)


def fill(path, files, count=100, budget=0):
    """A broker with persistent and transient messages in turn, and journal files that went."""
    kept = keep(path, files, budget=budget)
    kept.node.queue("q", durable=True)
    kept.settle()
    for number in range(count):
        kept.client.publish(str(number), "q", delivery_mode=1 + number % 2)
        if number % 3 == 0:
            kept.settle()
    kept.settle()
    return kept


def take_all(kept):
    return [int(taken[1].message.body) for taken in iter(kept.get, None)]


def test_transient_messages_of_a_page_count_as_lost_in_the_checkpoint(quick_path, files):
    kept = fill(quick_path, files)
    (queue,) = read_checkpoint(files, quick_path).queues
    assert queue.pages
    lost = {
        position
        for page in queue.pages
        for first, count in page.settled
        for position in range(first, first + count)
    }
    assert lost
    assert {position % 2 for position in lost} == {0}
    assert take_all(kept) == list(range(100)), "as long as the broker runs they are there"
    kept.stop()


def test_transient_messages_of_a_page_are_gone_after_a_restart(quick_path, files):
    fill(quick_path, files).crash()
    kept = keep(quick_path, files)
    assert take_all(kept) == list(range(1, 100, 2))
    kept.stop()


@pytest.mark.parametrize("how", ["stop", "crash"])
@pytest.mark.parametrize("last", [1, 2])
def test_positions_are_not_given_again_after_a_restart(quick_path, files, how, last):
    """Not those of transient messages either, which stand in pages: a new message would be taken for one."""
    kept = keep(quick_path, files, budget=0)
    kept.node.queue("q", durable=True)
    kept.settle()
    for number in range(30):
        kept.client.publish(str(number), "q", delivery_mode=1 + number % 2)
    for number in range(30, 41):
        kept.client.publish(str(number), "q", delivery_mode=last)
    kept.settle()
    kept.node.queue("other", durable=True)
    for number in range(41, 80):
        kept.publish(str(number), queue="other")
    (queue, _) = read_checkpoint(files, quick_path).queues
    assert max(page.last for page in queue.pages) > 29, "the last of a page is transient"
    getattr(kept, how)()
    expected = [*range(1, 30, 2), *(range(30, 41) if last == 2 else ())]
    for number in range(100, 106):
        kept = keep(quick_path, files, budget=0)
        kept.publish(str(number))
        expected.append(number)
        kept.crash()
    kept = keep(quick_path, files, budget=0)
    assert take_all(kept) == expected
    kept.stop()


def test_what_is_held_lives_on_in_a_page_and_comes_back_as_redelivered(quick_path, files):
    kept = fill(quick_path, files, 1, budget=1 << 60)
    kept.publish("held")
    assert kept.client.get() == "0"
    assert kept.client.get(no_ack=False) == "held"
    for _ in range(60):
        kept.publish("x" * 50)
        kept.take(1)
    assert read_checkpoint(files, quick_path).queues[0].pages
    kept.crash()
    kept = keep(quick_path, files)
    _, entry, _ = kept.get()
    assert (entry.message.body, entry.returns > 0) == (b"held", True)
    kept.stop()


def test_the_number_of_returns_is_recorded(quick_path, files):
    kept = keep(quick_path, files)
    kept.node.queue("q", queue_type="quorum", delivery_limit=-1)
    kept.publish("often")
    for number in range(3):
        kept.client.get(no_ack=False)
        kept.client.session.nack(number + 1, multiple=False, requeue=True)
        kept.settle()
    kept.node.queue("busy", durable=True)
    for _ in range(60):
        kept.publish("x" * 50, queue="busy")
        kept.take(1, "busy")
    assert read_checkpoint(files, quick_path).queues[0].pages
    kept.stop()
    kept = keep(quick_path, files)
    assert kept.get()[1].returns == 3
    kept.stop()


@pytest.mark.parametrize("restart", [False, True])
def test_after_a_drain_nothing_is_left_on_disk(quick_path, files, restart):
    kept = fill(quick_path, files, 200)
    assert files.list(quick_path / "segments")
    if restart:
        kept.crash()
        kept = keep(quick_path, files, budget=0)
    while kept.get() is not None:
        kept.settle()
    kept.settle()
    assert not any(page for log in kept.store.logs.values() for page in log.pages)
    for _ in range(2):  # a checkpoint goes with the next batch
        kept.publish("x")
        kept.take(1)
    assert files.list(quick_path / "segments") == []
    assert files.list(quick_path / "transient") == []
    assert len(files.list(quick_path / "journal")) <= 2
    kept.stop()


@pytest.mark.parametrize("end", ["purge", "delete"])
def test_what_was_purged_or_deleted_leaves_nothing_on_disk(quick_path, files, end):
    kept = fill(quick_path, files, 100)
    kept.node.queue("other", durable=True)
    queue = kept.node.vhost.queues["q"]
    assert queue.purge() == 100 if end == "purge" else kept.node.vhost.delete_queue(queue) == 100
    kept.settle()
    for _ in range(2):
        kept.publish("x", queue="other")
        kept.take(1, "other")
    assert files.list(quick_path / "segments") == []
    assert files.list(quick_path / "transient") == []
    kept.crash()
    kept = keep(quick_path, files)
    assert ("q" in kept.node.vhost.queues) == (end == "purge")
    if end == "purge":
        assert kept.get() is None
    kept.stop()
