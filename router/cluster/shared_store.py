"""Interface of the store of a cluster, as far as the choice of the active broker needs it.

``router/postgresql`` implements it. Every call may block, and is made in a thread.
"""

from dataclasses import dataclass
from typing import Protocol

from leveret.router.cluster.active_broker import ActiveBroker


class SharedStoreError(Exception):
    """The store cannot be reached or read at the moment; the text has the reason."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The newest position of the journal, and the broker that owns it, as a standby reads them.

    ``stopped`` is True if that broker has stopped in good order, or if there never was one. ``active`` is
    None if the broker advertises no address. ``secret`` is that of the cluster. ``lease`` is the time in
    seconds for which that broker acts without a successful commit.
    """

    position: int
    epoch: int
    stopped: bool
    node: str = ""
    active: ActiveBroker | None = None
    secret: bytes = b""
    lease: float = 0.0


class ObservedStore(Protocol):
    """The store as a standby uses it, on a connection of its own."""

    def observe(self) -> Observation:
        """Return the newest position. Raises SharedStoreError."""

    def standbys(self) -> tuple[str, ...]:
        """Return the names of the other brokers that observe the store. Raises SharedStoreError."""


class Ownership(Protocol):
    """The store as its owner uses it, in the thread of the store's writer."""

    @property
    def epoch(self) -> int: ...
    @property
    def position(self) -> int:
        """Return the position of the last commit."""

    @property
    def renewed_at(self) -> float:
        """Return when the last successful commit began, in seconds of the monotonic clock."""

    @property
    def commits(self) -> int:
        """Return the number of commits so far."""

    @property
    def commit_seconds(self) -> float:
        """Return the seconds that all commits have taken."""

    def renew(self) -> None:
        """Append an empty position, unless one was appended in the last second.

        Raises DeposedError, and OSError if the store cannot be reached.
        """
