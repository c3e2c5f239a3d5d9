"""What an answer may wait for, told by functions that do no waiting.

A handler that cannot answer at once is a generator. What it yields says when it is to go on: a ``Wait``, or
after so many seconds (0: after everyone else has had a turn). What it returns is the answer.
"""

from collections.abc import Callable, Generator, Iterable
from typing import TypeAlias, TypeVar

GATHERED = 1000  # items that are gathered before others have their turn: half a millisecond

T = TypeVar("T")


class Wait:
    """Something that has to happen first: who knows that it has says ``finish``, who waits sets ``notify``.

    It may never happen: who goes on looks at ``done``. ``login`` says that it is known only then who asks.
    """

    __slots__ = ("done", "login", "notify")

    def __init__(self, *, login: bool = False) -> None:
        self.done = False
        self.login = login
        self.notify: Callable[[], None] | None = None

    def finish(self) -> None:
        """It has happened."""
        self.done = True
        if self.notify is not None:
            self.notify()


Step: TypeAlias = float | Wait
Steps: TypeAlias = Generator[Step, None, T]


def gathered(items: Iterable[T]) -> Steps[list[T]]:
    """Return the items as a list, gathered in steps. ``items`` must bear that things come and go."""
    found: list[T] = []
    for item in items:
        found.append(item)
        if not len(found) % GATHERED:
            yield 0
    return found


def released(items: list[T]) -> Steps[None]:
    """Empty a list in steps: to free many objects at once takes as long as to make them."""
    while items:
        del items[-GATHERED:]
        yield 0
