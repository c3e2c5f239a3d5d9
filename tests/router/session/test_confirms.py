"""Publisher confirms as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.queue.entry import QueuedEntry
from leveret.router.session.confirms import Confirms


@pytest.mark.parametrize(
    ("published", "told"),
    [
        ("", []),
        ("+", [(1, False, True)]),
        ("+++", [(3, True, True)]),
        ("-", [(1, False, False)]),
        ("+---", [(1, False, True), (4, True, False)]),
        ("++-+", [(2, True, True), (3, False, False), (4, False, True)]),
        ("-++-", [(1, False, False), (3, True, True), (4, False, False)]),
        ("--", [(2, True, False)]),
    ],
)
def test_a_batch_is_confirmed_with_as_few_acks_as_possible(published, told):
    confirms = Confirms()
    for each in published:
        confirms.publish(each == "+")
    assert confirms.verdicts(0) == told
    assert confirms.verdicts(0) == []


@given(st.lists(st.text("+-", max_size=8), max_size=6))
def test_every_publish_is_confirmed_once_with_its_own_verdict(batches):
    confirms, published, told = Confirms(), [], {}
    for batch in batches:
        for each in batch:
            published.append(each == "+")
            confirms.publish(each == "+")
        last = max(told, default=0)
        for number, multiple, accepted in confirms.verdicts(0):
            first = last + 1 if multiple else number
            assert first == last + 1
            told.update(dict.fromkeys(range(first, number + 1), accepted))
            last = number
        assert list(told.values()) == published


def entries(count):
    return [QueuedEntry(Message.build("", "q", Properties(), b""), position) for position in range(count)]


def test_publishes_are_confirmed_batch_by_batch():
    confirms = Confirms()
    for number, entry in enumerate(entries(4)):
        confirms.publish(True, batch=1 + number // 2, entries=[entry])
    assert confirms.verdicts(0) == []
    assert confirms.verdicts(1) == [(2, True, True)]
    assert confirms.verdicts(2) == [(4, True, True)]
    assert confirms.verdicts(3) == []


def test_the_first_publish_of_each_batch_says_so():
    confirms, stored = Confirms(), entries(4)
    assert confirms.publish(True)
    assert not confirms.publish(False)
    assert confirms.publish(True, batch=1, entries=stored[:1])
    assert not confirms.publish(True, batch=1, entries=stored[1:2])
    assert not confirms.publish(True)  # it is told with what is stored before it
    assert confirms.publish(True, batch=2, entries=stored[2:])
    confirms.verdicts(2)
    assert confirms.publish(True)


def test_settled_publishes_are_confirmed_before_their_batch_is_on_disk():
    confirms, stored = Confirms(), entries(4)
    confirms.publish(True, batch=1, entries=stored[:2])
    confirms.publish(True)
    confirms.publish(True, batch=1, entries=stored[2:3])
    confirms.publish(True, batch=2, entries=stored[3:])
    stored[0].settled = True
    assert confirms.verdicts(0) == []
    stored[1].settled = True
    assert confirms.verdicts(0) == [(2, True, True)]
    stored[2].settled = stored[3].settled = True
    assert confirms.verdicts(0) == [(4, True, True)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.permutations(range(16)))
def test_publishes_of_one_read_are_confirmed_like_single_ones(counts, order):
    together, single = Confirms(), Confirms()
    stored = entries(sum(counts))
    for count in counts:
        part = stored[together.published :][:count]
        told = together.publish_all(count, batch=1, entries=part)
        first, *_ = [single.publish(True, batch=1, entries=[entry]) for entry in part]
        assert told == first
    for index in order:
        if index < len(stored):
            stored[index].settled = True
            assert together.verdicts(0) == single.verdicts(0)
    assert together.answered == len(stored)


def test_a_batch_on_disk_is_not_confirmed_before_an_earlier_one():
    confirms, stored = Confirms(), entries(2)
    confirms.publish(True, batch=2, entries=stored[:1])
    confirms.publish(True, batch=1, entries=stored[1:])
    assert confirms.verdicts(1) == []
    assert confirms.verdicts(2) == [(2, True, True)]
