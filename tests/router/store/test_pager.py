"""The pager: queues that page out when memory is short, and reads of their pages."""

import re

import pytest
import structlog

from leveret.protocol.amqp.message import Message, ParsedMessage
from leveret.protocol.errors import InternalError
from leveret.router.queue.paging import COST, NextMessagePending
from leveret.router.store.segments import pager as module
from leveret.router.store.store import Store
from leveret.router.store.writer import Commit, ReadPage, RemoveSegments, WritePages
from tests.router.harness import Node
from tests.router.store.failing import FailingFiles
from tests.router.store.kept import Kept

pytestmark = pytest.mark.usefixtures("small")

PAGE = 4
PER_MESSAGE = COST + 1  # each of one byte


class Disk:
    """Jobs are done when a test says so."""

    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)

    def of(self, kind):
        return [job for job in self.jobs if isinstance(job, kind)]


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def node(disk):
    """One whose journal has begun, and whose memory is not short."""
    node = Node()
    node.broker.storage = Store(
        disk,
        sync=True,
        sequence=2,
        segment=1,
        next_queue_id=1,
        wall_offset=lambda: 0,
        put_off=lambda: None,
        changed=lambda: None,
    )
    return node


@pytest.fixture
def pager(node):
    return node.broker.storage.pager


def fill(node, name, count, *, durable=False, delivery_mode=1):
    queue = node.queue(name, durable=durable)
    client = node.client()
    for _ in range(count):
        client.publish("m", name, delivery_mode=delivery_mode)
    node.settle()
    return queue


def written(node, disk, *jobs):
    """These pages are on disk; by default all that are waited for."""
    for job in jobs or disk.of(WritePages):
        disk.jobs.remove(job)
        node.broker.storage.done(job, 0, None)
        node.settle()


# -- who gives up memory ----------------------------------------------------------------------------------


def test_within_the_budget_everything_stays(node, pager, disk):
    pager.budget = 40 * PER_MESSAGE
    queue = fill(node, "q", 40)
    assert pager.weight == 40 * PER_MESSAGE
    assert (queue.ready.away, disk.jobs) == (0, [])


def test_above_the_budget_so_much_goes_as_is_too_much(node, pager, disk):
    pager.budget = 30 * PER_MESSAGE
    queue = fill(node, "q", 40)
    written(node, disk)
    assert queue.ready.away in range(10, 10 + 2 * PAGE + 1)
    assert pager.weight <= pager.budget


def test_the_heaviest_queue_gives_first(node, pager, disk):
    light, heavy = fill(node, "light", 20), fill(node, "heavy", 40)
    pager.budget = pager.weight - 1
    fill(node, "other", 1)
    assert light.ready.away == 0
    assert heavy.ready.away > 0


def test_a_light_queue_is_not_asked(node, pager, disk, monkeypatch):
    monkeypatch.setattr(module, "LIGHT", 20 * PER_MESSAGE)
    pager.budget = 0
    assert fill(node, "light", 20).ready.away == 0
    assert fill(node, "heavy", 21).ready.away > 0


def test_no_more_pages_wait_to_be_written_than_may(node, pager, disk, monkeypatch):
    monkeypatch.setattr(module, "IN_FLIGHT", 3)
    queue = fill(node, "q", 100)
    pager.budget = 0
    fill(node, "other", 1)
    while len(queue.ready.runs) < 3:
        fill(node, "other", 1)
    before = queue.ready.away
    fill(node, "other", 1)
    assert queue.ready.away == before
    written(node, disk)
    fill(node, "other", 1)
    assert queue.ready.away > before


def test_a_turn_moves_no_more_than_so_many(node, pager, disk):
    queue = fill(node, "q", 100)
    pager.budget = 0
    node.client().publish("m", "q")
    node.broker.scheduler.end_batch()
    assert queue.ready.away in range(1, 1 + 2 * PAGE)


def test_a_queue_that_is_gone_weighs_nothing(node, pager):
    queue = fill(node, "q", 40)
    node.vhost.delete_queue(queue)
    node.settle()
    assert pager.weight == 0


