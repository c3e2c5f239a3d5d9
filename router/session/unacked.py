"""The messages a session has been given and has not settled yet."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Literal

from protocol.errors import PreconditionFailed
from router.queue.consumers import Consumer
from router.queue.entry import Entry
from router.queue.kind import Source

Held = tuple[Source, Consumer | None, Entry]  # no consumer: taken by basic.get
Taken = list[tuple[int, Held]]  # what is being settled, with its tags
Verb = Literal["ack", "reject", "requeue"]  # what a client says of it


def unknown_tag(tag: int) -> PreconditionFailed:
    """Nothing is held under this tag."""
    return PreconditionFailed(f"unknown delivery tag {tag}")


class Unacked:
    """Held messages by delivery tag, the lowest first.

    Settling many costs no more than settling each, and nothing for those that were settled one by one before.
    """

    __slots__ = ("_held", "_lowest")

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._lowest = 1  # no tag below it is held

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[int, Held]]:
        """All held messages with their tags, the oldest first."""
        return iter(self._held.items())

    def hold(self, held: Iterable[tuple[int, Held]]) -> None:
        self._held.update(held)

    def take(self, tag: int) -> Held:
        """Take out one. PreconditionFailed when the tag is not held."""
        try:
            return self._held.pop(tag)
        except KeyError:
            raise unknown_tag(tag) from None

    def take_each(self, tags: Sequence[int]) -> Taken:
        """Take out those with these tags, as far as the first that is not held."""
        pop = self._held.pop
        taken: Taken = []
        for tag in tags:
            held = pop(tag, None)
            if held is None:
                break
            taken.append((tag, held))
        return taken

    def take_through(self, tag: int) -> Taken:
        """Take out all up to and including ``tag``; all there are for tag 0. PreconditionFailed when the tag
        is not held, as in RabbitMQ: not even when others below it are.
        """
        if tag == 0:
            return self.take_all()
        if tag not in self._held:
            raise unknown_tag(tag)
        pop = self._held.pop
        numbers: Iterable[int] = range(self._lowest, tag + 1)
        if tag - self._lowest > 2 * len(self._held):
            numbers = list(takewhile(tag.__ge__, self._held))
        taken = [(number, held) for number in numbers if (held := pop(number, None)) is not None]
        self._lowest = tag + 1
        return taken

    def take_all(self) -> Taken:
        """Take out everything, in the order it was delivered."""
        taken = list(self._held.items())
        self._held = {}
        if taken:
            self._lowest = taken[-1][0] + 1
        return taken

    def give_back(self, taken: Iterable[tuple[int, Held]]) -> None:
        """Hold again what was taken out, under the same tags: a transaction was rolled back."""
        self._held = dict(sorted((*taken, *self._held.items())))
        self._lowest = next(iter(self._held), self._lowest)
