"""The time index."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.queue.entry import QueuedEntry
from leveret.router.queue.expiry import BUCKET, ExpiryIndex
from tests.router.harness import message

MANY = 1 << 20


def entry(position, expires):
    return QueuedEntry(message(), position, expires)


def indexed(*deadlines):
    index = ExpiryIndex()
    added = [entry(position, expires) for position, expires in enumerate(deadlines)]
    for each in added:
        index.add(each)
    return index, added


def positions(found):
    return [each.position for each in found]


def test_entries_are_due_when_their_bucket_has_ended():
    index, _ = indexed(5)
    assert index.next_deadline() == BUCKET
    assert index.due(BUCKET - 1, MANY) == []
    assert positions(index.due(BUCKET, MANY)) == [0]
    assert index.next_deadline() == 0


def test_entries_are_due_in_the_order_of_their_positions():
    index, _ = indexed(40, 3, 20, 3)
    assert positions(index.due(100, MANY)) == [0, 1, 2, 3]


def test_what_left_another_way_is_not_due():
    index, (first, second) = indexed(5, 5)
    index.discard(first)
    assert not first.indexed
    assert positions(index.due(BUCKET, MANY)) == [1]
    assert not second.indexed


def test_a_million_of_one_moment_are_due_bit_by_bit():
    index, added = indexed(*[5] * 3000)
    first = index.due(1000, 1000)
    assert positions(first) == list(range(1000))
    assert 0 < index.next_deadline() <= 1000
    index.discard(added[1000])
    assert positions(index.due(1000, 1000)) == list(range(1001, 2001))
    assert len(index.due(1000, MANY)) == 999
    assert index.next_deadline() == 0


def test_entries_removed_from_an_ended_bucket_have_no_deadline():
    index, (_, second, third) = indexed(5, 5, 5)
    assert positions(index.due(1000, 1)) == [0]
    index.discard(second)
    assert index.next_deadline() == 1
    index.discard(third)
    assert index.next_deadline() == 0


def test_an_entry_of_a_moment_long_past_is_due_at_once():
    index, _ = indexed(500, 5)
    index.due(100, MANY)
    index.add(entry(7, 5))
    assert positions(index.due(100, MANY)) == [7]


def test_nothing_stays_of_entries_that_left():
    index, added = indexed(*(BUCKET * number for number in range(1000)))
    for each in added:
        index.discard(each)
    assert not index._buckets
    index.add(entry(0, 7))
    assert len(index._order) <= 64 + 2
    index.clear()
    assert index.next_deadline() == 0


@pytest.mark.parametrize("rounds", [100])
def test_coming_and_going_of_one_deadline_does_not_grow_the_index(rounds):
    index = ExpiryIndex()
    for number in range(rounds * 10):
        each = entry(number, 1_000_000 + BUCKET * (number % 3))
        index.add(each)
        index.discard(each)
    assert len(index._order) <= 70


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 300)),
            st.tuples(st.just("discard"), st.integers(0, 30)),
            st.tuples(st.just("due"), st.integers(1, 4)),
            st.tuples(st.just("wait"), st.integers(1, 60)),
        ),
        max_size=50,
    )
)
@settings(deadline=None)
def test_any_order_of_events_equals_a_list(steps):
    index, model, now = ExpiryIndex(), [], 1000
    for position, (step, number) in enumerate(steps):
        if step == "add":
            each = entry(position, now - 50 + number)
            index.add(each)
            model.append(each)
        elif step == "discard" and model:
            index.discard(model.pop(number % len(model)))
        elif step == "due":
            due = [each for each in model if (each.expires // BUCKET + 1) * BUCKET <= now]
            found = index.due(now, number)
            assert len(found) == min(number, len(due))
            assert set(found) <= set(due)
            model = [each for each in model if each not in found]
        elif step == "wait":
            now += number
        ends = [(each.expires // BUCKET + 1) * BUCKET for each in model]
        told = index.next_deadline()
        assert bool(told) == bool(ends)
        if ends:
            assert told <= max(now, min(ends))
            assert told >= min(ends) or told <= now
