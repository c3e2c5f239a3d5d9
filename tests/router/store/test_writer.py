"""The writer, with every operation failing in its turn, and what a power cut leaves at every moment."""

import errno
from pathlib import Path

import pytest

from leveret.router.persistence.rows import VHostRow
from leveret.router.store.journal.checkpoint import Checkpoint, PageState, QueueState
from leveret.router.store.journal.journal import numbers, path_of
from leveret.router.store.journal.reading import Journal, read_header
from leveret.router.store.journal.records import PublishRecord, pack_publish, unpack
from leveret.router.store.metadata.statements import keep
from leveret.router.store.segments.pages import StoredMessage, pack_page, segment_path, unpack_page
from leveret.router.store.writer import Commit, RemoveSegments, SaveCheckpoint, WritePages, Writer
from tests.router.store.checkpoints import read_checkpoint
from tests.router.store.failing import FailingFiles, Killed

DATA = Path("/data")
JOURNAL = DATA / "journal"
ONE, TWO = 1, 2
ROUTE = b"\x01e\x01k"


def frames(position):
    return b"message %d " % position * 30


class Statements:
    """Stands in for the metadata: keeps what was committed."""

    def __init__(self, failures=0):
        self.committed = []
        self.failures = failures
        self.closed = False

    def commit(self, statements, *, with_batch=False):
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "the database is full")
        self.committed += statements

    def close(self):
        self.closed = True


def open_writer(files, *, journal_size=1024, metadata=None):
    """A writer that goes on behind what is there, and what there is."""
    found = read(files)
    return Writer(
        files,
        DATA,
        metadata or Statements(),
        next_journal=max(numbers(files, JOURNAL), default=0) + 1,
        synced=found.sequence - 1,
        journal_size=journal_size,
    )


class Found:
    """What a reader finds in a directory: messages by position. Raises DamageError."""

    def __init__(self, files):
        checkpoint = read_checkpoint(files, DATA)
        self.messages = {}
        for queue in checkpoint.queues:
            for page in queue.pages:
                descriptor = files.open(segment_path(DATA, page.segment))
                data = files.read(descriptor, page.length, page.offset)
                files.close(descriptor)
                self.messages.update((each.position, each.frames) for each in unpack_page(data, queue.id))
        journal = Journal(files, JOURNAL, checkpoint.journal, checkpoint.sequence)
        for batch in journal:
            for record in unpack(batch.payload):
                assert isinstance(record, PublishRecord)
                self.messages.update((position, record.frames) for _, position, _ in record.targets)
        self.sequence = journal.sequence
        self.numbers = journal.numbers


def read(files):
    return Found(files)


class Core:
    """What the store does with its jobs, in small: one message a batch, and pages now and then."""

    def __init__(self, files, *, sync=True):
        self.files = files
        self.sync = sync
        self.tried = set()  # positions
        self.promised = set()  # of them, those that were said to be on disk
        self.go_on()

    def go_on(self):
        """With what is there."""
        found = read(self.files)
        self.writer = open_writer(self.files)
        self.sequence = found.sequence
        self.kept = dict(found.messages)
        self.numbers = found.numbers
        segments = [int(path.stem) for path in self.files.list(DATA / "segments")]
        self.segment = max(segments, default=0) + 1
        checkpoint = read_checkpoint(self.files, DATA)
        self.needed = {page.segment for queue in checkpoint.queues for page in queue.pages}

    def do(self, job):
        """Have a job done, and try again until it is."""
        for _ in range(8):
            try:
                return self.writer.run(job)
            except OSError:
                self.check()
        raise AssertionError("the writer does not come back")

    def publish(self):
        position = max(self.tried, default=0) + 1
        self.tried.add(position)
        parts = pack_publish([(ONE, position, 0)], ROUTE, frames(position))
        number = self.do(Commit([keep(VHostRow(str(position)))], parts, self.sequence, self.sync))
        assert number >= max(self.numbers, default=1)
        if number not in self.numbers:
            self.numbers = [*self.numbers, number]
            self.first = self.sequence
        self.kept[position] = frames(position)
        self.sequence += 1
        if self.sync:
            self.promised.add(position)
        self.check()

    def retire(self):
        """Move everything into a page of another segment and begin reading with the file being written."""
        stored = [StoredMessage(position, 0, 0, ROUTE, body) for position, body in sorted(self.kept.items())]
        data = pack_page(ONE, stored)
        half = len(data) // 2
        self.do(WritePages(self.segment, [(0, data[:half]), (half, data[half:])], sync=True))
        self.check()
        positions = b"".join(each.position.to_bytes(8, "big") for each in stored)
        ends = stored[0].position, stored[-1].position
        page = PageState(self.segment, 0, len(data), *ends, positions, 0, 0, 0, [], {})
        queue = QueueState(ONE, ends[1] + 1, 0, [page])
        old, self.needed = self.needed, {self.segment}
        self.do(SaveCheckpoint(Checkpoint(self.numbers[-1], self.first, [queue]), sorted(old)))
        self.segment += 1
        self.check()

    def all(self):
        for _ in range(5):
            self.publish()
        self.retire()
        for _ in range(3):
            self.publish()
        self.retire()
        self.publish()

    def check(self):
        """Wherever the power is cut, all that was promised is found, and nothing that was never written."""
        for seed in range(4):
            found = read(self.files.cut_power(seed))
            assert found.messages.keys() >= self.promised
            assert found.messages.keys() <= self.tried
            assert all(body == frames(position) for position, body in found.messages.items())


