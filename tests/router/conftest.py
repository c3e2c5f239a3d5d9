import logging

import pytest
import structlog


@pytest.fixture
def restored_logging():
    """Whatever a test configures, the next one finds logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configured = structlog.get_config()
    yield
    structlog.configure(**configured)
    root.handlers[:] = handlers
    root.setLevel(level)
