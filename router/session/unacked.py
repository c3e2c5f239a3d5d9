"""Unacknowledged messages of a session, by delivery tag."""

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

Held = tuple[QueueLike, Consumer | None, Entry]  # no consumer: delivered by basic.get
Taken = list[tuple[int, Held]]  # messages that are being settled, with their tags
Verb = Literal["ack", "reject", "requeue"]  # how they are settled
TAG = itemgetter(0)
PIECE = 512  # messages that are settled, or held again, in a slice


def unknown_tag(tag: int) -> PreconditionFailed:
    """Return the error for a delivery tag without an unacknowledged message."""
    return PreconditionFailed(f"unknown delivery tag {tag}")


def by_source(taken: Taken) -> tuple[dict[QueueLike, list[Entry]], Mapping[Consumer, int]]:
    """Group messages by their sources, and count how many of them each consumer held."""
    sources: dict[QueueLike, list[Entry]] = {}
    consumers: dict[Consumer, int] = {}
    last_source: QueueLike | None = None
    last_consumer: Consumer | None = None
    entries: list[Entry] = []
    count = 0  # of consecutive messages of ``last_consumer``
    for _, (source, consumer, entry) in taken:
        if source is not last_source:
            entries = sources.setdefault(source, [])
            last_source = source
        entries.append(entry)
        if consumer is not last_consumer:
            if last_consumer is not None:
                consumers[last_consumer] = consumers.get(last_consumer, 0) + count
            last_consumer, count = consumer, 0
        count += 1
    if last_consumer is not None:
        consumers[last_consumer] = consumers.get(last_consumer, 0) + count
    return sources, consumers


def reclaim(taken: Taken) -> None:
    """Return messages to their queues after an exception while they were being settled. Messages that a
    session holds stay there.
    """
    for _, (source, _, entry) in taken:
        source.reclaim([entry])


class Unacked:
    """Held messages by delivery tag, the lowest first.

    Settling many at once costs no more than one by one, and nothing for messages that are settled already.
    """

    __slots__ = ("_before", "held", "lowest")

    def __init__(self) -> None:
        self.held: dict[int, Held] = {}
        self._before: dict[int, Held] = {}  # messages that ``give_back`` has not held again yet
        self.lowest = 1  # no tag below it is held

    def __len__(self) -> int:
        return len(self._before) + len(self.held)

    def __iter__(self) -> Iterator[tuple[int, Held]]:
        """Iterate over all held messages with their tags, the oldest first."""
        return chain(self._before.items(), self.held.items())

    def hold(self, held: Iterable[tuple[int, Held]]) -> None:
        self.held.update(held)

    def take(self, tag: int) -> Held:
        """Remove and return the message of a tag. Raises PreconditionFailed if the tag is not held."""
        try:
            return self.held.pop(tag)
        except KeyError:
            raise unknown_tag(tag) from None

    def take_each(self, tags: Sequence[int]) -> Taken:
        """Remove and return the messages of these tags, up to the first tag that is not held."""
        pop = self.held.pop
        taken: Taken = []
        for tag in tags:
            held = pop(tag, None)
            if held is None:
                break
            taken.append((tag, held))
        return taken

    def take_through(self, tag: int, most: int) -> Taken:
        """Remove and return the messages up to and including ``tag`` (0: the highest), the lowest first, for
        at most ``most`` tags. Raises PreconditionFailed if the tag is not held, as in RabbitMQ, even if lower
        tags are.

        There are more to remove as long as ``holds_through(tag)``.
        """
        if tag == 0:
            tag = self.highest
        elif tag not in self.held:
            raise unknown_tag(tag)
        pop = self.held.pop
        numbers: Sequence[int] = range(self.lowest, tag + 1)
        if tag - self.lowest > 2 * len(self.held):
            numbers = [number for number in islice(self.held, most) if number <= tag]
        numbers = numbers[:most]
        taken = [(number, held) for number in numbers if (held := pop(number, None)) is not None]
        if numbers:
            self.lowest = numbers[-1] + 1
        return taken

    @property
    def highest(self) -> int:
        """The highest held tag, 0 if there is none."""
        return next(reversed(self.held), 0)

    def holds_through(self, tag: int) -> bool:
        """Return True if ``tag`` (0: any tag) is held; lower tags may be held too."""
        return tag in self.held or (tag == 0 and len(self.held) > 0)

    def give_back(self, taken: Iterable[tuple[int, Held]]) -> Slices:
        """Hold removed messages again under the same tags, after the rollback of a transaction, in slices.
        Until the last slice, only messages that are delivered meanwhile are held.
        """
        before = self._before = self.held
        self.held = {}
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
        restored.update(self.held)
        self.held, self._before = restored, {}
        self.lowest = next(iter(restored), self.lowest)
