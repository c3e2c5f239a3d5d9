"""Moving what lives on out of a segment, step by step, while other pages come and go."""

import pytest

from leveret.router.store.segments import allocation as module
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.compaction import Compaction
from leveret.router.store.segments.pages import StoredMessage, StoredPage, pack_page
from leveret.router.store.writer import ReadPage, WritePages
from tests.router.harness import message


class FakeDisk:
    def __init__(self):
        self.jobs = []

    def submit(self, job):
        self.jobs.append(job)


@pytest.fixture
def segments(monkeypatch):
    """Each page fills a segment of its own."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    return SegmentAllocation(kept=True)


def add(segments, first, count=8):
    """A page of so many messages, and its bytes."""
    sent = message("body")
    stored = [
        StoredMessage(position, 0, 0, sent.route, sent.frames) for position in range(first, first + count)
    ]
    data = bytes(pack_page(1, stored))
    segment, offset = segments.place(len(data))
    page = StoredPage(1, segment, offset, len(data), range(first, first + count), size=0, earliest=0)
    segments.add(page)
    return page, data


def settle(page, *positions):
    for position in positions:
        page.settle(position)


def begin(segments, page, data):
    """Compaction of a page that has been read, whose new place is being written."""
    disk = FakeDisk()
    compaction = Compaction(disk, segments)
    compaction.begin()
    reading = disk.jobs.pop()
    assert isinstance(reading, ReadPage)
    assert (reading.segment, reading.offset) == (page.segment, page.offset)
    assert compaction.has_read(reading, data, None)
    return compaction, disk.jobs.pop()


def test_what_lives_moves_and_its_old_segment_is_dead(segments):
    page, data = add(segments, 0)
    add(segments, 8)
    settle(page, *range(7))
    compaction, writing = begin(segments, page, data)
    assert isinstance(writing, WritePages)
    assert compaction.written(writing)
    assert (page.segment, page.first, page.live) == (3, 7, 1)
    assert segments.take_dead() == [1]


def test_the_segment_that_something_moves_to_is_not_removed_before_it_is_there(segments):
    page, data = add(segments, 0)
    add(segments, 8)
    settle(page, *range(7))
    compaction, writing = begin(segments, page, data)
    other, _ = add(segments, 16)  # in the next segment
    assert (writing.segment, other.segment) == (3, 4)
    beside = StoredPage(1, 3, 0, 1, [99], size=0, earliest=0)
    segments.add(beside)
    segments.remove(beside)
    assert segments.take_dead() == []
    assert compaction.written(writing)
    assert segments.take_dead() == [1]
    segments.remove(page)
    assert segments.take_dead() == [3]


def test_a_place_is_given_up_when_nothing_lives_to_take_it(segments):
    page, data = add(segments, 0)
    add(segments, 8)
    settle(page, *range(7))
    compaction, writing = begin(segments, page, data)
    settle(page, 7)
    segments.remove(page)
    add(segments, 16)
    assert compaction.written(writing)
    assert segments.take_dead() == [1, 3]


def test_a_page_that_cannot_be_read_keeps_no_other_segment_from_being_emptied():
    disk, segments = FakeDisk(), SegmentAllocation(kept=True, next_number=3)
    pages = [StoredPage(1, number, 0, 100, range(100), size=0, earliest=0) for number in (1, 2)]
    segments.recovered([1, 2], pages)
    for page, live in zip(pages, (5, 10), strict=True):
        for position in range(100 - live):
            page.settle(position)
    compaction = Compaction(disk, segments)
    compaction.begin()
    assert [job.segment for job in disk.jobs] == [1]
    assert compaction.has_read(disk.jobs.pop(), 0, OSError("Input/output error"))
    compaction.begin()
    assert [job.segment for job in disk.jobs] == [2]
