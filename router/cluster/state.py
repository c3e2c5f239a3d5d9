"""State of one broker in its cluster, for health checks, metrics and the management API."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from leveret.router.cluster.active_broker import ActiveBroker
from leveret.router.settings import parse_address

SILENT = 5  # seconds without an answer of the store after which a standby is not ready to take over


class ClusterRole(Enum):
    """Part that a broker plays in its cluster. A suspended one is active without a lease."""

    STANDBY = "standby"
    TAKING_OVER = "taking over"
    ACTIVE = "active"
    SUSPENDED = "suspended"


class ClusterMeasurement(NamedTuple):
    """A metric of a broker in a cluster, without the prefix of its name."""

    name: str
    text: str
    value: float
    type: str = "gauge"


@dataclass(slots=True)
class ClusterState:
    """State of this broker. ``epoch`` is the newest one that it knows, its own if it is active.

    Times are in seconds of the monotonic clock: ``position_at`` is when the position of the journal was last
    seen to change, ``observed_at`` when the store last answered; 0 means never. ``commits`` and
    ``commit_seconds`` count the commits of an active broker, and the time that they took.
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
    commits: int = 0
    commit_seconds: float = 0.0
    standbys: tuple[str, ...] = ()  # names of the brokers that stand by, as the active one knows them

    @property
    def is_active(self) -> bool:
        """Return True if this broker owns the store and serves clients."""
        return self.role is ClusterRole.ACTIVE

    def advertises(self, active: ActiveBroker) -> bool:
        """Return True if an active broker has the address of this one."""
        return bool(self.advertise) and parse_address(self.advertise) == (active.host, active.port)

    def is_ready(self, now: float) -> bool:
        """Return True if this broker is active, or could take over at once."""
        if self.role is not ClusterRole.STANDBY:
            return self.is_active
        return bool(self.observed_at) and now - self.observed_at < SILENT

    def measurements(self, now: float) -> Iterator[ClusterMeasurement]:
        """Yield the metrics of this broker. ``now`` is the monotonic clock."""
        text = "1 if this broker is active, 0 if it is a standby or suspended"
        yield ClusterMeasurement("active", text, self.is_active)
        yield ClusterMeasurement("epoch", "Number of the latest take-over that this broker knows", self.epoch)
        yield ClusterMeasurement("position", "Number of the newest commit to the store", self.position)
        if self.position_at:
            text = "Seconds since the newest commit to the store"
            yield ClusterMeasurement("last_commit_age_seconds", text, max(0.0, now - self.position_at))
        if self.role is ClusterRole.STANDBY:
            text = "1 if this standby could take over at once"
            yield ClusterMeasurement("standby_ready", text, self.is_ready(now))
            text = "Connections that this standby relays to the active broker"
            yield ClusterMeasurement("relayed_connections", text, self.relayed)
        else:
            text = "Commits to the store since this broker took over"
            yield ClusterMeasurement("commits", text, self.commits, "counter")
            text = "Seconds that these commits took"
            yield ClusterMeasurement("commit_seconds", text, self.commit_seconds, "counter")
            yield ClusterMeasurement("standbys", "Brokers that could take over", len(self.standbys))
