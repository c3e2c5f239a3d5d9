"""Notes, when the checkpoint is made anew: those of the journal are kept, that others are lost is said."""

from datetime import UTC, datetime

import pytest

from leveret.router.store.journal.checkpoint import MAGIC, NAME
from leveret.router.store.offline.check import check
from leveret.router.store.offline.directory import ReadOnlyFiles, lock
from leveret.router.store.offline.repair import repair
from leveret.router.store.streams.files import stream_files
from tests.router.harness import message
from tests.router.store.checkpoints import read_checkpoint
from tests.router.store.kept import Kept
from tests.router.store.streams import declare, numbers, publish, read, whole

pytestmark = pytest.mark.usefixtures("small_streams")

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIZE = 1000  # of a journal file
SAID = "those in the checkpoint alone are lost: duplicates may be accepted"
ONCE = {"x-message-deduplication": True}


def mend(path):
    held = lock(path)
    found = check(path, held.stopped or 0).inspection
    repair(path, found, NOW)
    held.forget()
    held.leave()
    return found


def spoil_checkpoint(path):
    assert (path / NAME).exists()
    (path / NAME).write_bytes(MAGIC + b" and then nothing that makes sense")


def noted(path):
    """The keys of all notes in the checkpoint."""
    return {key for queue in read_checkpoint(ReadOnlyFiles(), path).queues for key in queue.notes}


def numbered(kept, name):
    headers = {"x-publisher-name": name, "x-publishing-id": 5}
    kept.client.session.publish(message(name, "s", headers=headers))
    kept.settle()


def once(kept, value):
    kept.client.publish(value, "", "x", headers={"x-deduplication-header": value}, delivery_mode=2)
    kept.settle()


def written(path):
    """Early notes that are in the checkpoint alone, late ones in the journal, all of three kinds."""
    kept = Kept(path, journal_size=SIZE)
    stream = declare(kept)
    exchange = kept.node.vhost.declare_exchange("x", "fanout", durable=True, arguments=ONCE)
    kept.node.vhost.bind(exchange, kept.node.queue("q", durable=True), "")
    for when in ("early", "late"):
        once(kept, when)
        numbered(kept, when)
        stream.positions.put(when, 7, 0, stream.notes)
        kept.settle()
        if when == "early":
            publish(kept, *numbers(0, 100))
            kept.settle()
    kept.stop()


def test_notes_of_the_journal_are_kept_and_that_others_are_lost_is_said(tmp_path):
    written(tmp_path)
    assert noted(tmp_path) == {b"dsearly", b"iearly", b"pearly"}
    spoil_checkpoint(tmp_path)
    found = mend(tmp_path)
    assert any(SAID in remark for remark in found.remarks)
    kept = Kept(tmp_path, journal_size=SIZE)
    stream = kept.node.vhost.queues["s"]
    assert [name for name, _ in stream.positions] == ["late"]
    for when in ("early", "late"):
        once(kept, when)
        numbered(kept, when)
    queued = [kept.get()[1].message.body for _ in range(3)]
    assert queued == [b"early", b"late", b"early"]
    assert not kept.node.vhost.queues["q"].ready
    bodies = [body for _, body in read(kept)]
    assert (bodies.count("early"), bodies.count("late")) == (2, 1)
    kept.stop()


@pytest.mark.slow
def test_without_damage_nothing_is_said_and_nothing_lost(tmp_path):
    written(tmp_path)
    assert not check(tmp_path, 0).inspection.remarks
    kept = Kept(tmp_path, journal_size=SIZE)
    assert [name for name, _ in kept.node.vhost.queues["s"].positions] == ["early", "late"]
    kept.stop()


def test_known_gaps_are_found_again(tmp_path):
    kept = Kept(tmp_path, journal_size=SIZE)
    declare(kept, stream_max_segment_size_bytes=2000)
    for first in range(0, 120, 4):
        publish(kept, *numbers(first, first + 4))
        kept.settle()
    kept.stop()
    _, second, third, *_ = stream_files(ReadOnlyFiles(), tmp_path)[1]
    (tmp_path / "streams").joinpath(f"{1:010}-{second:020}.segment").unlink()
    mend(tmp_path)
    gap = {key for key in noted(tmp_path) if key.startswith(b"g")}
    assert len(gap) == 1
    spoil_checkpoint(tmp_path)
    mend(tmp_path)
    assert {key for key in noted(tmp_path) if key.startswith(b"g")} == gap
    assert check(tmp_path, 0).inspection.damage == []
    kept = Kept(tmp_path, journal_size=SIZE)
    assert read(kept) == [each for each in whole(0, 120) if not second <= each[0] < third]
    kept.stop()
