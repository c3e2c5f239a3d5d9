"""Which segment a page goes to, and which segments have nothing live in them."""

import pytest

from leveret.router.store.segments import allocation as module
from leveret.router.store.segments.allocation import SegmentAllocation
from leveret.router.store.segments.pages import StoredPage
from leveret.router.turns.backlog import at_once

FULL, WORTH = 1000, 400


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", FULL)
    monkeypatch.setattr(module, "WORTH", WORTH)


@pytest.fixture
def segments():
    return SegmentAllocation(kept=True)


def page(segment, offset=0, length=100, count=4):
    return StoredPage(1, segment, offset, length, range(count), size=0, earliest=0)


def add(segments, length, count=4):
    found = page(*segments.place(length), length, count)
    segments.add(found)
    return found


def test_pages_stand_one_behind_the_other_until_a_segment_is_full(segments):
    assert [segments.place(400) for _ in range(4)] == [(1, 0), (1, 400), (1, 800), (2, 0)]


def test_a_page_larger_than_a_segment_has_one_to_itself(segments):
    assert [segments.place(5 * FULL) for _ in range(2)] == [(1, 0), (2, 0)]


def test_a_segment_is_dead_when_its_last_page_is(segments):
    first, second = add(segments, 500), add(segments, 500)
    add(segments, 100)
    segments.remove(first)
    assert not segments.has_dead()
    segments.remove(second)
    assert segments.has_dead()
    assert segments.take_dead() == [1]
    assert (segments.has_dead(), segments.take_dead()) == (False, [])


def test_a_page_that_is_removed_twice_counts_once(segments):
    first, second = add(segments, 100), add(segments, 900)
    segments.remove(first)
    segments.remove(first)
    assert not segments.has_dead()
    segments.remove(second)
    add(segments, 1)
    assert segments.take_dead() == [1]


@pytest.mark.parametrize(("length", "dead"), [(WORTH - 1, []), (WORTH, [1])])
def test_the_segment_being_filled_is_dead_once_that_is_worth_it(segments, length, dead):
    segments.remove(add(segments, length))
    assert segments.has_dead() == bool(dead)
    assert segments.take_dead() == dead
    assert segments.place(1) == ((2, 0) if dead else (1, length))


def test_the_segment_being_filled_goes_on_when_others_are_dead(segments):
    segments.remove(add(segments, FULL))
    segments.remove(add(segments, 1))
    assert segments.take_dead() == [1]
    assert segments.place(1) == (2, 1)


def test_a_page_in_a_segment_that_was_empty_makes_it_live(segments):
    segments.remove(add(segments, 10))
    add(segments, FULL)
    add(segments, 1)
    assert not segments.has_dead()


def test_numbers_go_on_behind_those_that_were_found():
    segments = SegmentAllocation(kept=True, next_number=8)
    segments.recovered([3, 7], [page(7)])
    assert segments.place(1) == (8, 0)
    assert segments.take_dead() == [3]


def test_a_segment_that_was_found_is_dead_when_its_pages_are():
    segments = SegmentAllocation(kept=True, next_number=8)
    pages = [page(7), page(7, 100)]
    segments.recovered([7], pages)
    assert not segments.has_dead()
    for each in pages:
        segments.remove(each)
    assert segments.take_dead() == [7]


def test_leaving_a_segment_that_holds_nothing_changes_nothing(segments):
    segments.begin_another()
    assert segments.place(1) == (1, 0)
    segments.begin_another()
    segments.begin_another()
    assert segments.place(1) == (2, 0)


def test_the_sparsest_is_the_full_one_with_the_least_that_lives(segments):
    pages = [add(segments, FULL), add(segments, FULL), add(segments, FULL)]
    for number, gone in ((0, 1), (1, 3), (2, 4)):
        for position in range(gone):
            pages[number].settle(position)
    segments.remove(pages[2])
    assert at_once(segments.sparsest(())) == ([pages[1]], 0.25)


def test_the_segment_being_filled_is_not_called_sparse(segments):
    found = add(segments, 100)
    found.settle(0)
    assert at_once(segments.sparsest(()))[0] == []
