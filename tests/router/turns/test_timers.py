"""The heap of deadlines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.router.turns.timers import SWEEP, SWEPT, Timers


class Target:
    def __init__(self, name="", again=None, error=None):
        self.name = name
        self.called = []
        self.finished = False
        self.again = again
        self.error = error

    def on_timer(self, now):
        self.called.append(now)
        if self.again is not None:
            self.again(self)
        if self.error is not None:
            raise self.error


def test_nothing_is_due_when_nothing_was_asked_for():
    timers = Timers()
    timers.run(100)
    assert timers.next_deadline() is None


def test_targets_are_called_when_their_time_has_come():
    timers, early, late = Timers(), Target(), Target()
    timers.schedule(20, late)
    timers.schedule(10, early)
    assert timers.next_deadline() == 10
    timers.run(9)
    assert not early.called
    timers.run(10)
    assert (early.called, late.called) == ([10], [])
    assert timers.next_deadline() == 20


def test_targets_of_one_moment_are_called_in_the_order_they_asked():
    timers, order = Timers(), []
    targets = [Target(again=order.append) for _ in range(5)]
    for target in targets:
        timers.schedule(7, target)
    timers.run(7)
    assert order == targets


def test_a_target_that_asks_for_the_past_is_called_the_next_time():
    timers = Timers()
    target = Target(again=lambda target: timers.schedule(0, target))
    timers.schedule(5, target)
    timers.run(5)
    assert target.called == [5]
    timers.run(5)
    assert target.called == [5, 5]


def test_an_error_does_not_keep_those_behind_it_from_being_called():
    timers, failing, behind = Timers(), Target(error=RuntimeError("broken")), Target()
    timers.schedule(1, failing)
    timers.schedule(2, behind)
    with pytest.raises(RuntimeError):
        timers.run(5)
    assert timers.next_deadline() == 2
    timers.run(5)
    assert behind.called == [5]


def test_finished_targets_are_swept_out_and_the_others_stay():
    timers, waiting = Timers(), Target()
    timers.schedule(50, waiting)
    for number in range(20 * SWEEP):
        target = Target()
        timers.schedule(1000 + number, target)
        target.finished = True
    assert len(timers) <= 2 * SWEEP
    timers.run(50)
    assert waiting.called == [50]


def test_a_sweep_looks_at_few_targets_in_each_call():
    timers, looked = Timers(), []

    class Watched(Target):
        finished = property(lambda self: bool(looked.append(self)), lambda self, value: None)

    calls = []
    for number in range(4 * SWEEP):
        timers.schedule(number, Watched())
        calls.append(len(looked))
        looked.clear()
    assert max(calls) == SWEPT
    assert sum(calls) >= SWEEP


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), max_size=60))
def test_targets_are_called_in_their_order_also_during_a_sweep(steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leveret.router.turns.timers.SWEEP", 3)
        timers = Timers()
        timers._most = 3
        waiting, called, now = [], [], 0
        for number, (delay, finished, run) in enumerate(steps):
            target = Target(name=(now + delay, number), again=lambda target: called.append(target.name))
            timers.schedule(now + delay, target)
            waiting.append(target)
            if finished:
                target.finished = True
            if run:
                now += 5
                timers.run(now)
                expected = sorted(each.name for each in waiting if not each.finished and each.name[0] <= now)
                finished_names = {each.name for each in waiting if each.finished}
                assert [name for name in called if name not in finished_names] == expected
                waiting = [each for each in waiting if each.name[0] > now]
                called.clear()
        deadlines = [each.name[0] for each in waiting if not each.finished]
        following = timers.next_deadline()
        assert not deadlines or (following is not None and following <= min(deadlines))
