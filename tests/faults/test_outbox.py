"""A short run of the faults of an outbox; ``python -m tests.faults.outbox`` is the long one."""

import time

import pytest

from tests.faults.outbox import outbox_faults


@pytest.mark.slow
async def test_each_row_is_published_once_whatever_dies(postgresql_pair):
    assert await outbox_faults(postgresql_pair, cycles=8, seed=int(time.time())) == []
