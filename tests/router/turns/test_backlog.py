"""Listeners of unfinished work."""

import pytest

from leveret.router.turns.backlog import Backlog
from leveret.router.turns.budget import Budget


def steps(count, error=None):
    for _ in range(count):
        yield
    if error is not None:
        raise error


@pytest.fixture
def backlog():
    """A backlog whose budget is spent after each slice."""
    budget = Budget(lambda: 1.0)
    budget.begin(0.0)
    return Backlog(budget)


def run_all(backlog):
    while backlog.works:
        backlog.run()


@pytest.mark.parametrize("error", [None, OSError("no")])
def test_all_listeners_get_the_result_of_work_once(backlog, error):
    work = backlog.start("work", steps(3, error))
    results = []
    for number in range(3):
        work.listeners.append(lambda error, number=number: results.append((number, error)))
    backlog.run()
    assert (results, work.ended) == ([], False)
    run_all(backlog)
    assert (results, work.ended) == ([(0, error), (1, error), (2, error)], True)


def test_a_listener_that_raises_does_not_keep_others_from_the_result(backlog):
    work = backlog.start("work", steps(1))
    results = []

    def fail(error):
        raise RuntimeError("listener")

    work.listeners += [fail, results.append]
    with pytest.raises(RuntimeError, match="listener"):
        run_all(backlog)
    assert results == [None]


def test_exception_of_work_without_listeners_is_raised_and_other_work_continues(backlog):
    failing = backlog.start("failing", steps(1, OSError("no")))
    other = backlog.start("other", steps(3))
    with pytest.raises(OSError, match="no"):
        run_all(backlog)
    run_all(backlog)
    assert (failing.ended, other.ended) == (True, True)


def test_work_that_follows_runs_after_a_failure_and_before_the_listeners(backlog):
    error, done = OSError("no"), []
    work = backlog.start("work", steps(1, error))

    def following():
        done.append("followed")
        yield

    work.follow(following())
    work.listeners.append(done.append)
    run_all(backlog)
    assert done == ["followed", error]
