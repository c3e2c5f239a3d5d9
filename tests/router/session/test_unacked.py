"""Held messages by delivery tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.protocol.errors import PreconditionFailed
from leveret.router.session.unacked import Unacked


def holding(*tags):
    unacked = Unacked()
    unacked.hold((tag, str(tag)) for tag in tags)
    return unacked


def take_through(unacked, tag, most=2):
    """All up to a tag, some at a time."""
    taken = unacked.take_through(tag, most)
    last = tag or unacked.highest
    while unacked.holds_through(last):
        piece = unacked.take_through(last, most)
        assert len(piece) <= most
        taken += piece
    return taken


def left(unacked):
    return [tag for tag, _ in unacked]


@pytest.mark.parametrize(
    ("tags", "settled", "through", "taken"),
    [
        ([1, 2, 3], [], 2, [1, 2]),
        ([1, 2, 3], [], 3, [1, 2, 3]),
        ([1, 2, 3], [], 0, [1, 2, 3]),
        ([], [], 0, []),
        ([2, 5, 9], [], 5, [2, 5]),  # tags between went to others that need no settling
    ],
)
def test_taking_many(tags, settled, through, taken):
    unacked = holding(*tags)
    for tag in settled:
        unacked.take(tag)
    assert take_through(unacked, through) == [(tag, str(tag)) for tag in taken]
    assert left(unacked) == [tag for tag in tags if tag not in taken and tag not in settled]


@pytest.mark.parametrize(
    ("tags", "settled", "through"),
    [
        ([], [], 1),
        ([1, 2], [], 3),  # above all that is held
        ([1, 2], [1, 2], 2),
        ([1, 2, 3], [1], 1),  # nothing at or below is left
        ([1, 2, 3], [2], 2),  # settled already, though a lower one is not
        ([2, 5, 9], [], 7),  # held by nobody: it needed no settling
        ([5], [], 4),
    ],
)
def test_taking_many_up_to_one_that_is_not_held_is_refused(tags, settled, through):
    unacked = holding(*tags)
    for tag in settled:
        unacked.take(tag)
    before = left(unacked)
    with pytest.raises(PreconditionFailed, match=f"unknown delivery tag {through}"):
        take_through(unacked, through)
    assert left(unacked) == before


@pytest.mark.parametrize("tag", [0, 2, 99])
def test_taking_one_that_is_not_held_is_refused(tag):
    with pytest.raises(PreconditionFailed, match=f"^PRECONDITION_FAILED - unknown delivery tag {tag}$"):
        holding(1).take(tag)


def test_many_after_a_long_time_of_single_ones_looks_at_no_old_tag():
    unacked = Unacked()
    unacked.hold([(2**62, "a"), (2**62 + 1, "b")])  # a walk over all tags would never end
    assert take_through(unacked, 2**62 + 1) == [(2**62, "a"), (2**62 + 1, "b")]


def test_what_is_given_back_is_held_in_order():
    unacked = holding(1, 2, 3, 4)
    taken = [*take_through(unacked, 2), (4, unacked.take(4))]
    unacked.hold([(5, "5")])
    list(unacked.give_back(taken))
    assert left(unacked) == [1, 2, 3, 4, 5]
    assert [tag for tag, _ in take_through(unacked, 4)] == [1, 2, 3, 4]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["hold", "skip"]), st.integers(1, 5)),
            st.tuples(st.sampled_from(["take", "through"]), st.integers(0, 40)),
            st.tuples(st.just("give back"), st.just(0)),
        ),
        max_size=40,
    ),
    st.integers(1, 5),
)
def test_any_order_of_events_equals_a_dict(steps, most):
    unacked, model, taken, next_tag = Unacked(), {}, [], 1
    for what, number in steps:
        if what == "hold":
            fresh = [(tag, tag) for tag in range(next_tag, next_tag + number)]
            unacked.hold(fresh)
            model.update(fresh)
        if what in ("hold", "skip"):
            next_tag += number
        elif what == "give back":
            list(unacked.give_back(taken))
            model.update(taken)
            taken = []
        else:
            if what == "take":
                wanted = [number] if number in model else None
            elif number == 0:
                wanted = sorted(model)
            else:
                wanted = [tag for tag in sorted(model) if tag <= number] if number in model else None
            if wanted is None:
                with pytest.raises(PreconditionFailed):
                    unacked.take(number) if what == "take" else take_through(unacked, number, most)
            elif what == "take":
                taken.append((number, unacked.take(number)))
            else:
                taken += take_through(unacked, number, most)
            for tag in wanted or ():
                del model[tag]
        assert left(unacked) == sorted(model)
        assert len(unacked) == len(model)
