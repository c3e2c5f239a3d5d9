"""A start survives any content that has a right checksum, and tells what it has left out."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.stored import EDGES, check_change
from tests.fuzz.stored_changes import CHANGES
from tests.fuzz.stored_ground import build
from tests.router.store.small import MEMORY

changes = st.tuples(
    st.integers(0, 1 << 20), st.integers(0, 63), st.sampled_from(EDGES) | st.integers(5, 1 << 64)
)


@pytest.fixture(scope="module")
def ground():
    with tempfile.TemporaryDirectory(prefix="leveret-stored-", dir=MEMORY) as path:
        yield build(Path(path) / "data")


@pytest.mark.parametrize("name", CHANGES)
@given(change=changes)
@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_start_gets_past_content_that_has_a_right_checksum(ground, name, change):
    check_change(ground, name, *change)
