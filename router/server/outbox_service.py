"""Transactional outboxes of a running broker: when publishing from them starts and stops.

Loaded only if the settings name an outbox. The modules that publish are loaded when the broker listens.
"""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec

import trio

from leveret.router.server.driver import Driver
from leveret.router.server.late_modules import load_module

POLLER = "leveret.router.server.outbox_poller"


class OutboxSetupError(Exception):
    """The settings name outboxes that this process cannot use; the text has the reason."""


class OutboxService:
    """Publishes from the outboxes of a broker between ``run`` and ``stop``.

    Of several brokers with the same data only the one that owns the store may run it.
    """

    def __init__(self, driver: Driver) -> None:
        """Raises OutboxSetupError without psycopg, and for a malformed URL of a database."""
        self._driver = driver
        self._scope = trio.CancelScope()
        _check(driver.broker.settings.outbox.databases)

    async def run(self) -> None:
        """Publish rows until ``stop`` is called."""
        with self._scope:
            await load_module(POLLER)
            await import_module(POLLER).run_outboxes(self._driver)

    def stop(self) -> None:
        """Read no more rows. Rows of the last batch may be published and not deleted: the next start
        recognizes them, and deletes them.
        """
        self._scope.cancel()


def _check(urls: Iterable[str]) -> None:
    """Raise OutboxSetupError unless there is a driver that can parse these URLs."""
    if find_spec("psycopg") is None:
        raise OutboxSetupError(
            "outbox.databases needs psycopg, which is not installed: pip install 'leveret[postgresql]'"
        )
    # These modules need psycopg.
    from leveret.router.transactional_outbox.connection import OutboxError, describe  # noqa: PLC0415

    for number, url in enumerate(urls, 1):
        try:
            describe(url)
        except OutboxError as error:
            raise OutboxSetupError(f"outbox.databases, URL {number}: {error}") from None
