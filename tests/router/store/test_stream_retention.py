"""Retention of stored streams and kill -9: what is removed stays removed, and counts as no damage."""

from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from leveret.router.store.files import DiskFiles
from leveret.router.store.journal.checkpoint import (
    NAME,
    Checkpoint,
    QueueState,
    decode_parts,
    pack_checkpoint,
    read_payload,
)
from leveret.router.store.journal.reading import Journal
from leveret.router.store.journal.records import JUMP, NoteRecord, unpack_readable
from leveret.router.store.journal.recovery import recover
from leveret.router.store.streams import log as stream_log
from leveret.router.store.streams.files import stream_files
from leveret.router.store.streams.writer import RemoveStream
from leveret.router.store.writer import Commit
from leveret.router.stream.first_offset import FIRST_OFFSET, pack_first_offset
from tests.router.store.checkpoints import read_checkpoint
from tests.router.store.kept import Kept
from tests.router.store.streams import declare, numbers, publish, read, whole
from tests.router.store.test_stream_damage import dump, look, lost, mend

pytestmark = pytest.mark.usefixtures("small_streams")

LIMITS = {"stream_max_segment_size_bytes": 500, "max_length_bytes": 2000}


@pytest.fixture
def _unwritten(small_streams):
    """Chunks stay in memory, so that a removed segment never had a file."""
    with patch.object(stream_log, "FLUSH", 1 << 22):
        yield


def stream_of(kept):
    return kept.node.vhost.queue("s")


def must_be_sound(path, first, behind):
    """The messages of these offsets are there for the check, the dump and a broker, which report nothing."""
    assert (look(path).damage, look(path).warnings) == ([], [])
    assert [line["offset"] for line in dump(path)] == [*range(first, behind)]
    with capture_logs() as logged:
        again = Kept(path, journal_size=1 << 20)
        assert (stream_of(again).first, stream_of(again).next) == (first, behind)
        assert read(again) == whole(first, behind)
        again.crash()
    assert [each for each in logged if each["log_level"] in ("warning", "error")] == []


@pytest.mark.usefixtures("_unwritten")
@pytest.mark.parametrize("sync", [True, False])
def test_a_stream_whose_segments_were_all_removed_is_not_damaged(quick_path, sync):
    kept = Kept(quick_path, journal_size=4000, sync=sync)
    declare(kept, **LIMITS)
    behind = first = 0
    for _ in range(4):
        publish(kept, *numbers(behind, behind + 60))
        behind += 60
        assert stream_of(kept).first > first
        first = stream_of(kept).first
        kept.crash()
        must_be_sound(quick_path, first, behind)
        kept = Kept(quick_path, journal_size=4000, sync=sync)
    kept.crash()
    with_file = stream_files(DiskFiles(), quick_path).get(1, [])
    assert all(each >= first for each in with_file)


@pytest.mark.usefixtures("_unwritten")
def test_messages_of_the_journal_below_the_first_offset_do_not_come_back(quick_path):
    kept = Kept(quick_path, journal_size=1 << 20)
    declare(kept, **LIMITS)
    publish(kept, *numbers(0, 200))
    first = stream_of(kept).first
    kept.crash()
    assert first > 0
    assert not stream_files(DiskFiles(), quick_path)
    assert list(recover(DiskFiles(), quick_path, [1]).queues[1].entries) == list(range(first, 200))
    assert look(quick_path).queues[1].messages == 200 - first
    must_be_sound(quick_path, first, 200)


@pytest.mark.parametrize("limits", [LIMITS, {"stream_max_segment_size_bytes": 1 << 20}])
def test_a_lost_only_segment_is_reported(quick_path, limits):
    """With the note of the first offset, and without."""
    kept = Kept(quick_path, journal_size=500)
    declare(kept, **limits)
    publish(kept, *numbers(0, 200))
    first = stream_of(kept).first
    kept.crash()
    assert (first > 0) == (limits is LIMITS)
    for path in (quick_path / "streams").iterdir():
        path.unlink()
    entries = recover(DiskFiles(), quick_path, [1]).queues[1].entries
    missing = {offset for offset in range(first, 200) if offset not in entries}
    assert missing
    with capture_logs() as logged:
        Kept(quick_path).crash()
    reported = [(each["first"], each["last"]) for each in logged if each["event"] == "offsets are missing"]
    assert reported == [(min(missing), max(missing))]
    found = mend(quick_path)
    assert found.damage
    assert lost(found) == missing
    must_be_sound(quick_path, max(missing) + 1, 200)


