"""Work longer than a turn of the event loop, continued in later turns in slices.

Responsible for unfinished work and its order: unfinished works continue round-robin, so that a long one does
not delay a short one. The caller chooses the content and the size of a slice (at most a millisecond).
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

from leveret.router.turns.budget import Budget

Slices: TypeAlias = Iterator[None]  # each step is a slice
Listener: TypeAlias = Callable[[Exception | None], None]
Start: TypeAlias = Callable[[str, Slices], object]  # as ``Backlog.start``
Result = TypeVar("Result")
Slicing: TypeAlias = Generator[None, None, Result]  # slices that return a result


class TakesLong(Exception):
    """The turn's budget is spent before the result is known: ``slices`` continue, and return the result."""

    def __init__(self, slices: Slicing[Any]) -> None:
        super().__init__("continues in a later turn")
        self.slices = slices


def at_once(slices: Slicing[Result]) -> Result:
    """Run all slices; return the result."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result


def start_at_once(what: str, slices: Slices) -> None:
    """Run all slices, for tests and tools without an event loop."""
    for _ in slices:
        pass


def in_one_slice(slices: Slicing[Result]) -> Result | None:
    """Run one slice; return the result if it was the only one, else None."""
    try:
        next(slices)
    except StopIteration as end:
        result: Result = end.value
        return result
    return None


def in_time(slices: Slicing[Result], budget: Budget) -> Result:
    """Run slices and return their result. Raises TakesLong if the budget is spent before."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result
        if budget.spent():
            raise TakesLong(slices)


class LongWork:
    """Unfinished work. ``what`` names it in logs; ``ended`` is True after the last slice.

    Each of ``listeners`` is called once, when all slices are done or one failed, with the exception of the
    failed slice or None.
    """

    __slots__ = ("_later", "_slices", "ended", "error", "listeners", "what")

    def __init__(self, what: str, slices: Slices) -> None:
        self.what = what
        self.ended = False
        self.error: Exception | None = None
        self.listeners: list[Listener] = []
        self._slices = slices
        self._later: deque[Slices] = deque()

    def follow(self, slices: Slices) -> None:
        """Append other slices, which run after this work even if it fails."""
        self._later.append(slices)

    def step(self) -> bool:
        """Run a slice. Return True if it was the last."""
        try:
            next(self._slices)
        except StopIteration:
            pass
        except Exception as error:
            self.error = self.error or error
        else:
            return False
        if self._later:
            self._slices = self._later.popleft()
            return False
        return True

    def end(self) -> None:
        """Call the listeners after the last slice; all are called even if one raises.

        Raises the exception of a failed slice if there are no listeners.
        """
        self.ended = True
        if self.error is not None and not self.listeners:
            raise self.error
        with ExitStack() as calls:
            for listener in reversed(self.listeners):
                calls.callback(listener, self.error)


class Postponed(Exception):
    """A command that must wait until ``work`` has ended, and is then handled again from its beginning."""

    def __init__(self, work: LongWork) -> None:
        super().__init__(work.what)
        self.work = work


class Backlog:
    """All unfinished work of a broker, as ``works``. ``doing`` names the work that ran last, for logs."""

    __slots__ = ("_budget", "doing", "works")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.works: deque[LongWork] = deque()
        self.doing = ""

    def start(self, what: str, slices: Slices) -> LongWork | None:
        """Run slices until the turn's budget is spent.

        Returns the unfinished work, which continues in later turns, or None if all is done. Raises the
        exceptions of the slices.
        """
        for _ in slices:
            if self._budget.spent():
                work = LongWork(what, slices)
                self.works.append(work)
                return work
        return None

    def run(self) -> None:
        """Continue unfinished work, at least one slice, until the turn's budget is spent.

        Raises the exception of failed work that has no listeners.
        """
        while self.works:
            work = self.works.popleft()
            self.doing = work.what
            if not work.step():
                self.works.append(work)
            else:
                work.end()
            if self._budget.spent():
                break
