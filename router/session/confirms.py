"""Publisher confirms of one session, as a value: what was published, what is still to be said.

A confirm waits until every queue has the message on disk, or has settled it. Confirms are told in the order
of the publishes, and in as few words as possible.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from router.queue.entry import Entry


class Verdict(NamedTuple):
    """What to tell the publisher: the sequence number, whether all before it share the verdict, and the
    verdict.
    """

    number: int
    multiple: bool
    accepted: bool


class Stored(NamedTuple):
    """A publish that was stored: on disk with its batch, or settled in every queue."""

    number: int
    batch: int
    entries: Sequence[Entry]


class Confirms:
    """Sequence numbers start at 1 with the first publish after confirm.select."""

    __slots__ = ("_refused", "_stored", "_told", "published")

    def __init__(self) -> None:
        self.published = 0
        self._told = 0
        self._refused: deque[int] = deque()
        self._stored: deque[Stored] = deque()

    def publish(self, accepted: bool, batch: int = 0, entries: Sequence[Entry] = ()) -> None:
        """Count a publish that every queue it was routed to has taken, or one of them has refused.

        ``entries`` are those that are stored with ``batch``.
        """
        self.published += 1
        if not accepted:
            self._refused.append(self.published)
        if entries:
            self._stored.append(Stored(self.published, batch, entries))

    def waiting(self) -> bool:
        """Whether anything is still to be said."""
        return self.published > self._told

    def verdicts(self, committed: int) -> list[Verdict]:
        """What is to be told now that all batches up to ``committed`` are on disk; it counts as told."""
        stored = self._stored
        while stored and (stored[0].batch <= committed or all(entry.settled for entry in stored[0].entries)):
            stored.popleft()
        last = stored[0].number - 1 if stored else self.published
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
