"""Opening of the store in PostgreSQL that the settings name.

Responsible for loading psycopg only if it is needed, and for the advice if it is missing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from leveret.router.settings import ClusterSettings, Settings, StoreSettings
from leveret.router.store.backend import StorageBackend, StorageError
from leveret.router.store.opening import METADATA, DataDirectory

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


def open_store_at(place: str, schema: str, durability: str, *, must_exist: bool = False) -> StorageBackend:
    """Open a data directory, or the PostgreSQL of a URL. Raises StorageError, MetadataError and OSError."""
    if place.startswith(("postgresql://", "postgres://")):
        cluster = ClusterSettings(durability="local" if durability == "local" else "quorum")
        return open_postgresql(Settings(store=StoreSettings(url=place, schema=schema), cluster=cluster))
    path = Path(place)
    if must_exist and not (path / METADATA).exists():
        raise StorageError(f"{path} is not a data directory: it has no {METADATA}")
    return DataDirectory(path)


def open_postgresql(settings: Settings) -> "PostgresBackend":
    """Take over the store that the settings name, unless another broker uses it. Raises StorageError."""
    location = make_location(settings)
    from leveret.router.postgresql.backend import open_backend  # noqa: PLC0415, as above

    return open_backend(location)
