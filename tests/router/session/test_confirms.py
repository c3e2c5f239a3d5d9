"""Publisher confirms as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.session.confirms import Confirms


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
def test_a_batch_is_told_in_as_few_words_as_possible(published, told):
    confirms = Confirms()
    for each in published:
        confirms.publish(each == "+")
    assert confirms.verdicts(0) == told
    assert confirms.verdicts(0) == []


@given(st.lists(st.text("+-", max_size=8), max_size=6))
def test_every_publish_is_told_once_with_its_own_verdict(batches):
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
