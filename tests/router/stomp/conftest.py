import pytest

from tests.router.amqp.world import World
from tests.router.stomp.client import StompClient


@pytest.fixture
def world():
    return World()


@pytest.fixture
def dial(world):
    """Make a client that has said nothing yet."""

    def dial(**options):
        return StompClient(world, **options)

    return dial


@pytest.fixture
def connect(dial):
    """Make a client that has logged in."""

    def connect(version="1.2", **headers):
        return dial().open(version, **headers)

    return connect
