"""Fixtures of the tests of the store in PostgreSQL."""

from collections.abc import Callable, Iterator

import pytest

from leveret.router.postgresql.backend import PostgresBackend, open_backend
from leveret.router.postgresql.location import StoreLocation
from tests.router.store.small import SMALL, patched


@pytest.fixture
def location(database: str) -> StoreLocation:
    """A store in a database of its own, which does not exist yet."""
    return StoreLocation(database)


@pytest.fixture
def opened(location: StoreLocation) -> Iterator[Callable[[], PostgresBackend]]:
    """A function that opens the store as the next owner; what is still open is closed at the end."""
    backends = []

    def open_store() -> PostgresBackend:
        backends.append(open_backend(location))
        return backends[-1]

    yield open_store
    for backend in backends:
        backend.close(clean=False)


@pytest.fixture
def small() -> Iterator[None]:
    """A few messages make a page."""
    with patched(*SMALL):
        yield
