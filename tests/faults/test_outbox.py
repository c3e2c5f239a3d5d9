"""A short run of the faults of an outbox; ``python -m tests.faults.outbox`` is the long one."""

import time

import pytest

from tests.faults.outbox import outbox_faults


@pytest.mark.slow
@pytest.mark.parametrize("in_postgresql", [False, True], ids=["data directory", "PostgreSQL"])
async def test_each_row_is_published_once_whatever_dies(postgresql_pair, in_postgresql):
    """With its messages in a directory, and in the PostgreSQL that has the outbox too."""
    seed = int(time.time())
    assert await outbox_faults(postgresql_pair, 6, seed, in_postgresql=in_postgresql) == []
