"""Segments that are almost empty are emptied, and nothing in them is lost on the way."""

import pytest

from leveret.router.store.segments import allocation as segments
from tests.router.store.kept import Kept


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A broker whose messages are all on disk, in small segments."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 4096)
    monkeypatch.setattr(segments, "WORTH", 1)
    kept = Kept(tmp_path / "data", budget=0)
    kept.node.queue("q", durable=True)
    kept.node.queue("other", durable=True)
    return kept


def fill(kept, count):
    """``q`` and ``other`` in turn, until nothing is left in the journal only."""
    for number in range(count):
        kept.client.publish(f"{number}", "q" if number % 20 == 0 else "other", delivery_mode=2)
        if number % 50 == 0:
            kept.settle()
    kept.settle()


def files(kept):
    return sorted(path.name for path in (kept.directory.path / "segments").iterdir())


def retire(kept):
    """Have journal files go, and checkpoints saved."""
    for _ in range(30):
        kept.client.publish("x" * 500, "other", delivery_mode=2)
        kept.settle()
        kept.node.vhost.queues["other"].purge()
        kept.settle()


def drain(kept, queue):
    found = []
    while (taken := kept.get(queue)) is not None:
        found.append(taken[1].message.body.decode())
    kept.settle()
    return found


def test_what_lives_on_in_a_sparse_segment_moves_and_the_segment_goes(kept):
    fill(kept, 1000)
    before = files(kept)[:-1]  # the last is still being filled
    kept.node.vhost.queues["other"].purge()
    kept.settle()
    retire(kept)
    assert not set(files(kept)) & set(before)
    assert drain(kept, "q") == [str(number) for number in range(0, 1000, 20)]


def test_what_has_moved_is_there_after_a_crash(kept, tmp_path):
    fill(kept, 1000)
    kept.node.vhost.queues["other"].purge()
    kept.settle()
    retire(kept)
    kept.crash()
    kept = Kept(tmp_path / "data", budget=0)
    assert drain(kept, "q") == [str(number) for number in range(0, 1000, 20)]
    kept.stop()


def test_a_queue_that_is_deleted_meanwhile_leaves_nothing_behind(kept):
    fill(kept, 1000)
    kept.node.vhost.queues["other"].purge()
    kept.node.settle()
    kept.store.flush()
    while kept.store.compaction._writing is None and (kept._jobs or kept._reads):
        kept.step()
        kept.read()
    kept.node.vhost.delete_queue(kept.node.vhost.queues["q"])
    kept.settle()
    retire(kept)
    assert kept.store.segments._pages.keys() <= {kept.store.segments._number}


def test_a_file_that_a_page_is_on_its_way_to_is_not_removed():
    store = segments.SegmentAllocation(kept=True)
    number, _ = store.place(segments.WORTH)
    store.expect(number)
    assert not store.has_dead()
    assert store.take_dead() == []
    store.came(number)
    assert store.has_dead()
    assert store.take_dead() == [number]
