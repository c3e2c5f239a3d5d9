"""The decision to take over: by a position that stands still, on the standby's own clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.cluster.owner_watch import OwnerWatch
from leveret.router.cluster.shared_store import Observation


def seen(position: int, epoch: int = 1, *, stopped: bool = False) -> Observation:
    return Observation(position, epoch, stopped)


def test_owner_that_appends_is_never_taken_for_gone():
    watch = OwnerWatch(3)
    assert not any(watch.is_gone(seen(second), second) for second in range(100))


def test_owner_is_gone_after_its_position_stood_still_for_that_long():
    watch = OwnerWatch(3)
    answers = [watch.is_gone(seen(7), 100 + tenth / 10) for tenth in range(35)]
    assert answers == [False] * 30 + [True] * 5


def test_first_observation_begins_the_wait_whatever_the_clock_says():
    assert not OwnerWatch(3).is_gone(seen(7), 1e9)


def test_owner_that_has_stopped_in_good_order_is_gone_at_once():
    assert OwnerWatch(3).is_gone(seen(7, stopped=True), 100)


def test_another_epoch_at_the_same_position_is_a_change():
    watch = OwnerWatch(3)
    watch.is_gone(seen(7, 1), 0)
    assert not watch.is_gone(seen(7, 2), 3)


def test_longer_lease_of_the_owner_is_waited_for():
    watch, slow = OwnerWatch(3), replace(seen(7), lease=8.0)
    assert not watch.is_gone(slow, 0)
    assert not watch.is_gone(slow, 7.9)
    assert watch.is_gone(slow, 8)


def test_wait_begins_anew_after_the_store_could_not_be_read():
    """The owner could not append either."""
    watch = OwnerWatch(3)
    watch.is_gone(seen(7), 0)
    watch.interrupt()
    assert not watch.is_gone(seen(7), 60)
    assert watch.is_gone(seen(7), 63)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 2)), max_size=60))
def test_owner_is_gone_only_after_the_whole_wait_without_a_change(steps):
    watch, now, position, changed = OwnerWatch(3), 0.0, 0, 0.0
    watch.is_gone(seen(0), now)
    for move, wait in steps:
        now += wait
        if move == 0:
            position += 1
            changed = now
        assert watch.is_gone(seen(position), now) == pytest.approx(now - changed >= 3)


@given(
    st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4)), max_size=30),
    st.lists(st.floats(0.01, 5), min_size=1, max_size=60),
)
def test_lease_of_the_owner_is_over_when_a_standby_takes_over(commits, polls):
    """Whenever commits begin, however long they take, and whenever the standby looks: a commit is visible
    after it has begun, and the lease lasts from the beginning of the last successful commit.
    """
    lease = 3.0
    ends: list[tuple[float, float]] = []  # when each commit is visible, and when its lease ends
    now = 0.0
    for wait, duration in commits:
        ends.append((now + wait + duration, now + wait + lease))
        now += wait + duration
    watch, now = OwnerWatch(lease), 0.0
    for wait in polls:
        now += wait
        visible = [lease_end for visible_at, lease_end in ends if visible_at <= now]
        if watch.is_gone(seen(len(visible)), now):
            assert all(lease_end <= now + 1e-9 for lease_end in visible)
            return
