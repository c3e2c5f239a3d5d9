"""Fixtures of the tests of the store."""

import tempfile
from pathlib import Path

import pytest

from tests.router.store.small import MEMORY, SMALL, SMALL_STREAMS, patched


@pytest.fixture
def small():
    """A few messages make a page."""
    with patched(*SMALL):
        yield


@pytest.fixture
def small_streams():
    """A few messages of a stream make a chunk."""
    with patched(*SMALL_STREAMS):
        yield


@pytest.fixture
def quick_path():
    """A directory that is fast, and forgotten when the power is cut."""
    with tempfile.TemporaryDirectory(prefix="leveret-store-", dir=MEMORY) as path:
        yield Path(path)