def test_messages_stay_in_memory_until_their_page_is_written(node, pager, disk):
    pager.budget = 0
    queue = fill(node, "q", 20)
    assert len(list(queue.ready)) == 20
    written(node, disk)
    assert len(list(queue.ready)) < 20 == len(queue.ready)


# -- where they go ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durable", "mode", "kept"), [(True, 2, True), (True, 1, False), (False, 2, False)])
def test_only_what_outlives_the_broker_is_synced_in_segments_that_do(node, disk, durable, mode, kept):
    node.broker.storage.pager.budget = 0
    fill(node, "q", 20, durable=durable, delivery_mode=mode)
    jobs = disk.of(WritePages)
    assert jobs
    assert {(job.kept, job.sync) for job in jobs} == {(kept, kept)}


def test_a_message_that_stands_in_a_page_already_is_not_written_again(node, pager, disk):
    pager.budget = 0
    queue = fill(node, "q", 20, durable=True, delivery_mode=2)
    written(node, disk)
    client = node.client()
    client.consume("q", prefetch=4)
    node.settle()
    (job,) = disk.of(ReadPage)[:1]
    written(node, disk)
    before = len(disk.of(WritePages))
    fill(node, "other", 1)
    assert len(disk.of(WritePages)) == before
    assert job.queue_id == queue.log.id


def test_a_transient_segment_goes_when_nothing_in_it_lives(node, pager, disk):
    pager.budget = 0
    queue = fill(node, "q", 20)
    segments = {job.segment for job in disk.of(WritePages)}
    written(node, disk)
    assert disk.of(RemoveSegments) == []
    queue.purge()
    written(node, disk)
    jobs = disk.of(RemoveSegments)
    assert segments <= {segment for job in jobs for segment in job.segments}
    assert not any(job.kept for job in jobs)


# -- what is read back ------------------------------------------------------------------------------------


@pytest.fixture
def files():
    return FailingFiles()


@pytest.fixture
def kept(quick_path, files):
    """A broker with the durable queues q and other, each with twenty messages, most of them on disk."""
    kept = Kept(quick_path, files=files, budget=0)
    for name in ("q", "other"):
        kept.node.queue(name, durable=True)
        for number in range(20):
            kept.client.publish(str(number), name, delivery_mode=2)
    kept.settle()
    yield kept
    kept.stop()


def pages(kept, name="q"):
    return [run.page for run in kept.node.vhost.queues[name].ready.runs]


def take(client, count):
    """Get so many messages, one after the other."""
    for _ in range(count):
        client.get()


def damage(files, page):
    (path,) = [path for path in files.seen if path.name == f"{page.segment:010d}.segment"]
    files.seen[path].seen[page.offset + 40] ^= 1
    return path


def test_a_damaged_page_has_its_queue_stand_still_and_names_the_file(kept, files, capsys):
    page = pages(kept)[0]
    path = damage(files, page)
    place = f"segments/{path.name} cannot be read at offset {page.offset}"
    expected = f"queue 'q' in vhost '/' delivers nothing more: {place}"
    with structlog.testing.capture_logs() as logged, pytest.raises(InternalError, match=re.escape(expected)):
        take(kept, 20)
    assert [each["log_level"] for each in logged if each["event"] == "page unreadable"] == ["error"]
    assert kept.store.failure is None, "publishers need not wait"


def test_other_queues_are_served_beside_a_damaged_one(kept, files):
    damage(files, pages(kept)[0])
    with structlog.testing.capture_logs(), pytest.raises(InternalError):
        take(kept, 20)
    assert [int(kept.get("other")[1].message.body) for _ in range(20)] == list(range(20))
    kept.publish("more", queue="other")
    assert kept.get("other")[1].message.body == b"more"


def test_a_segment_that_is_missing_is_damage(kept, files):
    for path in [path for path in files.seen if path.suffix == ".segment"]:
        del files.seen[path]
    with structlog.testing.capture_logs(), pytest.raises(InternalError, match="the file is missing"):
        take(kept, 20)


