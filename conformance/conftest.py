"""Fixtures of the conformance tests: the broker under test, chosen by ``--broker leveret|rabbitmq|amqp://...``."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from conformance import brokers

if TYPE_CHECKING:
    from tests.postgresql import PostgresPair

pytest_plugins = ["tests.selection", "tests.postgresql"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default="leveret",
        help="what the conformance tests talk to: leveret, rabbitmq, or the URL of a running broker",
    )
    parser.addoption(
        "--store",
        default="directory",
        choices=["directory", "postgresql"],
        help="what leveret stores in: a data directory, or a PostgreSQL that is started for the run",
    )


@pytest.fixture(scope="session", autouse=True)
def store(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--store postgresql`` a PostgreSQL with a synchronous standby, for all brokers of the run."""
    if request.config.getoption("--store") == "directory":
        yield
        return
    pair: PostgresPair = request.getfixturevalue("postgresql")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(brokers.STORE, pair.primary.dsn())
        yield


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[brokers.Broker]:
    """The broker under test, started once for the whole run."""
    with brokers.start(request.config.getoption("--broker")) as running:
        yield running


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name nobody else uses on the broker: tests share it, and a failed one may leave its queues behind."""
    return f"{request.node.originalname}-{uuid.uuid4().hex[:8]}"
