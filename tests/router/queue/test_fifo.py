"""The order of ready messages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leveret.router.queue.entry import QueuedEntry
from leveret.router.queue.fifo import Fifo
from leveret.router.queue.priorities import Priorities
from tests.router.harness import message

ALL = 1 << 30


def entries(count, expires=0, size=1, start=0):
    return [QueuedEntry(message("x" * size), position, expires) for position in range(start, start + count)]


def filled(*waiting):
    fifo = Fifo()
    for entry in waiting:
        fifo.push(entry)
    return fifo


def positions(taken):
    return [entry.position for entry in taken]


def test_messages_leave_in_the_order_they_came():
    fifo = filled(*entries(5))
    assert positions(fifo.take(2, ALL)) == [0, 1]
    assert positions(fifo.take(9, ALL)) == [2, 3, 4]
    assert fifo.take(1, ALL) == []


def test_returned_messages_go_back_to_where_they_were():
    fifo = filled(*entries(6))
    taken = fifo.take(4, ALL)
    for index in (3, 0, 2):
        fifo.put_back(taken[index])
    assert positions(fifo) == [0, 2, 3, 4, 5]
    assert positions(fifo.take(9, ALL)) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("properties", "budget", "expected"),
    [
        ({}, 0.1, 1),  # one always goes
        ({}, 1, 1),
        ({}, 1.1, 2),
        ({}, 3, 3),
        ({"headers": {"large": "x" * 100}}, 1.1, 2),
    ],
)
def test_take_stops_once_frames_reach_the_budget(properties, budget, expected):
    """``budget`` is in sizes of a message's frames."""
    fifo = filled(*(QueuedEntry(message("body", **properties), position) for position in range(3)))
    assert len(fifo.take(9, budget * len(message("body", **properties).frames))) == expected


def test_the_budget_spans_returned_and_fresh_messages():
    fifo = filled(*entries(4, size=10))
    fifo.put_back(fifo.take(1, ALL)[0])
    assert positions(fifo.take(9, 2 * len(message("x" * 10).frames))) == [0, 1]


def test_removed_messages_are_skipped_and_not_counted():
    waiting = entries(5)
    fifo = filled(*waiting)
    for index in (0, 2, 4):
        fifo.remove(waiting[index])
    assert len(fifo) == 2
    assert positions(fifo) == [1, 3]
    assert positions(fifo.take(9, ALL)) == [1, 3]
    assert len(fifo) == 0


def test_many_removed_messages_do_not_stay():
    waiting = entries(1000)
    fifo = filled(*waiting)
    for entry in waiting[:900]:
        fifo.remove(entry)
    assert len(fifo.fresh) < 250
    assert positions(fifo.take(200, ALL)) == list(range(900, 1000))


def test_removed_returned_messages_do_not_stay():
    fifo = filled(*entries(1000))
    taken = fifo.take(1000, ALL)
    for entry in reversed(taken):
        fifo.put_back(entry)
    for entry in taken[::2]:
        fifo.remove(entry)
    for entry in taken[1:900:2]:
        fifo.remove(entry)
    assert len(fifo.returned) < 250
    assert positions(fifo.take(1000, ALL)) == [*range(901, 1000, 2)]


def pushed(fifo, *deadlines):
    """Push entries with these deadlines; say for each whether the head alone would tell its deadline."""
    told = []
    for position, expires in enumerate(deadlines):
        entry = QueuedEntry(message(), position, expires)
        told.append(bool(expires) and fifo.in_deadline_order(expires))
        entry.indexed = bool(expires) and not told[-1]
        fifo.push(entry)
    return told


@pytest.mark.parametrize(
    ("deadlines", "told"),
    [
        ([5, 5, 7], [True, True, True]),
        ([5, 4, 7], [True, False, False]),
        ([0, 5], [False, False]),
        ([5, 0, 6], [True, False, False]),
    ],
)
def test_deadlines_are_found_at_the_head_only_while_they_are_in_order(deadlines, told):
    assert pushed(Fifo(), *deadlines) == told


def test_removing_the_last_message_does_not_put_others_in_deadline_order():
    fifo = Fifo()
    assert pushed(fifo, 0, 5) == [False, False]
    last = fifo.fresh[-1]
    last.indexed = False
    fifo.remove(last)
    assert not fifo.in_deadline_order(10)


def test_overdue_takes_from_the_head_up_to_the_limit():
    fifo = Fifo()
    pushed(fifo, *range(1, 11), 4)
    assert positions(fifo.overdue(9, 3)) == [0, 1, 2]
    assert fifo.next_deadline() == 4
    assert positions(fifo.overdue(9, 99)) == [3, 4, 5, 6, 7]
    assert fifo.next_deadline() == 9


@pytest.mark.parametrize(
    ("priorities", "order"),
    [
        ([0, 1, 2], [2, 1, 0]),
        ([None, 1, None], [1, 0, 2]),
        ([9, 3, 200], [0, 1, 2]),  # above the highest is the highest
        ([1, 3, 1, 3], [1, 3, 0, 2]),
    ],
)
def test_the_highest_priority_leaves_first(priorities, order):
    ready = Priorities(3)
    for position, priority in enumerate(priorities):
        ready.push(QueuedEntry(message(priority=priority), position))
    assert positions(ready) == order
    assert positions(ready.take(1, ALL)) == order[:1]
    assert positions(ready.take(9, ALL)) == order[1:]


def test_the_budget_spans_priorities():
    ready = Priorities(3)
    for position, priority in enumerate([0, 1, 2]):
        ready.push(QueuedEntry(message("0123456789", priority=priority), position))
    assert positions(ready.take(9, 1 + len(message("0123456789", priority=0).frames))) == [2, 1]


operations = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.integers(0, 5)),
        st.tuples(st.just("put back"), st.integers(0, 20)),
        st.tuples(st.just("remove"), st.integers(0, 20)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("make", [Fifo, lambda: Priorities(2)])
@given(steps=operations)
@settings(deadline=None)
def test_any_order_of_events_equals_a_sorted_list(make, steps):
    ready, model, held = make(), [], []
    single = isinstance(ready, Fifo)

    def rank(entry):
        return (0 if single else -min(entry.message.properties.priority, 2), entry.position)

    for position, (step, number) in enumerate(steps):
        if step == "push":
            entry = QueuedEntry(message(priority=number), position)
            ready.push(entry)
            model.append(entry)
        elif step == "take":
            taken = ready.take(number, ALL)
            assert taken == model[:number]
            del model[:number]
            held += taken
        elif step == "put back" and held:
            entry = held.pop(number % len(held))
            ready.put_back(entry)
            model.append(entry)
        elif step == "remove" and model:
            ready.remove(model.pop(number % len(model)))
        model.sort(key=rank)
        assert len(ready) == len(model)
        assert list(ready) == model
