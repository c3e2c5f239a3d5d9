"""Publisher confirms of one session, as a value: what was published, what is still to be said.

Confirms are gathered over a batch and told in as few words as possible.
"""

from typing import NamedTuple


class Verdict(NamedTuple):
    """What to tell the publisher: the sequence number, whether all before it share the verdict, and the
    verdict.
    """

    number: int
    multiple: bool
    accepted: bool


class Confirms:
    """Sequence numbers start at 1 with the first publish after confirm.select."""

    __slots__ = ("_refused", "_told", "published")

    def __init__(self) -> None:
        self.published = 0
        self._told = 0
        self._refused: list[int] = []

    def publish(self, accepted: bool) -> None:
        """Count a publish that every queue it was routed to has taken, or one of them has refused."""
        self.published += 1
        if not accepted:
            self._refused.append(self.published)

    def verdicts(self) -> list[Verdict]:
        """What is to be told now, in order; it counts as told."""
        verdicts: list[Verdict] = []
        for number in self._refused:
            self._tell(verdicts, number - 1, accepted=True)
            self._tell(verdicts, number, accepted=False)
        self._refused.clear()
        self._tell(verdicts, self.published, accepted=True)
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
