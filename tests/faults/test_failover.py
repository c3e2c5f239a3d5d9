"""A short run of the fail-over harness; ``python -m tests.faults.failover`` is the long one."""

import time

import pytest

from tests.faults.failover import fail_over
from tests.faults.networks import missing


@pytest.mark.slow
@pytest.mark.needs("postgresql")
@pytest.mark.timeout(300)
async def test_what_was_confirmed_is_there_after_a_fail_over():
    failures = await fail_over(cycles=30, seed=int(time.time()), seconds=80, longest=6, cuts=not missing())
    assert failures == []
