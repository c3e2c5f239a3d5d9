import pytest
import structlog
import trio

from leveret.router.settings import Settings
from tests.router.server.server import Server


@pytest.fixture
def settings() -> Settings:
    """What the broker runs with; a test module may say otherwise."""
    return Settings()


@pytest.fixture
async def server(settings: Settings, nursery: trio.Nursery) -> Server:
    """A broker in the test's own Trio loop."""
    return Server(settings, nursery)


@pytest.fixture
def logged():
    """The log, as a list of events."""
    with structlog.testing.capture_logs() as events:
        yield events
