"""Fixtures of the conformance tests: the broker under test, chosen by ``--broker leveret|rabbitmq|amqp://...``."""

import uuid
from collections.abc import Iterator

import pytest

from conformance import brokers

pytest_plugins = ["tests.selection"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default="leveret",
        help="what the conformance tests talk to: leveret, rabbitmq, or the URL of a running broker",
    )


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[brokers.Broker]:
    """The broker under test, started once for the whole run."""
    with brokers.start(request.config.getoption("--broker")) as running:
        yield running


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name nobody else uses on the broker: tests share it, and a failed one may leave its queues behind."""
    return f"{request.node.originalname}-{uuid.uuid4().hex[:8]}"
