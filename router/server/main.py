"""Life of a broker alone: set up the core, listen, announce, wait for a signal, shut down.

Responsible for the nursery of all tasks, the order of starting and stopping, and opening the data directory.
``broker_lifecycle`` has the steps, ``clustered_broker`` the life of a broker in a cluster.
"""

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from leveret.router.broker.broker import Broker
from leveret.router.server import broker_lifecycle as lifecycle
from leveret.router.server import os_metrics as machine
from leveret.router.server.broker_lifecycle import StartupError, StoreFailed
from leveret.router.server.driver import clock
from leveret.router.server.late_modules import load_module
from leveret.router.server.listeners import AcceptState, accept_all
from leveret.router.server.offload_threads import OffloadThreads
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.startup_log import log_start, warn_of_default_login
from leveret.router.server.store_service import StoreService
from leveret.router.settings import MEMORY, Settings
from leveret.router.store.backend import StorageBackend, StorageError
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.lock import cannot_use
from leveret.router.store.metadata.reading import MetadataError
from leveret.router.store.opening import DataDirectory
from leveret.router.store.snapshot import remove_partial


async def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Run a broker until SIGINT or SIGTERM. Raises StartupError, before anything is announced,
    StoreFailed, or StartAnew.
    """
    if settings.store.url:
        # A broker alone does not need it.
        from leveret.router.server.clustered_broker import serve_clustered  # noqa: PLC0415

        await serve_clustered(settings, announce=announce)
        return
    log = structlog.get_logger()
    lifecycle.tune_garbage_collection()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        broker = Broker(settings, clock())
        broker.node_name = f"leveret@{socket.gethostname().partition('.')[0] or 'localhost'}"
        at_start = machine.resident_memory()
        store = open_store(broker)
        lifecycle.populate(broker, users_lost=store is not None and bool(store.restored.bad.of("users")))
        driver = lifecycle.make_driver(broker)
        if store is not None:
            store.start(driver)
        monitor = ResourceMonitor(driver, machine, at_start)
        await monitor.check()
        snapshots = store.snapshots if store is not None else None
        endpoints = lifecycle.make_endpoints(driver, monitor, snapshots)
        outboxes = lifecycle.make_outboxes(driver)
        await lifecycle.open_endpoints(endpoints)
        async with trio.open_nursery() as nursery:
            broker.work = OffloadThreads(driver, nursery)
            for task in (driver.run_timers, driver.run_left_over_work, driver.send_timeouts.watch):
                nursery.start_soon(task)
            for task in (monitor.run, endpoints.sample):
                nursery.start_soon(task)
            if outboxes is not None:
                nursery.start_soon(outboxes.run)
            accepting = AcceptState()
            nursery.start_soon(
                accept_all, endpoints.all, accepting, machine.most_connections(), driver.log_refusal
            )
            announce(lifecycle.announcement(endpoints))
            log_start(broker, endpoints.all)
            nursery.start_soon(warn_of_default_login, broker)
            nursery.start_soon(load_module, lifecycle.SELECTORS, lifecycle.GRACE)
            with trio.CancelScope() as running:
                if store is not None:
                    nursery.start_soon(lifecycle.cancel_after, store.broken, running)
                async for number in signals:
                    log.info("stopping", signal=signal.Signals(number).name)
                    break
            if outboxes is not None:
                outboxes.stop()
            await lifecycle.shut_down(driver, endpoints, accepting, store)
            nursery.cancel_scope.cancel()
        if store is not None and store.broken.is_set():
            raise StoreFailed(lifecycle.STORE_FAILED)


def open_store(broker: Broker) -> StoreService | None:
    """Restore the contents of the store, and store changes there; return None if nothing is stored.

    Raises StartupError.
    """
    if broker.settings.data == MEMORY and not broker.settings.store.url:
        return None
    try:
        return StoreService(broker, open_backend(broker.settings))
    except (StorageError, MetadataError, DamageError, FormatError) as error:
        raise StartupError(str(error)) from None
    except OSError as error:
        raise StartupError(cannot_use(Path(broker.settings.data), error)) from None


def open_backend(settings: Settings) -> StorageBackend:
    """Open the PostgreSQL or the data directory of the settings. Raises StorageError, MetadataError and
    OSError.
    """
    if settings.store.url:
        # Most brokers have a data directory.
        from leveret.router.server.postgresql_store import open_postgresql  # noqa: PLC0415

        return open_postgresql(settings)
    path = Path(settings.data)
    directory = DataDirectory(path)
    try:
        remove_partial(path)
    except OSError as error:
        structlog.get_logger().warning("cannot remove an incomplete snapshot", error=str(error))
    return directory
