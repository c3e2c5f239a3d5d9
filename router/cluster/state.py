"""State of one broker in its cluster, for health checks, metrics and the management API."""

from dataclasses import dataclass
from enum import Enum

from leveret.router.cluster.active_broker import ActiveBroker

SILENT = 5  # seconds without an answer of the store after which a standby is not ready to take over


class ClusterRole(Enum):
    """Part that a broker plays in its cluster."""

    STANDBY = "standby"
    TAKING_OVER = "taking over"
    ACTIVE = "active"


@dataclass(slots=True)
class ClusterState:
    """State of this broker. ``epoch`` is the newest one that it knows, its own if it is active.

    Times are in seconds of the monotonic clock: ``position_at`` is when the position of the journal was last
    seen to change, ``observed_at`` when the store last answered; 0 is never.
    """

    node: str
    advertise: str
    role: ClusterRole = ClusterRole.STANDBY
    epoch: int = 0
    position: int = 0
    position_at: float = 0.0
    observed_at: float = 0.0
    active: ActiveBroker | None = None  # another broker
    relayed: int = 0  # connections that this broker relays

    def is_ready(self, now: float) -> bool:
        """Return True if this broker is active, or could take over at once."""
        if self.role is not ClusterRole.STANDBY:
            return self.role is ClusterRole.ACTIVE
        return bool(self.observed_at) and now - self.observed_at < SILENT

    def seconds_since_position(self, now: float) -> float | None:
        """Return the seconds since the position of the journal changed; None if it never did."""
        return now - self.position_at if self.position_at else None
