"""What tests of the store have in common."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.router.store.small import MEMORY, SMALL


@pytest.fixture
def small():
    """A few messages make a page."""
    with ExitStack() as stack:
        for each in SMALL:
            stack.enter_context(each)
        yield


@pytest.fixture
def quick_path():
    """A directory that is fast, and forgotten when the power is cut."""
    with tempfile.TemporaryDirectory(prefix="leveret-store-", dir=MEMORY) as path:
        yield Path(path)
