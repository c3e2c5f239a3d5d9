"""Starts that are refused: each with a text that says what is wrong, where, and what to do."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from leveret.router.postgresql import backend as module
from leveret.router.postgresql.backend import PostgresBackend, open_backend
from leveret.router.postgresql.location import TIMEOUTS, StoreLocation
from leveret.router.server.broker_lifecycle import StartupError
from leveret.router.server.main import open_store
from leveret.router.server.postgresql_store import open_postgresql
from leveret.router.settings import ClusterSettings, Settings, StoreSettings
from leveret.router.store.backend import StorageError
from tests.postgresql import PostgresPair, free_port
from tests.router.harness import Broker


def refusal(location: StoreLocation) -> str:
    """Return the text with which a start is refused."""
    with pytest.raises(StorageError) as refused:
        open_backend(location)
    return str(refused.value)


def execute(url: str, *statements: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_address_without_a_server() -> None:
    port = free_port()
    text = refusal(StoreLocation(f"postgresql://app:geheim@127.0.0.1:{port}/orders"))
    assert text.startswith(f"cannot connect to postgresql://127.0.0.1:{port}/orders: ")
    assert "Connection refused" in text
    assert "geheim" not in text


def test_url_with_an_unknown_option(database: str) -> None:
    assert 'invalid URI query parameter: "colour"' in refusal(StoreLocation(f"{database}?colour=red"))


def test_database_that_does_not_exist(database: str) -> None:
    assert 'database "nowhere" does not exist' in refusal(
        StoreLocation(f"{database.rpartition('/')[0]}/nowhere")
    )


def test_standby(postgresql: PostgresPair) -> None:
    text = refusal(StoreLocation(postgresql.standby.dsn()))
    assert "is a standby of PostgreSQL, which cannot be written to: name the primary" in text


def test_read_only_database(database: str, location: StoreLocation) -> None:
    name = database.rpartition("/")[2]
    execute(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "is read-only: default_transaction_read_only is on" in refusal(location)


def test_user_without_rights(database: str, postgresql: PostgresPair) -> None:
    execute(database, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    text = refusal(StoreLocation(database.replace("leveret@", "reader@")))
    assert "permission denied for database" in text
    assert "CREATE SCHEMA leveret AUTHORIZATION reader" in text
    execute(database, "CREATE SCHEMA leveret AUTHORIZATION reader")
    open_backend(StoreLocation(database.replace("leveret@", "reader@"))).close(clean=True)


def test_store_of_another_format(
    database: str, location: StoreLocation, opened: Callable[[], PostgresBackend]
) -> None:
    opened().close(clean=True)
    execute(database, "UPDATE leveret.stores SET format = 7")
    assert "has format 7, and this leveret knows 1: use the version that wrote it" in refusal(location)


def test_store_without_its_fence(
    database: str, location: StoreLocation, opened: Callable[[], PostgresBackend]
) -> None:
    opened().close(clean=True)
    execute(database, "DROP TABLE leveret.fence_0_1")
    assert "has no positions of shard 0: it is damaged" in refusal(location)


def test_store_of_a_running_broker(
    location: StoreLocation, opened: Callable[[], PostgresBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SESSION_END_TIMEOUT", 0)
    opened()
    assert "is in use by a broker at 127.0.0.1" in refusal(location)


def test_server_whose_commits_wait_for_no_standby(postgresql_pair: PostgresPair) -> None:
    primary = postgresql_pair.primary
    primary.configure(synchronous_standby_names="")
    location = StoreLocation(primary.dsn())
    assert "its synchronous_standby_names is empty, and cluster.durability is 'quorum'" in refusal(location)
    open_backend(replace(location, durability="local")).close(clean=True)


@pytest.mark.parametrize(
    ("configured", "durability", "used"),
    [
        ("on", "quorum", "on"),
        ("off", "quorum", "on"),
        ("local", "quorum", "on"),
        ("remote_write", "quorum", "on"),
        ("remote_apply", "quorum", "remote_apply"),
        ("off", "local", "local"),
        ("on", "local", "on"),
    ],
)
def test_commits_are_as_durable_as_the_setting_says(
    location: StoreLocation, configured: str, durability: str, used: str
) -> None:
    name = location.url.rpartition("/")[2]
    execute(location.url, f"ALTER DATABASE {name} SET synchronous_commit = {configured}")
    with closing(replace(location, durability=durability).open("test")) as connection:
        assert connection.execute(b"SHOW synchronous_commit").fetchone() == (used,)


def test_settings_name_the_store(database: str) -> None:
    settings = Settings(
        store=StoreSettings(url=database, schema="mine"), cluster=ClusterSettings(durability="local")
    )
    backend = open_postgresql(settings)
    assert (backend.location.schema, backend.location.durability) == ("mine", "local")
    backend.close(clean=True)


def test_a_refused_store_is_a_refused_start(postgresql: PostgresPair) -> None:
    settings = Settings(store=StoreSettings(url=postgresql.standby.dsn()))
    with pytest.raises(StartupError, match="is a standby of PostgreSQL"):
        open_store(Broker(settings, 0))


def test_stores_in_several_schemas_have_owners_of_their_own(location: StoreLocation) -> None:
    backends = [open_backend(replace(location, schema=schema)) for schema in ("one", "two")]
    for backend in backends:
        backend.append.commit()
    for backend in backends:
        backend.close(clean=True)


def test_timeouts_that_are_configured_are_not_those_of_the_session(location: StoreLocation) -> None:
    name = location.url.rpartition("/")[2]
    for timeout in TIMEOUTS[:-1]:
        execute(location.url, f"ALTER DATABASE {name} SET {timeout} = 20000")
    query = b"SELECT name FROM pg_settings WHERE name LIKE '%timeout' AND setting = '20000'"
    with closing(psycopg.connect(location.url)) as other:
        assert len(other.execute(query).fetchall()) == len(TIMEOUTS) - 1
    with closing(location.open("test")) as connection:
        assert connection.execute(query).fetchall() == []
