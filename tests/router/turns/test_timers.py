"""The heap of deadlines."""

import pytest

from leveret.router.turns.timers import SWEEP, Timers


class Target:
    def __init__(self, name="", again=None, error=None):
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
    assert len(timers._heap) <= 2 * SWEEP
    timers.run(50)
    assert waiting.called == [50]