def test_damage_in_a_dropped_read_is_ignored(kept, files):
    damage(files, pages(kept)[0])
    queue = kept.node.vhost.queues["q"]
    with pytest.raises(NextMessagePending):
        take(kept.client, 20)
    queue.purge()
    with structlog.testing.capture_logs() as logged:
        kept.settle()
    assert logged == []
    assert kept.get() is None


def test_a_read_for_a_queue_that_is_deleted_meanwhile_is_passed_over(kept):
    kept.client.consume("q", no_ack=True)
    kept.node.settle()
    kept.node.vhost.delete_queue(kept.node.vhost.queues["q"])
    kept.settle()
    assert int(kept.get("other")[1].message.body) == 0


def test_a_page_that_moved_while_it_was_read_is_read_where_it_is_now(kept, files):
    page = pages(kept)[0]
    kept.client.consume("q", no_ack=True)
    kept.node.settle()
    old = page.segment
    (path,) = [path for path in files.seen if path.name == f"{old:010d}.segment"]
    kept.store.segments.recovered([99], [])
    for each in [*pages(kept), *pages(kept, "other")]:
        if each.segment == old:
            kept.store.segments.remove(each)
            each.segment = 99
            kept.store.segments.add(each)
    files.seen[path.with_name(f"{99:010d}.segment")] = files.seen.pop(path)
    kept.settle()
    assert kept.client.seen() == [str(number) for number in range(20)]


def test_what_was_delivered_before_a_crash_is_redelivered_from_its_page(quick_path, files):
    kept = Kept(quick_path, files=files, budget=0, journal_size=512)
    kept.node.queue("q", durable=True)
    for number in range(20):
        kept.publish(str(number))
    kept.stop()
    again = Kept(quick_path, files=files, budget=0)
    assert [again.get()[1].returns for _ in range(20)] == [0] * 20
    again.crash()


def test_after_a_crash_everything_on_disk_is_redelivered(quick_path, files):
    kept = Kept(quick_path, files=files, budget=0, journal_size=512)
    kept.node.queue("q", durable=True)
    for number in range(20):
        kept.publish(str(number))
    kept.crash()
    again = Kept(quick_path, files=files, budget=0)
    assert all(again.get()[1].returns for _ in range(20))
    again.stop()


@pytest.mark.parametrize("job", [Commit, WritePages])
def test_a_page_that_could_not_be_written_stays_in_memory_until_it_is(quick_path, job):
    files = FailingFiles(only={"write"})
    kept = Kept(quick_path, files=files, budget=0)
    kept.node.queue("q", durable=True)
    kept.publish("first")
    files.fail = range(1 << 60)
    for number in range(20):
        kept.client.publish(str(number), "q", delivery_mode=1 if job is WritePages else 2)
    kept.settle()
    queue = kept.node.vhost.queues["q"]
    assert len(list(queue.ready)) == 21
    files.fail = range(0)
    kept.node.at(1000)
    kept.settle()
    assert len(list(queue.ready)) < 21 == len(queue.ready)
    assert kept.get()[1].message.body == b"first"
    assert [int(kept.get()[1].message.body) for _ in range(20)] == list(range(20))
    kept.stop()


@pytest.mark.parametrize("restart", [False, True], ids=["same broker", "restarted"])
def test_messages_come_back_from_pages_with_their_traits(quick_path, restart):
    kept = Kept(quick_path, budget=0)
    kept.node.queue("q", durable=True, max_length=1000)
    for number in range(24):
        expiration = "90000" if number % 3 else None
        kept.publish(f"{number}", priority=number % 5, expiration=expiration, headers={"n": number})
    if restart:
        kept.stop()
        kept = Kept(quick_path, budget=0)
    kept.settle()
    assert kept.node.vhost.queues["q"].ready.away > 10
    for number in range(24):
        message = kept.get()[1].message
        again = Message.from_frames(message.route, message.frames)
        assert message.body == b"%d" % number
        for name in ParsedMessage.__slots__:
            assert getattr(message, name) == getattr(again, name)
    kept.stop()