def failing_core(operation, times=1, *, sync=True, **how):
    """One whose operations fail from the given one on, which is counted from when the directory was read."""
    core = Core(FailingFiles(**how), sync=sync)
    begin = core.files.operations + operation
    core.files.fail = range(begin, begin + times)
    return core


def count_operations():
    core = Core(FailingFiles())
    before = core.files.operations
    core.all()
    return core.files.operations - before


OPERATIONS = range(1, count_operations() + 1)


def test_everything_that_was_committed_is_found():
    core = Core(FailingFiles())
    core.all()
    assert read(core.files).messages.keys() == core.promised == set(range(1, 10))
    assert len(core.files.open_files) == 2
    core.writer.close()
    assert not core.files.open_files


@pytest.mark.slow
@pytest.mark.parametrize("left", [True, False], ids=["reached", "dropped"])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_whatever_fails_what_was_committed_is_found(times, left):
    for operation in OPERATIONS:
        core = failing_core(operation, times, left=left)
        core.all()
        assert read(core.files).messages.keys() == core.promised == core.tried
        core.writer.close()
        assert not core.files.open_files


@pytest.mark.slow
@pytest.mark.parametrize("left", [True, False], ids=["reached", "dropped"])
@pytest.mark.parametrize("power", [True, False], ids=["power cut", "process killed"])
def test_whenever_the_process_ends_what_was_committed_is_found_and_it_goes_on(power, left):
    for operation in OPERATIONS:
        core = failing_core(operation, left=left, kill=True)
        with pytest.raises(Killed):
            core.all()
        core.files = core.files.cut_power(operation) if power else core.files.restart_process()
        core.check()
        core.go_on()
        core.promised = set(core.kept)  # for now somebody may have got them
        core.all()
        assert read(core.files).messages.keys() == core.promised


@pytest.mark.parametrize("left", [True, False], ids=["reached", "dropped"])
def test_without_syncs_a_power_cut_is_never_taken_for_damage(left):
    for operation in OPERATIONS:
        core = failing_core(operation, left=left, sync=False)
        core.all()


def test_without_syncs_a_process_that_ends_loses_nothing():
    core = Core(FailingFiles(), sync=False)
    core.all()
    assert read(core.files.restart_process()).messages.keys() == core.tried


def test_a_commit_is_one_write_and_one_sync():
    names = []
    files = FailingFiles(before=lambda name, _: names.append(name))
    core = Core(files)
    core.publish()
    names.clear()
    core.writer.run(Commit([], [b"\0" * 5], core.sequence, sync=True))
    core.writer.run(Commit([], [b"\0" * 5], core.sequence + 1, sync=False))
    assert names == ["write", "sync", "write"]


def test_metadata_is_committed_before_the_journal():
    metadata = Statements()
    files = FailingFiles()
    writer = open_writer(files, metadata=metadata)
    committed = []
    files.before = lambda name, _: committed.append(list(metadata.committed))
    writer.run(Commit([keep(VHostRow("/"))], [b"x"], 1, sync=True))
    assert committed
    assert all(each == [keep(VHostRow("/"))] for each in committed)


def test_what_metadata_refuses_does_not_reach_the_journal():
    files = FailingFiles()
    writer = open_writer(files, metadata=Statements(failures=1))
    job = Commit([keep(VHostRow("/"))], pack_publish([(ONE, 1, 0)], ROUTE, b"x"), 1, sync=True)
    with pytest.raises(OSError, match="the database is full"):
        writer.run(job)
    assert not files.seen
    writer.run(job)
    assert read(files).messages == {1: b"x"}


