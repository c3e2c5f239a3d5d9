"""Messages of one read to a stream, which are one record in the journal."""

import pytest

from leveret.router.store.journal.reading import Journal
from leveret.router.store.journal.records import RunRecord, unpack
from leveret.router.store.offline.check import check
from leveret.router.store.streams.files import stream_files
from tests.router.harness import message
from tests.router.store.kept import Kept
from tests.router.store.streams import declare, numbers, publish, read, whole


@pytest.fixture
def kept(quick_path):
    """A broker with large journal files, which are kept: no message is in a segment of the stream yet."""
    kept = Kept(quick_path, journal_size=1 << 20, retires=False)
    declare(kept)
    publish(kept, "0")  # only a route that is known has runs
    return kept


def publish_run(kept, first, below, **properties):
    """Publish numbers as the messages of one read."""
    run = [
        message(number, "s", delivery_mode=2, **{"message_id": number, **properties})
        for number in numbers(first, below)
    ]
    kept.client.session.publish_all(run, sum(each.size for each in run))


def journal_records(kept, path):
    return [
        record
        for batch in Journal(kept.directory.files, path / "journal", 1, 1)
        for record in unpack(batch.payload)
    ]


def test_a_run_is_one_record_and_is_confirmed_when_it_is_on_disk(kept, quick_path):
    kept.client.session.select_confirms()
    publish_run(kept, 1, 6)
    kept.node.settle()
    assert kept.client.session.verdicts() == []
    kept.settle()
    assert kept.client.session.verdicts() == [(5, True, True)]
    (record,) = [each for each in journal_records(kept, quick_path) if isinstance(each, RunRecord)]
    assert (record.first, len(record.messages)) == (1, 5)
    assert read(kept) == whole(0, 6)
    kept.crash()


def test_runs_and_single_messages_of_one_batch_keep_their_offsets_after_kill_9(kept, quick_path):
    publish_run(kept, 1, 3)
    kept.client.publish("3", "s", delivery_mode=2)
    publish_run(kept, 4, 9)
    kept.client.publish("9", "s", delivery_mode=2)
    kept.settle()
    assert not stream_files(kept.directory.files, quick_path)
    kept.crash()
    again = Kept(quick_path)
    assert read(again) == whole(0, 10)
    publish(again, "10")
    assert read(again) == whole(0, 11)
    again.crash()


@pytest.mark.parametrize(
    "headers", [None, {"x": 1}, {"x-stream-filter-value": "blue"}, {"x-stream-offset": 5}]
)
def test_messages_of_a_run_are_the_same_after_kill_9(kept, quick_path, headers):
    publish_run(kept, 1, 4, **({"headers": headers} if headers else {}))
    kept.settle()

    def seen(broker):
        client = broker.node.client()
        client.consume("s", prefetch=10, arguments={"x-stream-offset": "first"})
        broker.settle()
        return [(entry.message.route, bytes(entry.message.frames)) for _, _, entry in client.delivered]

    before = seen(kept)
    assert len(before) == 4
    kept.crash()
    again = Kept(quick_path)
    assert seen(again) == before
    again.crash()


def test_a_run_that_was_never_committed_leaves_nothing(kept, quick_path):
    publish_run(kept, 1, 4)
    kept.node.settle()
    kept.crash()
    again = Kept(quick_path)
    assert read(again) == whole(0, 1)
    again.crash()


def test_a_check_counts_the_messages_of_runs(kept, quick_path):
    publish_run(kept, 1, 7)
    kept.settle()
    kept.crash()
    report = check(quick_path, 0)
    assert (report.inspection.damage, report.inspection.warnings) == ([], [])
    assert [(row.name, totals.messages) for row, totals in report.queues] == [("s", 7)]
    (journal,) = [file for file in report.files if file.kind == "journal"]
    assert journal.live > 7 * len(b"content")
