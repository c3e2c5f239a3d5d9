"""A short run of the crash harness; ``python -m tests.faults.crash`` is the long one."""

import time

import pytest

from tests.faults.crash import crash


@pytest.mark.slow
async def test_what_was_promised_is_there_after_a_crash():
    assert await crash(cycles=30, seed=int(time.time()), seconds=80) == []


@pytest.mark.slow
async def test_what_was_promised_is_in_postgresql_after_a_crash_of_the_broker_or_the_server(postgresql_pair):
    assert await crash(cycles=15, seed=int(time.time()), seconds=60, servers=postgresql_pair) == []
