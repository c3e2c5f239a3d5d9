"""Garbage collection of young objects, each time that the broker has worked for ``EVERY`` seconds.

Responsible for an upper bound on the young objects. Python starts a collection when the objects made since
the last one outnumber those freed since then by a threshold. A broker that frees an old message for each new
one never reaches the threshold, or reaches it with 100,000 young objects: visiting them took up to 60 ms.
"""

import gc

EVERY = 0.002  # seconds of work, in which some 10,000 objects can be made: visiting them takes 1 ms
YOUNGER = 3  # collections of the youngest generation for one that includes the next


class YoungCollections:
    """Collects the young objects after each ``EVERY`` seconds of work."""

    __slots__ = ("_count", "_worked")

    def __init__(self) -> None:
        self._worked = 0.0
        self._count = 0

    def worked(self, seconds: float) -> None:
        """Add the time of a batch; collect if there was enough work since the last collection."""
        self._worked += seconds
        if self._worked >= EVERY:
            self._worked = 0.0
            self._count += 1
            gc.collect(0 if self._count % YOUNGER else 1)
