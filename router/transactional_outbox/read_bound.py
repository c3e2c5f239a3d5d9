"""The id from which an outbox has to be read, when a read from the beginning takes long.

As long as some transaction reads from an old snapshot, PostgreSQL keeps the rows that were deleted since,
and each read from the first id on scans all of them. A bounded read begins behind the rows that were read
before, but not behind a row that is not visible yet.

No transaction with an id below ``xmin`` of a snapshot is in progress. Rows up to an id that an earlier read
has seen were inserted by transactions below ``xmax`` of a later snapshot. So once ``xmin`` has reached that
``xmax``, all rows up to this id are visible or will never be. Rows that are retried, and rows whose id an
application has chosen, are below the bound: reads from the first id on find them.
"""

from collections import deque
from collections.abc import Sequence

MARKS = 100  # remembered snapshots; beyond that the last one is replaced


class ReadBound:
    """``id`` is the highest id up to which all rows were read. ``advance`` is called after each read."""

    def __init__(self) -> None:
        self.id = 0
        self._certain = 0  # all rows up to this id are visible
        self._seen = 0  # the highest id of the reads before the last one
        self._newest = 0  # the highest id of all reads
        self._marks: deque[tuple[int, int]] = deque()  # xmax, and an id that was given before

    def advance(self, xmin: int, xmax: int, ids: Sequence[int]) -> None:
        """Record a read with this snapshot. It began at ``id`` or below, and returned the rows ``ids``, which
        are the first that waited there, in order.
        """
        while self._marks and self._marks[0][0] <= xmin:
            self._certain = self._marks.popleft()[1]
        self.id = max(self.id, min(self._certain, ids[-1]))
        if self._seen:
            if len(self._marks) >= MARKS:
                self._marks.pop()
            self._marks.append((xmax, self._seen))
        self._seen = self._newest
        self._newest = max(self._newest, *ids)
