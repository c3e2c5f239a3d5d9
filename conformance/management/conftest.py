"""Both brokers, started once for all tests here; without a RabbitMQ to compare with they are skipped."""

from collections.abc import Iterator

import pytest

from conformance.management.scene import Scene
from conformance.management.sides import Side, leveret_side, rabbitmq_side
from tests.tools import need


@pytest.fixture(scope="session")
def leveret() -> Iterator[Side]:
    with leveret_side() as side:
        yield side


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Side]:
    need("rabbitmq")
    with rabbitmq_side() as side:
        yield side


@pytest.fixture(scope="session")
def both(rabbitmq: Side, leveret: Side) -> tuple[Side, Side]:
    """RabbitMQ and leveret."""
    return rabbitmq, leveret


@pytest.fixture(scope="module")
def scenes(both: tuple[Side, Side]) -> Iterator[tuple[Scene, Scene]]:
    """The same things going on in both, while one module looks at them: others expect idle brokers."""
    rabbitmq, leveret = both
    with Scene(rabbitmq) as first, Scene(leveret) as second:
        yield first, second