def test_a_commit_of_metadata_alone_writes_no_batch():
    files = FailingFiles()
    metadata = Statements()
    writer = open_writer(files, metadata=metadata)
    assert writer.run(Commit([keep(VHostRow("/"))], [], 1, sync=True)) == 0
    assert metadata.committed == [keep(VHostRow("/"))]
    assert not files.seen


def test_a_full_file_is_followed_by_another():
    files = FailingFiles()
    writer = open_writer(files, journal_size=100)
    went = [writer.run(Commit([], [b"x" * size], at, sync=True)) for at, size in enumerate((9, 9, 999, 9), 1)]
    assert went == [1, 1, 2, 3]
    assert len(files.open_files) == 1


def test_a_checkpoint_takes_the_files_before_it_away():
    files = FailingFiles()
    writer = open_writer(files, journal_size=0)
    for sequence in range(1, 5):
        writer.run(Commit([], [b""], sequence, sync=True))
    for segment in (1, 2, 3):
        writer.run(WritePages(segment, [(0, b"page")], sync=True))
    writer.run(SaveCheckpoint(Checkpoint(3, 3), [1, 3]))
    assert [path for path in files.seen if path.parent == JOURNAL] == [
        path_of(JOURNAL, 3),
        path_of(JOURNAL, 4),
    ]
    assert files.list(DATA / "segments") == [segment_path(DATA, 2)]
    writer.run(RemoveSegments([2, 9]))
    assert files.list(DATA / "segments") == []
    writer.close()
    assert not files.open_files


def test_files_that_came_back_after_a_power_cut_are_taken_away_by_the_next_checkpoint():
    files = FailingFiles()
    writer = open_writer(files, journal_size=0)
    for sequence in range(1, 4):
        writer.run(Commit([], [b""], sequence, sync=True))
    writer.run(SaveCheckpoint(Checkpoint(3, 3), []))
    after = next(image for image in map(files.cut_power, range(99)) if numbers(image, JOURNAL) == [1, 2, 3])
    writer = open_writer(after)
    writer.run(Commit([], [b""], 4, sync=True))
    writer.run(SaveCheckpoint(Checkpoint(4, 4), []))
    assert numbers(after, JOURNAL) == [4]


def test_a_journal_that_was_closed_says_that_all_of_it_was_on_disk():
    files = FailingFiles()
    core = Core(files, sync=False)
    core.publish()
    core.writer.close()
    assert all(read(files.cut_power(seed)).messages.keys() == {1} for seed in range(9))
    assert [batch.synced for batch in Journal(files, JOURNAL, 1, 1)] == [0, 1]


def test_the_file_after_a_failed_write_records_what_was_on_disk():
    files = FailingFiles()
    writer = open_writer(files)
    writer.run(Commit([], [b"x"], 1, sync=True))
    writer.run(Commit([], [b"y"], 2, sync=True))
    files.fail = range(files.operations + 1, files.operations + 2)
    job = Commit([], [b"z"], 3, sync=True)
    with pytest.raises(OSError, match="Input/output error"):
        writer.run(job)
    assert writer.run(job) == 2
    path = path_of(JOURNAL, 2)
    assert read_header(path, 2, bytes(files.seen[path].seen))[:2] == (3, 2)


def test_a_segment_that_was_removed_while_it_was_open_is_created_again():
    files = FailingFiles()
    writer = open_writer(files)
    for data in (b"one", b"two"):
        writer.run(WritePages(1, [(0, data)], sync=True))
        assert files.seen[segment_path(DATA, 1)].seen == data
        writer.run(RemoveSegments([1]))
        assert not files.open_files


def test_a_segment_whose_making_failed_at_the_last_is_taken_with_its_name():
    files = FailingFiles(left=True)
    writer = open_writer(files)
    files.fail = range(files.operations + 2, files.operations + 3)  # behind the look whether it is there
    with pytest.raises(OSError, match="Input/output error"):
        writer.run(WritePages(1, [(0, b"page")], sync=True))
    writer.run(WritePages(1, [(0, b"page")], sync=True))
    assert all(files.cut_power(seed).seen[segment_path(DATA, 1)].seen == b"page" for seed in range(9))


@pytest.mark.parametrize("operation", [1, 2, 3])
def test_closing_closes_everything_though_the_disk_fails(operation):
    files = FailingFiles()
    metadata = Statements()
    writer = open_writer(files, metadata=metadata)
    writer.run(Commit([], [b"x"], 1, sync=False))
    writer.run(WritePages(1, [(0, b"page")], sync=False))
    files.fail = range(files.operations + operation, files.operations + operation + 1)
    with pytest.raises(OSError, match="Input/output error"):
        writer.close()
    assert not files.open_files
    assert metadata.closed
