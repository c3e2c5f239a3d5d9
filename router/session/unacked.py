"""The messages a session has been given and has not settled yet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, islice
from operator import itemgetter
from typing import Literal

from leveret.protocol.errors import PreconditionFailed
from leveret.router.queue.consumers import Consumer
from leveret.router.queue.entry import Entry
from leveret.router.queue.interface import QueueLike
from leveret.router.turns.backlog import Slices

Held = tuple[QueueLike, Consumer | None, Entry]  # no consumer: taken by basic.get
Taken = list[tuple[int, Held]]  # what is being settled, with its tags
Verb = Literal["ack", "reject", "requeue"]  # what a client says of it
TAG = itemgetter(0)
PIECE = 512  # messages that are settled, or held again, in a slice


def unknown_tag(tag: int) -> PreconditionFailed:
    """Nothing is held under this tag."""
    return PreconditionFailed(f"unknown delivery tag {tag}")


def by_source(taken: Taken) -> tuple[dict[QueueLike, list[Entry]], Mapping[Consumer, int]]:
    """Group messages by their sources, and count how many of them each consumer held."""
    sources: dict[QueueLike, list[Entry]] = {}
    consumers: dict[Consumer, int] = {}
    for _, (source, consumer, entry) in taken:
        if source in sources:
            sources[source].append(entry)
        else:
            sources[source] = [entry]
        if consumer is not None:
            consumers[consumer] = consumers.get(consumer, 0) + 1
    return sources, consumers


def reclaim(taken: Taken) -> None:
    """Let the sources put back those of these messages that no session holds: an exception was raised while
    they were being settled.
    """
    for _, (source, _, entry) in taken:
        source.reclaim([entry])


class Unacked:
    """Held messages by delivery tag, the lowest first.

    Settling many costs no more than settling each, and nothing for those that were settled one by one before.
    """

    __slots__ = ("_before", "_held", "lowest")

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._before: dict[int, Held] = {}  # those that ``give_back`` has not held again yet
        self.lowest = 1  # no tag below it is held

    def __len__(self) -> int:
        return len(self._before) + len(self._held)

    def __iter__(self) -> Iterator[tuple[int, Held]]:
        """All held messages with their tags, the oldest first."""
        return chain(self._before.items(), self._held.items())

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

    def take_through(self, tag: int, most: int) -> Taken:
        """Take out those up to and including ``tag``, or as many of the lowest as are not more than ``most``;
        for tag 0 up to the highest. PreconditionFailed when the tag is not held, as in RabbitMQ: not even
        when others below it are.

        There is more to take as long as ``holds_through(tag)``.
        """
        if tag == 0:
            tag = self.highest
        elif tag not in self._held:
            raise unknown_tag(tag)
        pop = self._held.pop
        numbers: Sequence[int] = range(self.lowest, tag + 1)
        if tag - self.lowest > 2 * len(self._held):
            numbers = [number for number in islice(self._held, most) if number <= tag]
        numbers = numbers[:most]
        taken = [(number, held) for number in numbers if (held := pop(number, None)) is not None]
        if numbers:
            self.lowest = numbers[-1] + 1
        return taken

    @property
    def highest(self) -> int:
        """The highest tag that is held, 0 if there is none."""
        return next(reversed(self._held), 0)

    def holds_through(self, tag: int) -> bool:
        """Return True if ``tag`` is still held (any, for tag 0), and so are perhaps others below it."""
        return tag in self._held or (tag == 0 and len(self._held) > 0)

    def take_all(self) -> Taken:
        """Take out everything, in the order it was delivered."""
        taken = list(self._held.items())
        self._held = {}
        if taken:
            self.lowest = taken[-1][0] + 1
        return taken

    def give_back(self, taken: Iterable[tuple[int, Held]]) -> Slices:
        """Hold again what was taken out, under the same tags: a transaction was rolled back. It is done in
        slices; until the last only messages that are delivered meanwhile are held.
        """
        before = self._before = self._held
        self._held = {}
        runs: list[Taken] = [[]]  # each in the order of its tags
        taken = iter(taken)
        while piece := sorted(islice(taken, PIECE), key=TAG):
            if not runs[-1] or runs[-1][-1][0] < piece[0][0]:
                runs[-1] += piece
            else:
                runs.append(piece)
            yield
        together = merge(*runs, before.items(), key=TAG)
        restored: dict[int, Held] = {}
        while piece := list(islice(together, PIECE)):
            restored.update(piece)
            yield
        restored.update(self._held)
        self._held, self._before = restored, {}
        self.lowest = next(iter(restored), self.lowest)
