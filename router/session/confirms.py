"""Publisher confirms of one session, as a value: what was published, what is still to be said.

A confirm waits until every queue has the message on disk, or has settled it. Confirms are told in the order
of the publishes, and in as few words as possible.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from leveret.router.values.outcome import Awaited


class Verdict(NamedTuple):
    """What to tell the publisher: the sequence number, whether all before it share the verdict, and the
    verdict.
    """

    number: int
    multiple: bool
    accepted: bool


class Stored:
    """The publishes of one batch, with the entries that are stored with it: of one publish several, or of
    several that came together one each.

    Kept together, for when the batch is on disk nobody needs to look at each.
    """

    __slots__ = ("batch", "publishes")

    def __init__(self, batch: int) -> None:
        self.batch = batch
        # The number of the first publish, its entries, and how much further the publish of the next one is.
        self.publishes: deque[tuple[int, Sequence[Awaited], int]] = deque()

    def first_unsettled(self) -> int:
        """The first publish that some queue has not settled; 0 when there is none. Those before it go."""
        publishes = self.publishes
        while publishes:
            number, entries, step = publishes[0]
            for index, entry in enumerate(entries):
                if not entry.settled:
                    if step and index:
                        number += index
                        publishes[0] = number, entries[index:], step
                    return number
            publishes.popleft()
        return 0

    def refused(self) -> list[int]:
        """The publishes that were not kept, as at least one of their messages was refused by the store."""
        numbers = []
        for number, entries, step in self.publishes:
            found = [index for index, entry in enumerate(entries) if entry.refused and not entry.settled]
            numbers += [number + index for index in found] if step else [number for _ in found[:1]]
        return numbers


class Confirms:
    """Sequence numbers start at 1 with the first publish after confirm.select. ``unstored`` counts the
    publishes that the store has refused.
    """

    __slots__ = ("_refused", "_stored", "_told", "published", "unstored")

    def __init__(self) -> None:
        self.published = 0
        self.unstored = 0
        self._told = 0
        self._refused: deque[int] = deque()
        self._stored: deque[Stored] = deque()

    @property
    def told(self) -> int:
        """How many were confirmed, or refused."""
        return self._told

    def publish(self, accepted: bool, batch: int = 0, entries: Sequence[Awaited] = ()) -> bool:
        """Count a publish that every queue it was routed to has taken, or one of them has refused.

        ``entries`` are those that are stored with ``batch``. True when it is the first that may be told once
        that is on disk; without entries, the first to be told as soon as this turn has ended.
        """
        self.published += 1
        if not accepted:
            self._refused.append(self.published)
        stored = self._stored
        if not entries:
            return not stored and self.published == self._told + 1
        first = not stored or stored[-1].batch != batch
        if first:
            stored.append(Stored(batch))
        stored[-1].publishes.append((self.published, entries, 0))
        return first

    def publish_all(self, count: int, batch: int = 0, entries: Sequence[Awaited] = ()) -> bool:
        """Count publishes that one queue each was routed to, and that have all been taken.

        With ``entries`` each is stored with ``batch`` in its own one. Returns what ``publish`` does.
        """
        before = self.published
        self.published += count
        stored = self._stored
        if not entries:
            return not stored and before == self._told
        first = not stored or stored[-1].batch != batch
        if first:
            stored.append(Stored(batch))
        stored[-1].publishes.append((before + 1, entries, 1))
        return first

    def verdicts(self, committed: int, *, refusals: bool = False) -> list[Verdict]:
        """What is to be told now that all batches up to ``committed`` are on disk; it counts as told.

        ``refusals``: some messages were refused by the store, so each has to be looked at.
        """
        stored = self._stored
        last = self.published
        while stored:
            if stored[0].batch > committed and (waiting := stored[0].first_unsettled()):
                last = waiting - 1
                break
            ended = stored.popleft()
            if refusals and (refused := ended.refused()):
                self.unstored += len(refused)
                self._refused = deque(sorted({*self._refused, *refused}))
        verdicts: list[Verdict] = []
        while self._refused and self._refused[0] <= last:
            number = self._refused.popleft()
            self._tell(verdicts, number - 1, accepted=True)
            self._tell(verdicts, number, accepted=False)
        self._tell(verdicts, last, accepted=True)
        return verdicts

    def _tell(self, verdicts: list[Verdict], number: int, *, accepted: bool) -> None:
        """Tell that all up to ``number`` that have no verdict yet share this one; the last one told is
        widened if it can be.
        """
        if number <= self._told:
            return
        first = self._told + 1
        if verdicts and verdicts[-1].accepted == accepted:
            verdicts.pop()
            first = 0
        verdicts.append(Verdict(number, first != number, accepted))
        self._told = number
