"""Opening of the store in PostgreSQL that the settings name.

Responsible for loading psycopg only if it is needed, and for the advice if it is missing.
"""

from typing import TYPE_CHECKING

from leveret.router.settings import Settings
from leveret.router.store.backend import StorageError

if TYPE_CHECKING:
    from leveret.router.postgresql.backend import PostgresBackend
    from leveret.router.postgresql.location import StoreLocation

MISSING = (
    "store.url names a PostgreSQL, and psycopg is not installed: install it with"
    " pip install 'leveret[postgresql]'"
)


def make_location(settings: Settings) -> "StoreLocation":
    """Return the place of the store that the settings name. Raises StorageError without psycopg."""
    try:
        # A broker with a data directory does not need it.
        from leveret.router.postgresql.location import StoreLocation  # noqa: PLC0415
    except ImportError as error:
        if not (error.name or "").startswith("psycopg") and "libpq" not in str(error):
            raise
        raise StorageError(f"{MISSING} ({error})") from None
    store = settings.store
    return StoreLocation(store.url, store.schema, settings.cluster.durability)


def open_postgresql(settings: Settings) -> "PostgresBackend":
    """Take over the store that the settings name, unless another broker uses it. Raises StorageError."""
    location = make_location(settings)
    from leveret.router.postgresql.backend import open_backend  # noqa: PLC0415, as above

    return open_backend(location)
