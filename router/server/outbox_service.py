"""Transactional outboxes of a running broker: when publishing from them starts and stops.

The modules that publish are loaded if the settings name an outbox; a start without one does not need them.
"""

from importlib import import_module
from importlib.util import find_spec

import trio

from leveret.router.server.driver import Driver
from leveret.router.server.late_modules import load_module

PICKER = "leveret.router.server.outbox_picker"


class MissingDriver(Exception):
    """The library for PostgreSQL is not installed; the text has advice."""


class OutboxService:
    """Publishes from the outboxes of a broker between ``run`` and ``stop``.

    Of several brokers with the same data only the one that owns the store may run it.
    """

    def __init__(self, driver: Driver) -> None:
        """Raises MissingDriver if the settings name an outbox that cannot be read."""
        self._driver = driver
        self._scope = trio.CancelScope()
        if driver.broker.settings.outbox.databases and find_spec("psycopg") is None:
            raise MissingDriver(
                "outbox.databases needs psycopg, which is not installed: pip install 'leveret[postgresql]'"
            )

    async def run(self) -> None:
        """Publish rows until ``stop`` is called."""
        if self._driver.broker.settings.outbox.databases:
            with self._scope:
                await load_module(PICKER)
                await import_module(PICKER).run_outboxes(self._driver)

    def stop(self) -> None:
        """Read no more rows. Rows of the last batch may be published and not deleted: the next start
        recognizes them, and deletes them.
        """
        self._scope.cancel()
