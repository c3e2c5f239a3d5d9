"""Decision of a standby to take over, by the position of the journal alone.

The active broker appends to the journal at least once a second. A standby that sees no new position for the
time ``cluster.takeover_after`` takes over. Only the standby's own clock counts. The decision may be wrong,
for example if this process was suspended. The store lets one broker only write at each position, so a wrong
decision costs a fail-over, and no message.
"""

from leveret.router.cluster.shared_store import Observation


class OwnerWatch:
    """Watch over the active broker. ``patience`` is in seconds, and so are all times.

    A longer lease of the active broker is waited for, too, if its settings differ.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last: Observation | None = None
        self.changed_at = 0.0  # when a new position was seen

    def is_gone(self, seen: Observation, now: float) -> bool:
        """Take note of an observation at the time ``now``; return True if the active broker is gone."""
        if self._last is None or (seen.position, seen.epoch) != (self._last.position, self._last.epoch):
            self.changed_at = now
        self._last = seen
        return seen.stopped or now - self.changed_at >= max(self._patience, seen.lease)

    def interrupt(self) -> None:
        """Begin to wait anew, because the store could not be read.

        The active broker may have been unable to append for the same reason.
        """
        self._last = None
