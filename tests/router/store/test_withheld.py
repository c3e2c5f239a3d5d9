"""A batch that cannot be packed is not confirmed, and is packed again."""

import pytest

from leveret.router.broker.alarms import STORE
from leveret.router.store import packing
from leveret.router.store.commits import TRIES
from leveret.router.store.queue_log import StoredQueueLog
from tests.router.store.kept import Kept


@pytest.fixture
def kept(quick_path):
    kept = Kept(quick_path)
    kept.node.queue("q", durable=True)
    kept.settle()
    kept.client.session.select_confirms()
    return kept


@pytest.fixture
def packer(monkeypatch):
    """Has the record of each message with the key "bad" raise, until it is ``mended``."""

    class Packer:
        mended = False

        def pack(self, *head):
            if not self.mended and head[4] == 1:  # its position
                raise OverflowError("too large")
            return pack(*head)

    pack, packer = packing.pack_publish_to_one, Packer()
    monkeypatch.setattr(packing, "pack_publish_to_one", packer.pack)
    return packer


def publish(kept, *names):
    for name in names:
        kept.client.publish(name, delivery_mode=2, message_id=name)
    kept.node.settle()
    while kept.step():
        pass


def test_a_batch_with_an_unpackable_message_is_not_confirmed(kept, packer, quick_path):
    publish(kept, "a", "b", "c")
    assert kept.client.session.verdicts() == []
    assert kept.node.broker.alarms.raised == {STORE}
    assert kept.store.failure == (
        "message at position 1 of queue 'q' in vhost '/' (message_id 'b', deadline 0, "
        f"{len(next(iter(kept.node.vhost.queues['q'].ready)).message.frames)} bytes): "
        "OverflowError('too large')"
    )
    packer.mended = True
    kept.settle()
    assert [verdict.number for verdict in kept.client.session.verdicts()] == [3]
    assert not kept.node.broker.alarms.raised
    kept.crash()
    again = Kept(quick_path)
    assert again.node.contents("q") == ["a", "b", "c"]
    again.crash()


def test_what_is_gathered_while_a_batch_is_withheld_is_part_of_it(kept, packer, quick_path):
    publish(kept, "a", "b")
    assert kept.client.get() == "a"
    publish(kept, "c")
    assert kept.client.session.verdicts()[-1:] in ([], [(1, False, True)])  # it was settled
    packer.mended = True
    kept.settle()
    assert kept.client.session.verdicts()[-1].number == 3
    kept.crash()
    again = Kept(quick_path)
    assert again.node.contents("q") == ["b", "c"]
    again.crash()


def test_a_batch_that_is_written_meanwhile_does_not_clear_the_alarm(kept, packer):
    kept.client.publish("a", delivery_mode=2)
    kept.node.settle()  # it is being written
    kept.client.publish("b", delivery_mode=2)
    kept.node.settle()
    kept.store.flush()
    kept.step()
    assert kept.node.broker.alarms.raised == {STORE}
    assert kept.client.session.verdicts() == [(1, False, True)]
    packer.mended = True
    kept.settle()
    assert not kept.node.broker.alarms.raised
    kept.crash()


def test_settlements_that_cannot_be_packed_are_packed_again(kept, monkeypatch, quick_path):
    kept.publish("a", "b")
    records = StoredQueueLog.records

    def fail(log):
        raise MemoryError

    monkeypatch.setattr(StoredQueueLog, "records", fail)
    assert kept.client.get() == "a"
    kept.node.settle()
    kept.store.flush()
    assert kept.store.failure == "settlements or notes of queue 'q' in vhost '/': MemoryError()"
    monkeypatch.setattr(StoredQueueLog, "records", records)
    kept.settle()
    assert kept.store.failure is None
    kept.crash()
    again = Kept(quick_path)
    assert again.node.contents("q") == ["b"]
    again.crash()


def test_a_store_that_can_pack_no_message_for_long_is_broken(kept, monkeypatch):
    def fail(*_):
        raise OverflowError("too large")

    monkeypatch.setattr(packing, "pack_publish_to_one", fail)
    publish(kept, "a", "b")
    for _ in range(TRIES):
        assert kept.store.broken is None
        kept.store.flush()
    assert "message at position 0 of queue 'q'" in str(kept.store.broken)
    monkeypatch.undo()
    kept.store.flush()
    kept.node.settle()
    assert not kept.step()
    assert kept.client.session.verdicts() == []
    kept.crash()
