"""The store: gathering changes, the order of commits, and the state after a failure."""

import pytest

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.queue.entry import QueuedEntry
from leveret.router.store.journal.records import ProgressRecord, PublishRecord, unpack
from leveret.router.store.segments.pages import StoredPage
from leveret.router.store.store import MOST_FILES, Store
from leveret.router.store.writer import Commit, RemoveSegments


class FakeDisk:
    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)


class FakeQueue:
    vhost, name, auto_delete, arguments = "/", "q", False, {}

    def __init__(self, store):
        self.log = store.add_queue(self)
        self.position = 0

    def unpaged(self, first, below):
        return []

    def put(self, message):
        entry = QueuedEntry(message, self.position)
        self.position += 1
        self.log.store(entry, message)
        return entry


@pytest.fixture
def disk():
    return FakeDisk()


@pytest.fixture
def told():
    """The failures, or None for none, that the store had whenever it said that something changed."""
    return []


@pytest.fixture
def put_off():
    """A note for each time that the store has put something off."""
    return []


@pytest.fixture
def store(disk, told, put_off):
    store = Store(
        disk,
        sync=True,
        sequence=1,
        segment=1,
        next_queue_id=1,
        wall_offset=lambda: 0,
        changed=lambda: told.append(store.failure),
        put_off=lambda: put_off.append(True),
    )
    return store


def message(body=b"m"):
    return Message.build("x", "k", Properties(delivery_mode=2), body)


def records(job):
    return list(unpack(b"".join(job.parts)))


def finish(store, disk, error=None):
    """The disk has done the job it was given first."""
    job = disk.jobs.pop(0)
    store.done(job, 1, error)
    return job


def test_a_message_in_several_queues_is_written_once(store, disk):
    one, other, sent = FakeQueue(store), FakeQueue(store), message()
    one.put(sent)
    other.put(sent)
    store.end_turn()
    assert records(disk.jobs[0]) == [PublishRecord([(1, 0, 0), (2, 0, 0)], sent.route, sent.frames)]


def test_what_was_settled_in_its_own_turn_is_not_written(store, disk):
    queue = FakeQueue(store)
    entry = queue.put(message())
    entry.stored = False
    queue.log.settle([entry])
    store.end_turn()
    assert not any(isinstance(record, PublishRecord) for job in disk.jobs for record in records(job))


def test_one_batch_is_written_while_the_next_gathers(store, disk):
    queue = FakeQueue(store)
    for _ in range(3):
        queue.put(message())
        store.end_turn()
    assert len(disk.jobs) == 1
    first = finish(store, disk)
    assert len(records(first)) == 1
    assert store.committed_batch == 1
    assert [len(records(job)) for job in disk.jobs] == [2]
    finish(store, disk)
    assert (store.committed_batch, store.busy()) == (2, False)


def test_acknowledgements_of_a_turn_are_ranges(store, disk):
    queue = FakeQueue(store)
    entries = [queue.put(message()) for _ in range(5)]
    store.end_turn()
    finish(store, disk)
    for entry in entries[:3] + entries[4:]:
        queue.log.settle([entry])
    store.end_turn()
    store.flush()
    assert records(disk.jobs[0]) == [ProgressRecord(1, 0, [(0, 3), (4, 1)])]


def test_settlements_are_put_off_once_until_they_are_flushed(store, disk, put_off):
    queue = FakeQueue(store)
    entries = [queue.put(message()) for _ in range(3)]
    store.end_turn()
    finish(store, disk)
    for entry in entries[:2]:
        queue.log.settle([entry])
        store.end_turn()
    assert (disk.jobs, len(put_off), store.busy()) == ([], 1, True)
    store.flush()
    assert [records(job) for job in disk.jobs] == [[ProgressRecord(1, 0, [(0, 2)])]]
    queue.log.settle([entries[2]])
    store.end_turn()
    finish(store, disk)
    assert (disk.jobs, len(put_off)) == ([], 2)


def test_settlements_go_with_the_next_message(store, disk):
    queue = FakeQueue(store)
    entry = queue.put(message())
    store.end_turn()
    finish(store, disk)
    queue.log.settle([entry])
    store.end_turn()
    queue.put(message())
    store.end_turn()
    assert [type(record) for record in records(disk.jobs[0])] == [PublishRecord, ProgressRecord]
    finish(store, disk)
    store.flush()
    assert (disk.jobs, store.busy()) == ([], False)


def test_what_is_settled_before_its_batch_begins_to_be_written_never_is(store, disk):
    queue = FakeQueue(store)
    queue.put(message())
    store.end_turn()  # is being written from now on
    settled, kept = queue.put(message(b"settled")), queue.put(message(b"kept"))
    store.end_turn()
    queue.log.settle([settled])
    settled.stored = False  # as its queue does
    store.end_turn()
    finish(store, disk)
    publish, progress = records(disk.jobs[0])
    assert [target[1] for target in publish.targets] == [kept.position]
    assert progress.settled == [(settled.position, 1)]


def test_many_messages_do_not_wait_for_their_records_to_be_made(store, disk, monkeypatch):
    monkeypatch.setattr("leveret.router.store.commits.MOST_UNPACKED", 2)
    queue = FakeQueue(store)
    queue.put(message())
    store.end_turn()
    for _ in range(3):
        queue.put(message())
    store.end_turn()
    assert store.publishes == []
    queue.put(message())
    store.end_turn()
    finish(store, disk)
    assert [record.targets[0][1] for record in records(disk.jobs[0])] == [1, 2, 3, 4]


