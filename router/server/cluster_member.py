"""Membership of this broker in its cluster: watching the active broker, and keeping the lease once active.

Responsible for the two tasks. Not for opening the store and serving clients (see ``clustered_broker``).
"""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import structlog
import trio

from leveret.protocol.errors import ConnectionForced
from leveret.router.cluster.owner_watch import OwnerWatch
from leveret.router.cluster.shared_store import Observation, ObservedStore, Ownership, SharedStoreError
from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.server.driver import Driver
from leveret.router.server.gateway import Gateway
from leveret.router.server.lease_guard import LeaseGuard
from leveret.router.store.backend import DeposedError

POLL = 0.5  # seconds between two looks of a standby at the position
SPREAD = 0.3  # seconds: standbys wait for a random part of it, so that they do not all take over at once
RENEW = 1.0  # seconds between two looks of the owner whether a position is due
STANDBYS = 2.0  # seconds between two looks of the owner at the standbys
UNREACHABLE = "the active broker advertises no address: set cluster.advertise there"
SAME_NAME = "a broker at another address has the name of this one: set cluster.node (--node) of one of them"
SUSPENDED = "this broker could not write to the store of the cluster for too long"

Interject = Callable[[Callable[[], None]], "Future[None]"]  # runs a call in the thread of the writer


class ClusterMember:
    """This broker in its cluster. ``patience`` is the setting ``cluster.takeover_after``, in seconds."""

    def __init__(
        self, state: ClusterState, store: ObservedStore, gateway: Gateway, driver: Driver, patience: float
    ) -> None:
        self.state = state
        self._store = store
        self._gateway = gateway
        self._driver = driver
        self._patience = patience
        self._log = structlog.get_logger()
        self._unreachable = False  # True once the failure is in the log
        self._guard: LeaseGuard | None = None

    # -- standby -------------------------------------------------------------------------------------------

    async def stand_by(self) -> Observation:
        """Relay clients to the active broker until it is gone; return the last observation then."""
        watch = OwnerWatch(self._patience)
        while True:
            seen = await self._observe()
            if seen is None:
                watch.interrupt()
            elif watch.is_gone(seen, time.monotonic()):
                await trio.sleep(random.uniform(0, SPREAD) if seen.epoch else 0)
                again = await self._observe()
                if again is not None and watch.is_gone(again, time.monotonic()):
                    return again
            self.state.position_at = watch.changed_at
            await trio.sleep(POLL)

    async def _observe(self) -> Observation | None:
        """Return the newest position, and follow its owner; None if the store did not answer."""
        try:
            seen = await trio.to_thread.run_sync(self._store.observe, abandon_on_cancel=True)
        except SharedStoreError as error:
            if not self._unreachable:
                self._log.error("cannot read the store of the cluster", error=str(error))
            self._unreachable = True
            return None
        if self._unreachable:
            self._log.info("the store of the cluster can be read again")
            self._unreachable = False
        state = self.state
        if seen.epoch != state.epoch and seen.epoch and not seen.stopped:
            self._log.info("another broker is active", node=seen.node, epoch=seen.epoch)
            if seen.active is None and seen.node != state.node:
                self._log.warning("clients cannot be relayed", reason=UNREACHABLE, node=seen.node)
            elif seen.active is not None and seen.node == state.node and not state.advertises(seen.active):
                self._log.warning("two brokers have one name", reason=SAME_NAME, node=seen.node)
        state.position, state.epoch, state.observed_at = seen.position, seen.epoch, time.monotonic()
        # A row with the address of this broker is that of its last run.
        own = seen.active is not None and state.advertises(seen.active)
        state.active = None if seen.stopped or own else seen.active
        self._gateway.secret = seen.secret
        self._gateway.follow(state.active)
        return seen

    # -- active --------------------------------------------------------------------------------------------

    def activate(self, ownership: Ownership, secret: bytes) -> None:
        """Serve clients, as the owner of the store."""
        state = self.state
        state.role, state.epoch, state.active = ClusterRole.ACTIVE, ownership.epoch, None
        self._gateway.secret = secret
        self._guard = LeaseGuard(lambda: ownership.renewed_at, self._patience, self._suspend)
        trio.lowlevel.add_instrument(self._guard)
        self._gateway.activate()
        self._log.info("this broker is active", node=state.node, epoch=state.epoch)

    async def keep_lease(self, ownership: Ownership, interject: Interject) -> None:
        """Append a position at least every second, until another broker has taken over.

        Serve clients again after a lease was renewed late.
        """
        guard, pending = self._guard, interject(partial(_renew, ownership))
        assert guard is not None
        while True:
            await trio.sleep(RENEW / 2)
            if pending.done():
                if isinstance(error := pending.exception(), DeposedError):
                    return
                if error is not None:
                    raise error
                pending = interject(partial(_renew, ownership))
            state = self.state
            state.position, state.commits = ownership.position, ownership.commits
            state.commit_seconds = ownership.commit_seconds
            state.position_at = state.observed_at = ownership.renewed_at
            if state.role is ClusterRole.SUSPENDED and guard.renew():
                self._log.info("the store of the cluster can be written to again", epoch=state.epoch)
                state.role = ClusterRole.ACTIVE
                self._gateway.activate()

    async def watch_standbys(self) -> None:
        """Read the names of the standbys at intervals, for operators."""
        while True:
            try:
                names = await trio.to_thread.run_sync(self._store.standbys, abandon_on_cancel=True)
            except SharedStoreError:
                names = ()
            self.state.standbys = names
            await trio.sleep(STANDBYS)

    def _suspend(self) -> None:
        """Disconnect all clients, and let new ones wait: another broker may be active already."""
        self._log.error("the lease has ended", reason=SUSPENDED, epoch=self.state.epoch)
        self.state.role = ClusterRole.SUSPENDED
        self._gateway.follow(None)
        disconnect(self._driver, SUSPENDED)


def _renew(ownership: Ownership) -> None:
    """Append a position. Failures are reported by the commits of the store, which are repeated."""
    try:
        ownership.renew()
    except OSError:
        structlog.get_logger().debug("the lease was not renewed", exc_info=True)


def disconnect(driver: Driver, reason: str) -> None:
    """Close the connections of all clients with CONNECTION_FORCED."""
    driver.begin("disconnecting all clients")
    for client in list(driver.broker.clients):
        client.end(ConnectionForced(reason))
    driver.end()
