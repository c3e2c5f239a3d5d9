"""Steps of the life of any broker: setting up the core, listening, shutting down.

Responsible for the steps, not for their order: ``main`` has that of a broker alone, ``clustered_broker`` that
of a broker in a cluster.
"""

import gc
import math
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import trio

from leveret import __version__
from leveret.protocol.errors import ConnectionForced
from leveret.router.amqp.offer import make_offer
from leveret.router.auth import hash_password
from leveret.router.broker.administration import Administration
from leveret.router.broker.broker import Broker
from leveret.router.server.driver import Driver
from leveret.router.server.endpoints import Endpoints
from leveret.router.server.listeners import AcceptState, ListenError
from leveret.router.server.resource_monitor import ResourceMonitor
from leveret.router.server.snapshot_threads import SnapshotThreads
from leveret.router.server.startup_log import count_entries
from leveret.router.server.store_service import StoreService
from leveret.router.server.tls import TlsError
from leveret.router.server.turn_meter import TurnMeter
from leveret.router.settings import Settings
from leveret.router.vhost.metadata import make_metadata

if TYPE_CHECKING:
    from leveret.router.server.gateway import Gateway
    from leveret.router.server.outbox_service import OutboxService

NEVER = 2**31 - 1
GRACE = 0.2  # seconds in which the first clients connect, which loading modules would delay
STARTED_ANEW = "_LEVERET_STARTED_ANEW"  # environment variable of a process that started anew
SELECTORS = "leveret.router.selector.parser"  # takes 50 ms to load: before a client's first selector
STORE_FAILED = "the store failed, see the log; every confirmed message is on disk"
PUBLIC = Settings().default_pass  # the password in the documentation


class StoreFailed(Exception):
    """The store has failed with an error of its own, which is in the log."""


class StartupError(Exception):
    """The broker cannot start; the text has the reason and advice."""


class StartAnew(Exception):
    """This process has to start anew, as a standby of its cluster; the text has the reason."""


def tune_garbage_collection() -> None:
    """Collect cycles among young objects only, in short runs.

    Waiting messages are no garbage: each visit to all of them takes a quarter of a second per million.
    Objects that live long and end, such as connections, leave no cycles behind. The thresholds 4,000 and 2
    make one collection visit up to 12,000 objects, which takes 1 ms; 40,000 objects took 5 ms, longer than a
    turn may take. ``young_collections`` adds collections where these thresholds are not reached.
    """
    gc.freeze()
    gc.set_threshold(4_000, 2, NEVER)
    gc.enable()


def make_driver(broker: Broker) -> Driver:
    """Return the driver of a broker, whose turns are measured from now on."""
    driver = Driver(broker, send_timeout=broker.settings.server.send_timeout / 1000 or math.inf)
    trio.lowlevel.add_instrument(TurnMeter(driver))
    return driver


def populate(broker: Broker, *, users_lost: bool = False) -> None:
    """Import the definitions file, and create the default virtual host if there is none.

    The default user, whose password is public, is created only for a broker without restored data, as in
    RabbitMQ: not after the last user was deleted, nor after 'leveret store check --repair' has removed it.
    ``users_lost`` is True if there were users that could not be restored.
    """
    settings = broker.settings
    is_new = not (broker.vhosts or broker.users or users_lost)
    if settings.definitions:
        _import(broker, settings.definitions)
    administration = Administration(broker)
    if not broker.vhosts:
        administration.put_vhost(settings.default_vhost, make_metadata(description="Default virtual host"))
    if not broker.users and is_new:
        name = settings.default_user
        # A public password needs no slow hash, which would delay every first start.
        scheme = "sha256" if settings.default_pass == PUBLIC else settings.auth.password_hash
        password = hash_password(settings.default_pass, scheme)
        administration.put_user(name, password=password, tags=("administrator",))
        for vhost in broker.vhosts:
            administration.set_permission(name, vhost, configure=".*", write=".*", read=".*")
    if not broker.users:
        structlog.get_logger().warning(
            "no user can log in",
            reason="there are no users, and only a new data directory gets the default user",
            to_add_one="start with --definitions FILE that has a user",
        )


def _import(broker: Broker, path: str) -> None:
    """Import a definitions file. Refused entries are logged, and the broker starts without them."""
    # Most starts need no definitions.
    from leveret.router.definitions import (  # noqa: PLC0415
        DefinitionsError,
        apply_definitions,
        parse_definitions,
    )

    try:
        definitions = parse_definitions(Path(path).read_bytes())
        counts = count_entries(definitions)
        report = apply_definitions(broker, definitions)
    except OSError as error:
        raise StartupError(f"definitions {path}: {error.strerror or error}") from None
    except DefinitionsError as error:
        raise StartupError(f"definitions {path}: {error}") from None
    log = structlog.get_logger()
    if report.refused:
        log.error("definitions imported partly", file=path, refused=len(report.refused) + report.more_refused)
    else:
        log.info("definitions imported", file=path, **counts)


def make_endpoints(
    driver: Driver,
    monitor: ResourceMonitor,
    snapshots: SnapshotThreads | None = None,
    gateway: "Gateway | None" = None,
) -> Endpoints:
    """Return the endpoints of a broker, which do not listen yet. Raises StartupError."""
    try:
        return Endpoints(driver, make_offer(driver.broker.settings, __version__), monitor, snapshots, gateway)
    except TlsError as error:
        raise StartupError(str(error)) from None


def make_outboxes(driver: Driver) -> "OutboxService | None":
    """Return the transactional outboxes of a broker; None if the settings name none. Raises StartupError."""
    if not driver.broker.settings.outbox.databases:
        return None
    # A start without an outbox does not need it.
    from leveret.router.server.outbox_service import OutboxService, OutboxSetupError  # noqa: PLC0415

    try:
        return OutboxService(driver)
    except OutboxSetupError as error:
        raise StartupError(str(error)) from None


async def open_endpoints(endpoints: Endpoints) -> None:
    """Listen at all endpoints. Raises StartupError."""
    try:
        for endpoint in endpoints.all:
            await endpoint.open()
    except ListenError as error:
        raise StartupError(str(error)) from None


def announcement(endpoints: Endpoints) -> str:
    """Return the line for standard output that names all listeners."""
    urls = ", ".join(url for endpoint in endpoints.all for url in endpoint.urls)
    return f"leveret is listening: {urls or 'nowhere'}"


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    """Cancel a scope once an event is set."""
    await event.wait()
    scope.cancel()


async def shut_down(
    driver: Driver, endpoints: Endpoints, accepting: AcceptState, store: StoreService | None
) -> None:
    """Accept no more clients, close all connections, and write everything."""
    with trio.move_on_after(driver.broker.settings.server.shutdown_timeout / 1000):
        await accepting.stop()
        close_clients(driver)
        endpoints.stop()
        await accepting.all_left.wait()
    await driver.finish()
    if store is not None:
        await store.finish()


def close_clients(driver: Driver) -> None:
    """Close the connections of all clients for the shutdown; those that have not logged in are just
    disconnected.
    """
    driver.begin("the broker's stop")
    for client in list(driver.broker.clients):
        client.end(ConnectionForced("broker forced connection closure with reason 'shutdown'"))
    driver.end()
