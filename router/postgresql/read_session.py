"""The session in which a broker reads its store, beside the one in which it appends."""

import threading
from collections.abc import Sequence
from typing import Any

import psycopg

from leveret.router.postgresql.location import Connection, StoreLocation, execute, text_of


class ReadSession:
    """Reads committed rows. Any thread may use it."""

    def __init__(self, location: StoreLocation) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises OSError if the server does not answer or refuses the query.

        The first failure of a session may be the end of an old connection, so the query is repeated once.
        """
        with self._lock:
            for repeated in (False, True):
                fresh = self._connection is None
                try:
                    if self._connection is None:
                        self._connection = self._location.connect(f"leveret read {self._location.shard}")
                    return execute(self._connection, query, values)
                except psycopg.Error as error:
                    lost = self._connection is None or self._connection.closed
                    if lost:
                        self._drop()
                    if fresh or repeated or not lost:
                        raise OSError(f"cannot read from {self._location}: {text_of(error)}") from None
            raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the session; a later query opens another one. A query in progress keeps it open."""
        if self._lock.acquire(blocking=False):
            self._drop()
            self._lock.release()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
