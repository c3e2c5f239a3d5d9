"""Life of a broker in a cluster: stand by, take over, serve until stopped or deposed.

Responsible for the order of these steps. ``main`` has the life of a broker alone, ``broker_lifecycle`` the
steps of both. A deposed broker ends with StartAnew: its core has changes that the store will never have, so
the process has to start anew, as a standby.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable

import structlog
import trio

from leveret.router.broker.broker import Broker
from leveret.router.cluster.shared_store import SharedStoreError
from leveret.router.cluster.state import ClusterRole, ClusterState
from leveret.router.server import broker_lifecycle as lifecycle
from leveret.router.server import os_metrics as machine
from leveret.router.server.cluster_member import ClusterMember, disconnect
from leveret.router.server.cluster_store import ClusterStore
from leveret.router.server.driver import clock
from leveret.router.server.gateway import Gateway
from leveret.router.server.late_modules import load_module
from leveret.router.server.listeners import AcceptState, accept_all
from leveret.router.server.offload_threads import OffloadThreads
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.socket_peer import SocketPeer
from leveret.router.server.standby_site import StandbySite
from leveret.router.server.startup_log import log_start, warn_of_default_login
from leveret.router.server.store_service import StoreService
from leveret.router.settings import Settings
from leveret.router.store.backend import DeposedError, StorageError
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.metadata.reading import MetadataError

RETRY = 1  # seconds until a failed take-over is tried again
LEAVE = 1  # seconds that clients have to close their connections to a deposed broker
DEPOSED = "another broker of the cluster has become active"


class ClusteredBroker:
    """One run of a broker in a cluster: a standby at first, possibly active later, never a standby again."""

    def __init__(self, settings: Settings, shared: ClusterStore, at_start: int) -> None:
        """``at_start`` is the memory of the process before modules were loaded, in bytes. Raises
        StartupError.
        """
        self._log = structlog.get_logger()
        self._settings = settings
        self._shared = shared
        self.broker = Broker(settings, clock())
        self.broker.node_name = f"leveret@{shared.node}"
        self.driver = lifecycle.make_driver(self.broker)
        self.state = ClusterState(shared.node, shared.advertise)
        self.gateway = Gateway(self.driver, self.state, self._serve_at_standby)
        patience = settings.cluster.takeover_after / 1000
        self._member = ClusterMember(self.state, shared, self.gateway, self.driver, patience)
        self._site: StandbySite | None = None
        self.monitor = ResourceMonitor(self.driver, machine, at_start)
        self.endpoints = lifecycle.make_endpoints(self.driver, self.monitor, gateway=self.gateway)
        self.outboxes = lifecycle.make_outboxes(self.driver)
        self.accepting = AcceptState()
        self._listening = False

    async def _serve_at_standby(self, stream: trio.abc.HalfCloseableStream, peer: SocketPeer) -> bytes | None:
        if self._site is None:
            self._site = StandbySite(self.driver, self.state, lambda: self.gateway.relay.connections)
        return await self._site.serve(stream, peer)

    async def run(self, signals: AsyncIterator[int], announce: Callable[[str], None]) -> None:
        """Run until a signal. Raises StartupError, StartAnew, or StoreFailed."""
        store: StoreService | None = None
        failure: lifecycle.StartupError | lifecycle.StartAnew | None = None
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as running:
                nursery.start_soon(self._stop_on_signal, signals, running)
                try:
                    await self._start(nursery, announce)
                    store, secret = await self._take_over()
                except (lifecycle.StartupError, lifecycle.StartAnew) as error:
                    failure = error
                else:
                    self._start_serving(nursery, store, secret)
                    nursery.start_soon(lifecycle.cancel_after, store.broken, running)
                    await self._member.keep_lease(self._shared.ownership, store.interject)
            if store is not None and (store.deposed or not running.cancel_called):
                failure = lifecycle.StartAnew(DEPOSED)
            self.gateway.relay.close()
            if self.outboxes is not None:
                self.outboxes.stop()
            if not self._listening:
                pass  # there are neither clients nor a store
            elif failure is None:
                await lifecycle.shut_down(self.driver, self.endpoints, self.accepting, store)
            else:
                self._log.warning(
                    "this broker gives up the store", reason=str(failure), epoch=self.state.epoch
                )
                await self._leave(str(failure))
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if store is not None and store.broken.is_set():
            raise lifecycle.StoreFailed(lifecycle.STORE_FAILED)

    async def _leave(self, reason: str) -> None:
        """Disconnect all clients; write nothing, since the store belongs to another broker."""
        self.gateway.follow(None)
        disconnect(self.driver, reason)
        with trio.move_on_after(LEAVE):
            await self.accepting.stop()
            self.endpoints.stop()
            await self.accepting.all_left.wait()
        self._shared.abandon()

    async def _start(self, nursery: trio.Nursery, announce: Callable[[str], None]) -> None:
        """Check the store, listen, and start the tasks of a broker in either role. Raises StartupError.

        A process that starts anew stands by even if it cannot reach the store.
        """
        await self.monitor.check()
        if lifecycle.STARTED_ANEW not in os.environ:
            try:
                await trio.to_thread.run_sync(self._shared.check, abandon_on_cancel=True)
            except StorageError as error:
                raise lifecycle.StartupError(str(error)) from None
        await lifecycle.open_endpoints(self.endpoints)
        self._listening = True
        driver = self.driver
        self.broker.work = OffloadThreads(driver, nursery)
        for task in (driver.run_timers, driver.run_left_over_work, driver.send_timeouts.watch):
            nursery.start_soon(task)
        nursery.start_soon(self.monitor.run)
        most = machine.most_connections() // 2  # a relayed connection needs two files
        nursery.start_soon(accept_all, self.endpoints.all, self.accepting, most, driver.log_refusal)
        announce(lifecycle.announcement(self.endpoints))
        log_start(self.broker, self.endpoints.all)

    async def _stop_on_signal(self, signals: AsyncIterator[int], running: trio.CancelScope) -> None:
        async for number in signals:
            self._log.info("stopping", signal=signal.Signals(number).name)
            running.cancel()

    async def _take_over(self) -> tuple[StoreService, bytes]:
        """Stand by until the active broker is gone, then open the store.

        Returns the store and the cluster's secret. Raises StartupError, and StartAnew.
        """
        from leveret.router.postgresql.membership import TakeOverError  # noqa: PLC0415 - needs psycopg

        while True:
            seen = await self._member.stand_by()
            self.state.role = ClusterRole.TAKING_OVER
            self._log.info("taking over", epoch=seen.epoch + 1, position=seen.position)
            try:
                await trio.to_thread.run_sync(self._shared.take_over, abandon_on_cancel=True)
                return self._restore()
            except TakeOverError as error:
                self._log.info("the store was not taken over", reason=str(error))
            except StorageError as error:
                self._log.error("the store was not taken over", error=str(error))
            self.state.role = ClusterRole.STANDBY
            await trio.sleep(RETRY)

    def _restore(self) -> tuple[StoreService, bytes]:
        """Restore the broker from the store that was taken over. The event loop waits meanwhile.

        Raises StartupError, and StartAnew.
        """
        began = time.monotonic()
        self.driver.begin("taking over")
        try:
            store = self._shared.restore(self.broker)
            lifecycle.populate(self.broker, users_lost=bool(store.restored.bad.of("users")))
            secret = self._shared.secret()
        except (MetadataError, DamageError, FormatError) as error:
            raise lifecycle.StartupError(str(error)) from None
        except (OSError, StorageError, DeposedError, SharedStoreError) as error:
            raise lifecycle.StartAnew(f"the take-over has failed: {error}") from None
        self.driver.end()
        self._log.info("taken over", seconds=round(time.monotonic() - began, 3))
        return store, secret

    def _start_serving(self, nursery: trio.Nursery, store: StoreService, secret: bytes) -> None:
        store.start(self.driver)
        self.endpoints.snapshots = store.snapshots
        self._member.activate(self._shared.ownership, secret)
        for task in (self._member.watch_standbys, self.endpoints.sample):
            nursery.start_soon(task)
        if self.outboxes is not None:
            nursery.start_soon(self.outboxes.run)
        nursery.start_soon(warn_of_default_login, self.broker)
        nursery.start_soon(load_module, lifecycle.SELECTORS, lifecycle.GRACE)


async def serve_clustered(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Run a broker until SIGINT or SIGTERM. Raises StartupError, StoreFailed, and StartAnew."""
    lifecycle.tune_garbage_collection()
    at_start = machine.resident_memory()
    if settings.cluster.advertise and not settings.listen.amqp:
        raise lifecycle.StartupError(
            "cluster.advertise is the address of a listener for AMQP without TLS, and listen.amqp is none"
        )
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            shared = ClusterStore(settings)
        except StorageError as error:
            raise lifecycle.StartupError(str(error)) from None
        await ClusteredBroker(settings, shared, at_start).run(signals, announce)