def test_settlements_that_a_reply_waits_for_are_not_put_off(store, disk):
    queue = FakeQueue(store)
    entry = queue.put(message())
    store.end_turn()
    finish(store, disk)
    assert store.hold() == 0
    queue.log.settle([entry])
    assert store.hold() == store.batch
    store.end_turn()
    assert records(disk.jobs[0]) == [ProgressRecord(1, 0, [(0, 1)])]


def test_what_is_flushed_while_a_batch_is_written_follows_it(store, disk):
    queue = FakeQueue(store)
    entry = queue.put(message())
    store.end_turn()
    queue.log.settle([entry])
    store.end_turn()
    store.flush()
    assert len(disk.jobs) == 1
    finish(store, disk)
    assert records(disk.jobs[0]) == [ProgressRecord(1, 0, [(0, 1)])]


def test_what_left_a_queue_is_committed_before_its_deletion(store, disk):
    source, target = FakeQueue(store), FakeQueue(store)
    entry = source.put(message())
    store.end_turn()
    finish(store, disk)
    target.put(message(b"dead letter"))
    source.log.settle([entry])
    store.forget_queue(source)
    store.end_turn()
    letters = finish(store, disk)
    assert not letters.statements
    assert {type(record) for record in records(letters)} == {PublishRecord, ProgressRecord}
    deletion = finish(store, disk)
    assert deletion.statements
    assert not deletion.parts
    assert not store.busy()


def test_queues_that_nothing_left_are_deleted_in_one_commit(store, disk):
    queues = [FakeQueue(store) for _ in range(3)]
    for queue in queues:
        store.forget_queue(queue)
    store.end_turn()
    deletion = finish(store, disk)
    assert sum(sql.startswith("DELETE FROM queues") for sql, _ in deletion.statements) == len(queues)
    assert not store.busy()


def test_changes_of_the_topology_alone_take_no_sequence_of_the_journal(store, disk):
    store.change(("SELECT 1", ()))
    store.end_turn()
    finish(store, disk)
    FakeQueue(store).put(message())
    store.end_turn()
    assert disk.jobs[0].sequence == 1
    assert store.batch == 3


def test_after_a_failure_nothing_is_committed_until_it_was_tried_again(store, disk):
    queue = FakeQueue(store)
    queue.put(message())
    store.end_turn()
    failed = finish(store, disk, OSError("no space"))
    queue.put(message())
    store.end_turn()
    assert (disk.jobs, store.committed_batch, store.failure) == ([], 0, "no space")
    store.on_timer(0)
    assert disk.jobs == [failed]
    finish(store, disk)
    assert (store.committed_batch, store.failure) == (1, None)
    assert isinstance(disk.jobs[0], Commit)


OTHER = RemoveSegments([1])  # a job that is no commit


def test_a_failure_is_over_when_its_retry_has_succeeded_without_another_commit(store, disk, told):
    store.done(OTHER, 0, OSError("no space"))
    store.on_timer(0)
    assert finish(store, disk) is OTHER
    assert told == ["no space", None]


@pytest.mark.parametrize("retried", [False, True])
def test_a_failure_lasts_while_something_else_is_written(store, disk, told, retried):
    FakeQueue(store).put(message())
    store.end_turn()
    store.done(OTHER, 0, OSError("no space"))
    if retried:
        store.on_timer(0)
    finish(store, disk)
    assert (store.committed_batch, told) == (1, ["no space", "no space"])


def test_a_retry_that_fails_is_tried_again(store, disk, told):
    store.done(OTHER, 0, OSError("no space"))
    store.on_timer(0)
    finish(store, disk, OSError("still no space"))
    store.on_timer(0)
    finish(store, disk)
    assert told == ["no space", "still no space", None]


def test_messages_purged_from_a_page_are_recorded_as_ranges(store, disk):
    log = FakeQueue(store).log
    page = StoredPage(log.id, 1, 0, 100, range(10, 2010), size=0, earliest=0)
    store.segments.recovered([1], [page])
    log.pages[page] = None
    log.discard(page, {500})
    assert log.discarded == [(10, 490), (501, 1509)]
    assert log.settled == []
    assert log.pages == {page: None}
    store.end_turn()
    store.flush()
    assert records(disk.jobs[0]) == [ProgressRecord(log.id, 0, [(10, 490), (501, 1509)])]


def test_what_takes_several_turns_and_is_one_whole_is_committed_at_once(store, disk):
    queue = FakeQueue(store)
    store.begin_whole()
    for body in (b"a", b"b", b"c"):
        queue.put(message(body))
        store.end_turn()
        store.flush()
    assert not disk.jobs
    store.end_whole()
    store.end_turn()
    [commit] = disk.jobs
    assert sum(isinstance(record, PublishRecord) for record in records(commit)) == 3


@pytest.mark.parametrize(
    ("files", "large", "small"),
    [(MOST_FILES, False, False), (MOST_FILES + 1, True, False), (2 * MOST_FILES + 1, True, True)],
)
def test_clients_with_small_reads_wait_only_for_twice_as_many_journal_files(store, files, large, small):
    store.retirement._files.extend([None] * files)
    assert (store.behind(0), store.behind(0, small=True)) == (large, small)
