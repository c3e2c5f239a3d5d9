"""Log lines of a start: version, data directory, imported definitions, listeners, ineffective settings.

Writes the lines only; the broker is set up in ``main``.
"""

from collections.abc import Iterable
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING

import structlog
import trio

from leveret import __version__
from leveret.router.auth.passwords import matches_password
from leveret.router.broker.broker import Broker
from leveret.router.server.listeners import Endpoint
from leveret.router.server.socket_peer import show
from leveret.router.settings import Settings
from leveret.router.vhost.declare import is_reserved

if TYPE_CHECKING:
    from leveret.router.definitions import Definitions

DEFAULTS = Settings()


def log_start(broker: Broker, endpoints: Iterable[Endpoint]) -> None:
    """Log the version, the data directory, and each listener."""
    log = structlog.get_logger()
    log.info("started", version=__version__, data=broker.settings.storage)
    for endpoint in endpoints:
        for listener in endpoint.listeners:
            log.info("listening", protocol=endpoint.name, address=show(listener.socket.getsockname()))


def totals(broker: Broker) -> dict[str, int]:
    """Count the objects of a broker; predeclared exchanges and unacknowledged messages are left out."""
    vhosts = broker.vhosts.values()
    return {
        "users": len(broker.users),
        "vhosts": len(broker.vhosts),
        "exchanges": sum(
            bool(name) and not is_reserved(name) for vhost in vhosts for name in vhost.exchanges
        ),
        "queues": sum(len(vhost.queues) for vhost in vhosts),
        "messages": sum(len(queue.ready) for vhost in vhosts for queue in vhost.queues.values()),
    }


def count_entries(definitions: "Definitions") -> dict[str, int]:
    """Return the number of entries of each kind. Call it before the import, which removes the entries."""
    kinds = ("users", "vhosts", "permissions", "policies", "exchanges", "queues", "bindings")
    return {kind: len(getattr(definitions, kind)) for kind in kinds}


async def warn_of_default_login(broker: Broker) -> None:
    """Warn if a login with the settings ``default_user`` and ``default_pass`` would fail.

    These settings create the first user of a new data directory and never change an existing one.
    """
    settings = broker.settings
    name, password = settings.default_user, settings.default_pass
    if (name, password) == (DEFAULTS.default_user, DEFAULTS.default_pass):
        return
    log = structlog.get_logger()
    user = broker.users.get(name)
    if user is None:
        if not broker.users:
            return  # ``populate`` has logged the reason
        log.warning(
            "default_user has no effect",
            user=name,
            reason="other users exist already, in the data directory or the definitions file",
            to_add_it=f"leveret user declare {quote(name)} --tags administrator --password-stdin",
        )
        return
    # With scrypt this takes 0.1 s. If the password is changed meanwhile, only the warning is wrong.
    compare = partial(matches_password, user.password_hash, password)
    if not await trio.to_thread.run_sync(compare, abandon_on_cancel=True):
        log.warning(
            "default_pass has no effect",
            user=name,
            reason="the user exists already, with another password",
            to_change_it=f"leveret user declare {quote(name)} --password-stdin",
        )
