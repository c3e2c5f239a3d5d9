"""Work of a session's commands that may take several turns.

Responsible for the order: later commands wait until unfinished work has ended. ``turns/budget`` has the time
budget of a turn.
"""

from collections import deque

from leveret.router.turns.backlog import Backlog, LongWork, Slices


class CommandWork:
    """The work of one session.

    ``where`` names the session in the log. ``unfinished`` is the work of the last command, if it continues in
    later turns. ``parts`` collects the work of the current step while the steps of a transaction are done.
    """

    __slots__ = ("_backlog", "_where", "parts", "unfinished")

    def __init__(self, backlog: Backlog, where: str) -> None:
        self._backlog = backlog
        self._where = where
        self.unfinished: LongWork | None = None
        self.parts: deque[Slices] | None = None

    def begin(self, what: str, slices: Slices) -> None:
        """Do work now as far as this turn has time, and leave the rest ``unfinished``."""
        if self.parts is not None:
            self.parts.append(slices)
            return
        self.unfinished = self._backlog.start(f"{what} on {self._where}", self._until_over(slices))

    def begin_last(self, what: str, slices: Slices) -> None:
        """Do the last work of the session, after its unfinished work if there is any."""
        if self.unfinished is not None:
            self.unfinished.follow(slices)
        else:
            self.begin(what, slices)

    def _until_over(self, slices: Slices) -> Slices:
        try:
            yield from slices
        finally:
            self.unfinished = None
