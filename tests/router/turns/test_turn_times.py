"""Durations of turns: the longest recent one, and logged ones."""

import pytest

from leveret.router.turns.budget import Budget
from leveret.router.turns.turn_times import PAUSE, SLOW, WINDOW, Turn, TurnTimes


def test_the_longest_turn_is_kept_by_time_and_by_processor_time():
    times = TurnTimes()
    for turn in (Turn(0.01, 0.001, "waiting"), Turn(0.008, 0.007, "computing"), Turn(0.002, 0.002, "short")):
        times.record(turn, 0)
    assert (times.longest(0).what, times.longest_cpu(0).what) == ("waiting", "computing")
    assert (times.most, times.most_cpu) == (0.01, 0.007)


@pytest.mark.parametrize(
    ("later", "kept"),
    [(WINDOW - 1, 0.04), (WINDOW, 0.04), (2 * WINDOW - 1, 0.04), (2 * WINDOW, 0.0), (5 * WINDOW, 0.0)],
)
def test_a_long_turn_is_shown_for_one_to_two_minutes(later, kept):
    times = TurnTimes()
    times.record(Turn(0.04, 0.04), 0)
    assert times.longest(later).seconds == times.longest_cpu(later).cpu_seconds == kept


def test_slow_turns_are_counted_each_and_logged_once_a_second():
    times = TurnTimes()
    moments = (0, 1, PAUSE - 1, PAUSE, PAUSE + 1)
    assert [times.record(Turn(SLOW, 0), now) for now in moments] == [True, False, False, True, False]
    assert times.slow == len(moments)
    assert not times.record(Turn(SLOW - 0.001, 0), 10 * PAUSE)


def test_a_budget_without_a_clock_is_never_spent():
    budget = Budget()
    budget.until = 0
    assert not budget.spent()
    budget.clock = lambda: 5
    budget.until = 6
    assert not budget.spent()
    budget.until = 5
    assert budget.spent()
