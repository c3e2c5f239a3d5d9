"""Ages of messages and deliveries, derived from samples instead of a timestamp for each of them.

Objects are numbered in the order of their arrival: messages by their positions, deliveries by their tags. A
sample notes the next number; all smaller numbers arrived before it. So an age is exact to the time between
two samples, costs nothing when an object arrives, and is a lower bound for objects that existed at the first
sample.
"""

from typing import NamedTuple

MOST = 1024  # marks; beyond that, those close to a neighbour in relation to their age are removed
NEAR = 64  # neighbouring marks are at most 1/64 of their age apart


class Mark(NamedTuple):
    """The next number, and the first and last time, in ms, at which it was seen."""

    number: int
    first: int
    last: int


class Ages:
    """Marks of one series of numbers."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def sample(self, next_number: int, oldest: int | None, now: int) -> None:
        """Record the next number; marks older than ``oldest``, the oldest existing number, are removed."""
        marks = self._marks
        if marks and marks[-1].number == next_number:
            marks[-1] = marks[-1]._replace(last=now)
        else:
            marks.append(Mark(next_number, now, now))
        needed = 0
        while needed < len(marks) - 1 and (oldest is None or marks[needed + 1].number <= oldest):
            needed += 1
        if needed:
            del marks[:needed]
        if len(marks) > MOST:
            self._thin(now)

    def _thin(self, now: int) -> None:
        kept = self._marks[:1]
        for mark in self._marks[1:]:
            if mark.last - kept[-1].last >= (now - mark.last) // NEAR:
                kept.append(mark)
        self._marks = kept

    def age(self, number: int, now: int) -> int | None:
        """Return the ms since the last sample before this number; None before the first sample."""
        if not self._marks:
            return None
        since = self._marks[0].first
        for mark in self._marks:
            if mark.number > number:
                break
            since = mark.last
        return now - since
