"""Play the scenarios at full size, or those named, and print how long others waited."""

import sys
import tempfile
from pathlib import Path

import trio

from tests.hostile.harness import Attack, play
from tests.hostile.scenarios import SCENARIOS


async def idle(attack: Attack) -> None:
    """Nothing."""
    await trio.sleep(3)


async def main(names: list[str]) -> None:
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.__name__ in names]
    print(f"{'':20}{'probe p99':>12}{'probe max':>12}{'longest turn':>14}{'its CPU':>10}   ms")
    for scenario in (idle, *chosen):
        with tempfile.TemporaryDirectory() as path:
            with trio.fail_after(300):
                outcome = await play(scenario, Path(path))
        figures = [1000 * each for each in (outcome.p99, outcome.longest, outcome.turn, outcome.turn_cpu)]
        p99, longest, turn, cpu = figures
        print(f"{scenario.__name__:20}{p99:12.1f}{longest:12.1f}{turn:14.1f}{cpu:10.1f}", flush=True)
        for line in outcome.slow[:5]:
            print("   ", line)


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
