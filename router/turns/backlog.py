"""Work that takes longer than a turn of the event loop may: it goes on in later turns, a slice at a time.

Owns what is unfinished, and whose turn it is: all unfinished work goes on in turn, so that a large one keeps
no small one waiting. What a slice does, and how large it is (a millisecond at the most), is up to whoever
starts the work.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias, TypeVar

from leveret.router.turns.budget import Budget

Slices: TypeAlias = Iterator[None]  # each step of it is a slice
Over: TypeAlias = Callable[[Exception | None], None]
Result = TypeVar("Result")
Slicing: TypeAlias = Generator[None, None, Result]  # slices that return a result


class TakesLong(Exception):
    """The turn's budget is spent and the result is not there: ``slices`` go on, and return it."""

    def __init__(self, slices: Slicing[Any]) -> None:
        super().__init__("goes on in a later turn")
        self.slices = slices


def at_once(slices: Slicing[Result]) -> Result:
    """Do all slices; return the result."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result


def in_time(slices: Slicing[Result], budget: Budget) -> Result:
    """Do slices until the result is there and return it. Raises TakesLong if the budget is spent before."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result
        if budget.spent():
            raise TakesLong(slices)


class LongWork:
    """Work that is unfinished. ``what`` names it for people; ``over`` is called once when all of it is done,
    or has failed, with what it failed with.
    """

    __slots__ = ("_behind", "_slices", "error", "over", "what")

    def __init__(self, what: str, slices: Slices) -> None:
        self.what = what
        self.error: Exception | None = None
        self.over: Over | None = None
        self._slices = slices
        self._behind: deque[Slices] = deque()

    def follow(self, slices: Slices) -> None:
        """Have other work follow on this, whatever becomes of it."""
        self._behind.append(slices)

    def step(self) -> bool:
        """Do a slice. Return True if that was the last."""
        try:
            next(self._slices)
        except StopIteration:
            pass
        except Exception as error:
            self.error = self.error or error
        else:
            return False
        if self._behind:
            self._slices = self._behind.popleft()
            return False
        return True


class Postponed(Exception):
    """A command has to wait until ``work`` is over, and is to be handled anew then."""

    def __init__(self, work: LongWork) -> None:
        super().__init__(work.what)
        self.work = work


class Backlog:
    """All unfinished work of a broker, as ``works``. ``doing`` names what went on last, for people."""

    __slots__ = ("_budget", "doing", "works")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.works: deque[LongWork] = deque()
        self.doing = ""

    def start(self, what: str, slices: Slices) -> LongWork | None:
        """Do work until the turn's budget is spent. Return what is unfinished and goes on in later turns,
        None if all is done. Raises what the slices do.
        """
        for _ in slices:
            if self._budget.spent():
                work = LongWork(what, slices)
                self.works.append(work)
                return work
        return None

    def run(self) -> None:
        """Go on with unfinished work, one slice at least, until the turn's budget is spent. Raises what work
        failed with that nobody waits for.
        """
        while self.works:
            work = self.works.popleft()
            self.doing = work.what
            if not work.step():
                self.works.append(work)
            elif work.over is not None:
                work.over(work.error)
            elif work.error is not None:
                raise work.error
            if self._budget.spent():
                break
