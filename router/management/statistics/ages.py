"""How long things have been somewhere, told by looks some time apart and not by each of them.

Things are numbered as they come: messages by their positions, deliveries by their tags. A look notes which
number is the next; whatever has a smaller one came before that. So an age is known to within the time between
two looks, costs nothing when a thing comes, and is the least it can be for what was there at the first look.
"""

from typing import NamedTuple

MOST = 1024  # marks; then those go that others are near to, measured by their age
NEAR = 64  # the part of its age that a mark may be apart from the one before


class Mark(NamedTuple):
    """The next number, and when it was that at first and at last, in ms."""

    number: int
    first: int
    last: int


class Ages:
    """The marks of one series of numbers."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def look(self, next_number: int, oldest: int | None, now: int) -> None:
        """Note the next number; what is older than the oldest one that is still there is not needed."""
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
        """ms since the last look before this number came; None before the first look."""
        if not self._marks:
            return None
        since = self._marks[0].first
        for mark in self._marks:
            if mark.number > number:
                break
            since = mark.last
        return now - since
