"""The scenarios at a small size, all of a family against one broker: nobody else waits long, memory is
bounded, no confirmed message is lost, and the broker starts again.

The time on the clock is the machine's, which may be busy: what the probe waits is compared with what it waits
beside an idle broker. The processor time of the longest turn has a bound of its own.
"""

import pytest

from tests.hostile.families import FAMILIES
from tests.hostile.harness import IDLE, Bounds, run


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
async def test_one_client_does_not_harm_others(family, tmp_path):
    idle, *outcomes = await run([IDLE, *family.scenarios], tmp_path, scale=0, kill=False)
    p99, longest = idle.quantile(0.99), idle.quantile(1)
    bounds = Bounds(p99=max(0.25, 20 * p99), longest=max(0.75, 30 * longest), turns=True)
    assert len(outcomes) == len(family.scenarios)
    assert [line for each in outcomes for line in bounds.broken_by(each)] == []
