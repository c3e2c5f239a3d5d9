"""Which tests of a suite count as broken, told by what they do when they are repeated."""

from conformance.peers.__main__ import REPEATS, repeated
from conformance.peers.run import Outcome


class Runs:
    """A broker whose tests come out as a script says, one word for each repetition."""

    def __init__(self, **scripts):
        self._scripts = {f"file::{name}": iter(script.split()) for name, script in scripts.items()}
        self.asked = []

    def __call__(self, tests):
        self.asked.append(list(tests))
        return {test: Outcome(next(self._scripts[test])) for test in tests}


def test_what_passes_here_once_is_unsteady_and_what_fails_there_once_is_too():
    here = Runs(a="failed passed", b="failed failed failed", c="failed failed failed")
    there = Runs(b="passed failed", c="passed passed passed")
    names = ["file::a", "file::b", "file::c"]
    assert repeated([*names, "whole_file"], here, there) == (["file::a"], ["file::b"])
    assert here.asked == [names, names, names[1:]]
    assert there.asked == [names[1:], names[1:], names[2:]]
    assert len(here.asked) == len(there.asked) == REPEATS


def test_nothing_is_repeated_without_need():
    here, there = Runs(a="passed"), Runs()
    assert repeated(["file::a"], here, there) == (["file::a"], [])
    assert (here.asked, there.asked) == ([["file::a"]], [])
