"""Response steps: waiting points of HTTP handlers, as values that a handler yields.

A handler that cannot respond at once is a generator. It yields a ``Wait``, or the seconds after which it
continues (0: after all other tasks have run), or a ``Growth``. Its return value is the response.
``router/server/http.py`` does the waiting.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from leveret.router.turns.backlog import Slicing

GATHERED = 1000  # items that are collected before other tasks run: half a millisecond

T = TypeVar("T")


class Wait:
    """An event that a handler waits for: its producer calls ``finish``, the connection sets ``notify``.

    The event may never happen: a handler that is resumed checks ``done``. ``login`` is True while the user of
    the request is still unknown.
    """

    __slots__ = ("done", "login", "notify")

    def __init__(self, *, login: bool = False) -> None:
        self.done = False
        self.login = login
        self.notify: Callable[[], None] | None = None

    def finish(self) -> None:
        """Mark the event as happened and notify the waiting connection."""
        self.done = True
        if self.notify is not None:
            self.notify()


@dataclass(frozen=True, slots=True)
class Growth:
    """A pause until all other tasks have run, and the response's parts fit into the memory of responses.

    ``size`` is the memory of the parts that are made, in bytes.
    """

    size: int


Step: TypeAlias = float | Wait | Growth
ResponseSteps: TypeAlias = Generator[Step, None, T]


def gathered(items: Iterable[T]) -> ResponseSteps[list[T]]:
    """Collect the items in a list, in steps. ``items`` must tolerate objects that appear or vanish between
    steps.
    """
    found: list[T] = []
    for item in items:
        found.append(item)
        if not len(found) % GATHERED:
            yield 0
    return found


def stepwise(slices: Slicing[T]) -> ResponseSteps[T]:
    """Run sliced work of the broker, one slice in each step; return its result."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: T = end.value
            return result
        yield 0


def released(items: list[T]) -> ResponseSteps[None]:
    """Empty a list in steps: freeing many objects at once takes as long as making them."""
    while items:
        del items[-GATHERED:]
        yield 0
