"""Guard of the active broker's lease: nothing is done for clients after the lease has ended.

The lease lasts for ``cluster.takeover_after`` from the beginning of the last successful commit. A standby
counts the same time from when it sees that commit, so it takes over later than the lease ends, and no two
clocks are compared. A lease ends if the store cannot be written to, or if this process was suspended. The
guard looks before every step of a task: the first step after a suspension would deliver messages that another
broker has delivered meanwhile.
"""

import time
from collections.abc import Callable

import trio


class LeaseGuard(trio.abc.Instrument):
    """Calls ``ended`` once when the lease ends, before any other task runs. ``duration`` is in seconds."""

    def __init__(self, renewed_at: Callable[[], float], duration: float, ended: Callable[[], None]) -> None:
        self._renewed_at = renewed_at
        self._duration = duration
        self._ended = ended
        self._until = 0.0
        self.renew()

    def renew(self) -> bool:
        """Prolong the lease from the last successful commit; return False if it would have ended already."""
        until = self._renewed_at() + self._duration
        if time.monotonic() >= until:
            return False
        self._until = until
        return True

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """End the lease in time."""
        if time.monotonic() >= self._until and not self.renew():
            self._until = float("inf")  # it is not called for the steps that follow
            self._ended()
