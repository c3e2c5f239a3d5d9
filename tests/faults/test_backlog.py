"""A queue far larger than memory may hold, in small; ``python -m tests.faults.backlog`` has the real size."""

import pytest

from tests.faults.backlog import Bounds, backlog


@pytest.mark.parametrize(
    ("count", "size", "resident"),
    [
        (100_000, 100, 95),  # all in memory they would take 70 MB, beside the 40 of an empty broker
        (300, 100_000, 170),  # so many pages may wait to be written
    ],
)
async def test_a_backlog_is_on_disk_survives_a_kill_and_leaves_nothing_behind(
    tmp_path, count, size, resident
):
    costs = await backlog(tmp_path, count, size, "--set", "store.memory=1000000")
    assert costs.full > 0.8 * count * size / 1_000_000
    assert costs.resident < resident
    assert costs.beyond(Bounds(resident=170, ready=20)) == []
