"""The scenarios at a small size: no turn of the loop takes long, and the broker is well afterwards.

Asserted is the processor time of the longest turn: the time on the clock is the machine's, which may be busy.
What took seconds at full size took a tenth of a second and more at this one.
"""

import pytest

from tests.hostile.harness import play
from tests.hostile.scenarios import SCENARIOS

SCALE = 1 / 20
LONGEST = 0.03  # processor seconds: some turns take a look of the garbage collector more than their budget


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_no_turn_takes_long(scenario, tmp_path):
    outcome = await play(scenario, tmp_path, scale=SCALE)
    assert outcome.turn_cpu < LONGEST, outcome


async def test_a_durable_broker_starts_again(tmp_path):
    scenario = next(each for each in SCENARIOS if each.__name__ == "fanout")
    outcome = await play(scenario, tmp_path, scale=SCALE, data=str(tmp_path / "data"))
    assert outcome.turn_cpu < LONGEST, outcome