def test_a_segment_is_removed_after_the_note_of_the_first_offset_is_on_disk(quick_path):
    kept = Kept(quick_path, journal_size=1 << 20, sync=False)
    declare(kept, **LIMITS)
    jobs = []
    submit = kept.submit
    with patch.object(kept, "submit", lambda job: (jobs.append(job), submit(job))):
        publish(kept, *numbers(0, 200))
    removals = [number for number, job in enumerate(jobs) if isinstance(job, RemoveStream)]
    assert len(removals) > 3
    for number in removals:
        commit = next(job for job in reversed(jobs[:number]) if isinstance(job, Commit))
        after = max(jobs[number].segments)
        noted = [
            int.from_bytes(record.value)
            for _, _, record in unpack_readable(b"".join(commit.parts))
            if isinstance(record, NoteRecord) and record.key == FIRST_OFFSET
        ]
        assert noted
        assert noted[-1] > after
        assert commit.sync
    kept.crash()


def test_segments_of_an_interrupted_removal_are_removed_at_the_start(quick_path):
    kept = Kept(quick_path, journal_size=1 << 20)
    declare(kept, **LIMITS)
    submit = kept.submit
    with patch.object(kept, "submit", lambda job: None if isinstance(job, RemoveStream) else submit(job)):
        publish(kept, *numbers(0, 200))
    first = stream_of(kept).first
    kept.crash()
    assert stream_files(DiskFiles(), quick_path)[1][0] == 0
    found = look(quick_path)
    assert found.damage == []
    assert {each.what for each in found.warnings} == {
        "retention no longer needs the segment; the broker will remove it"
    }
    assert [line["offset"] for line in dump(quick_path)] == [*range(first, 200)]
    again = Kept(quick_path)
    assert read(again) == whole(first, 200)
    again.settle()
    again.crash()
    assert stream_files(DiskFiles(), quick_path)[1][0] == first
    must_be_sound(quick_path, first, 200)


@pytest.mark.usefixtures("_unwritten")
def test_the_first_offset_outlives_the_journal_file_it_was_in(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, **LIMITS)
    publish(kept, *numbers(0, 100))
    first = stream_of(kept).first
    kept.node.queue("q", durable=True)
    kept.publish(*numbers(0, 100))
    kept.crash()
    queues = read_checkpoint(DiskFiles(), quick_path).queues
    (state,) = (each for each in queues if each.id == 1)
    assert state.notes[FIRST_OFFSET] == pack_first_offset(first)
    assert recover(DiskFiles(), quick_path, [1]).queues[1].first_offset == first


@pytest.mark.usefixtures("_unwritten")
def test_a_note_in_the_journal_outlives_a_lost_checkpoint(quick_path):
    kept = Kept(quick_path, journal_size=1000)
    declare(kept, **LIMITS)
    for behind in range(1, 1000):  # until the oldest journal file begins with a note
        publish(kept, str(behind - 1))
        checkpoint = read_checkpoint(DiskFiles(), quick_path)
        journal = Journal(DiskFiles(), quick_path / "journal", checkpoint.journal, checkpoint.sequence)
        _, _, record = next(unpack_readable(next(iter(journal)).payload))
        if isinstance(record, NoteRecord):
            break
    else:
        pytest.fail("no journal file begins with a note")
    first = stream_of(kept).first
    kept.crash()
    (quick_path / NAME).write_bytes(b"spoiled")
    mend(quick_path)
    recovered = recover(DiskFiles(), quick_path, [1])
    assert (recovered.queues[1].first_offset, recovered.broken) == (first, [])
    with capture_logs() as logged:
        again = Kept(quick_path)
        assert read(again) == whole(first, behind)
        again.crash()
    assert [each for each in logged if each["log_level"] == "error"] == []


def test_an_impossible_first_offset_is_set_aside_and_hides_nothing(quick_path):
    kept = Kept(quick_path, journal_size=1 << 20)
    stream = declare(kept)
    publish(kept, *numbers(0, 20))
    stream.log.notes.put(FIRST_OFFSET, pack_first_offset(JUMP + 21))
    kept.settle()
    kept.crash()
    again = Kept(quick_path)
    assert read(again) == whole(0, 20)
    assert sum(again.store.set_aside.values()) == 1
    again.crash()


def test_an_impossible_first_offset_in_a_checkpoint_is_left_out(quick_path):
    notes = {FIRST_OFFSET: pack_first_offset(21), b"p": b"other"}
    DiskFiles().replace(
        quick_path / NAME, pack_checkpoint(Checkpoint(queues=[QueueState(1, 20, 0, (), notes)]))
    )
    payload = read_payload(DiskFiles(), quick_path)
    checkpoint, wrong = decode_parts(payload)
    assert wrong == {1: "first offset 21 is beyond the next position, 20"}
    assert checkpoint.queues[0].notes == {b"p": b"other"}
