"""The PostgreSQL of a cluster: what this broker reads of it, and the take-over.

Responsible for loading psycopg, and for the lease during a take-over, in which the event loop does not run.
"""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import structlog

from leveret.router.broker.broker import Broker
from leveret.router.cluster.shared_store import Observation
from leveret.router.server.postgresql_store import make_location
from leveret.router.server.store_service import StoreService
from leveret.router.settings import Settings
from leveret.router.store.backend import DeposedError

if TYPE_CHECKING:
    from leveret.router.postgresql.backend import PostgresBackend
    from leveret.router.postgresql.membership import StoreOwnership

RENEW = 0.5  # seconds between two positions during a take-over


class ClusterStore:
    """The store of a cluster. ``node`` is the name of this broker, ``advertise`` its address for others."""

    def __init__(self, settings: Settings) -> None:
        """Load psycopg, and connect to nothing yet. Raises StorageError."""
        self.node = settings.cluster.node or socket.gethostname().partition(".")[0] or "localhost"
        self.advertise = settings.cluster.advertise
        self._lease = settings.cluster.takeover_after
        self._location = make_location(settings)
        from leveret.router.postgresql.membership import StoreObserver  # noqa: PLC0415 - needs psycopg

        self._observer = StoreObserver(self._location, self.node)
        self._backend: PostgresBackend | None = None
        self._ownership: StoreOwnership | None = None

    def check(self) -> None:
        """Check that the store can be used, and create its tables if there are none.

        May block if PostgreSQL hangs. Raises StorageError.
        """
        from leveret.router.postgresql.schema import prepare  # noqa: PLC0415 - needs psycopg

        with closing(self._location.open(f"leveret start {self.node}")) as connection:
            prepare(connection, self._location)

    @property
    def ownership(self) -> "StoreOwnership":
        """The store, after ``take_over``."""
        assert self._ownership is not None
        return self._ownership

    def observe(self) -> Observation:
        """Return the newest position. Raises SharedStoreError."""
        return self._observer.observe()

    def standbys(self) -> tuple[str, ...]:
        """Return the names of the other brokers that observe the store. Raises SharedStoreError."""
        return self._observer.standbys()

    def take_over(self) -> None:
        """Take over the store from the owner of the position that was observed last, and keep the lease.

        May block for as long as PostgreSQL waits for its standby. Raises TakeOverError if another broker owns
        the store, and StorageError.
        """
        from leveret.router.postgresql.membership import StoreOwnership, take_over  # noqa: PLC0415 - as above

        backend = take_over(self._location, self._observer.newest, self.node, self.advertise, self._lease)
        self._ownership = StoreOwnership(backend)
        self._backend = backend

    def restore(self, broker: Broker) -> StoreService:
        """Restore the broker from the store, after ``take_over``.

        Raises OSError, StorageError, MetadataError, DamageError, FormatError and DeposedError.
        """
        assert self._backend is not None
        with _renewing(self._backend):
            return StoreService(broker, self._backend)

    def secret(self) -> bytes:
        """Return the secret of the cluster. Raises SharedStoreError."""
        return self._observer.observe().secret

    def abandon(self) -> None:
        """Give up the store that another broker has taken over, without writing to it."""
        self.ownership.abandon()


@contextmanager
def _renewing(backend: "PostgresBackend") -> Iterator[None]:
    """Append positions in a thread during the block, so that no standby takes over meanwhile."""
    ended = Event()

    def renew() -> None:
        while not ended.wait(RENEW):
            try:
                backend.append.commit()
            except (OSError, DeposedError) as error:
                structlog.get_logger().warning("the lease was not renewed", error=str(error))

    thread = Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
