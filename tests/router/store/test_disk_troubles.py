"""A broker with a slow or failing disk, and after a power cut: one fault at a time.

``test_failing_disk`` has everything fail in its turn.
"""

import pytest

from leveret.router.broker.alarms import STORE
from tests.router.store.failing import WRITING, FailingFiles
from tests.router.store.kept import RETRY, Kept

pytestmark = pytest.mark.usefixtures("small")

FOR_EVER = range(1 << 60)


def keep(path, files, **options):
    """A broker with the durable queue q, where whatever can be on disk is."""
    kept = Kept(path, files=files, budget=0, **options)
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.client.session.select_confirms()
    return kept


def publish(kept, numbers, queue="q", delivery_mode=2):
    for number in numbers:
        kept.client.publish(str(number), queue, delivery_mode=delivery_mode)
    kept.node.settle()


def test_confirms_wait_for_a_sync_that_takes_its_time(quick_path):
    seen = []
    files = FailingFiles()
    kept = keep(quick_path, files)
    files.before = lambda name, _: seen.append((name, kept.client.session.verdicts()))
    publish(kept, [1])
    kept.step()
    assert [name for name, _ in seen][-2:] == ["write", "sync"]
    assert all(told == [] for _, told in seen)
    assert kept.client.session.verdicts() == [(1, False, True)]


def test_consumers_are_served_and_can_settle_while_nothing_can_be_written(quick_path):
    files = FailingFiles(only=WRITING)
    kept = keep(quick_path, files)
    publish(kept, range(30))
    kept.settle()
    assert kept.client.session.verdicts() == [(30, True, True)]
    assert kept.node.vhost.queues["q"].ready.away > 20
    files.fail = FOR_EVER
    publish(kept, [30, 31])
    kept.step()
    assert kept.node.broker.alarms.raised == {STORE}
    consumer = kept.node.client()
    consumer.consume("q", prefetch=1)
    for number in range(31):
        kept.node.settle()
        kept.read()
        assert consumer.seen()[number:] == [str(number)]
        consumer.session.ack(number + 1, multiple=False)
    kept.node.settle()
    assert kept.client.session.verdicts() == [(31, False, True)], "it is settled"
    files.fail = range(0)
    kept.node.at(RETRY)
    kept.settle()
    assert kept.client.session.verdicts() == [(32, False, True)]
    assert not kept.node.broker.alarms.raised
    kept.crash()
    again = Kept(quick_path, files=files.cut_power(1))
    assert [again.get(), again.get()][0][1].message.body == b"31"
    again.stop()


def test_what_cannot_be_read_is_read_later_and_publishers_do_not_wait(quick_path):
    files = FailingFiles(only={"read"})
    kept = keep(quick_path, files)
    publish(kept, range(10))
    kept.settle()
    kept.client.consume("q", no_ack=True)
    kept.node.settle()
    before = kept.client.seen()
    assert len(before) < 10
    files.fail = FOR_EVER
    kept.read()
    assert not kept.node.broker.alarms.raised
    assert kept.client.seen() == before
    files.fail = range(0)
    kept.node.at(RETRY)
    kept.settle()
    assert kept.client.seen() == [str(number) for number in range(10)]
    kept.stop()


def test_no_page_is_written_before_the_first_batch(quick_path):
    """Pages without a journal would be taken for damage."""
    files = FailingFiles(only={"create", "write"})
    kept = keep(quick_path, files)
    files.fail = FOR_EVER
    publish(kept, range(20))
    kept.settle()
    files.fail = range(0)
    publish(kept, range(20, 30))
    assert files.list(quick_path / "segments") == []
    kept.crash()
    again = Kept(quick_path, files=files.cut_power(1), budget=0)
    assert again.get() is None
    again.stop()


def test_a_first_batch_that_was_never_synced_may_be_lost_though_its_page_is_there(quick_path):
    files = FailingFiles()
    kept = keep(quick_path, files, sync=False)
    publish(kept, range(20))
    kept.settle()
    publish(kept, range(20, 40))
    kept.settle()
    assert files.list(quick_path / "segments")
    kept.crash()
    for seed in range(20):
        again = Kept(quick_path, files=files.cut_power(seed), budget=0)
        taken = [int(each[1].message.body) for each in iter(again.get, None)]
        assert taken == list(range(len(taken)))
        again.crash()


def test_transient_messages_alone_leave_memory_without_a_journal(quick_path):
    files = FailingFiles()
    kept = keep(quick_path, files)
    publish(kept, range(20), delivery_mode=1)
    kept.settle()
    assert kept.node.vhost.queues["q"].ready.away > 10
    assert files.list(quick_path / "transient")
    assert [kept.get()[1].message.body for _ in range(20)] == [b"%d" % number for number in range(20)]
    kept.stop()


def test_transient_pages_that_could_not_be_written_leave_nothing_behind_once_they_are_taken(quick_path):
    files = FailingFiles(only={"write"})
    kept = keep(quick_path, files)
    publish(kept, range(20), delivery_mode=1)
    files.fail = FOR_EVER
    kept.settle()
    kept.client.consume("q", no_ack=True)
    kept.node.settle()
    assert kept.client.seen() == [str(number) for number in range(20)]
    files.fail = range(0)
    kept.node.at(RETRY)
    kept.settle()
    assert files.list(quick_path / "transient") == []
    kept.stop()
