"""Play the scenarios at full size and print how long others waited.

    python -m tests.hostile                     all scenarios, each against a new broker
    python -m tests.hostile queues requeue      a family, or single scenarios, by name
    python -m tests.hostile --scale 0.1         a tenth of the size, but not less than the tests play
    python -m tests.hostile --table FILE        write the table into a Markdown page, between its markers

Ends with status 1 if a bound is exceeded.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import trio

from tests.hostile.families import FAMILIES
from tests.hostile.harness import IDLE, Bounds, Outcome, allow_files, run
from tests.hostile.scenario import Scenario
from tests.hostile.table import COLUMNS, row, write_table

BOUNDS = Bounds(p99=0.05, longest=0.25)
START, PLAY = 2.0, 3.0  # seconds of a scenario: its two brokers and its probe, and itself at full size


async def main(scenarios: list[Scenario], page: Path | None, scale: float) -> list[Outcome]:
    """Play scenarios. The table is written after each, so that an interrupted run leaves what it measured."""
    minutes = (len(scenarios) + 1) * (START + PLAY * scale) / 60
    print(f"{len(scenarios)} scenarios: about {max(1, minutes):.0f} minutes on an idle machine", flush=True)
    print(("{:32}" + "{:>13}" * (len(COLUMNS) - 2) + "  {}").format(*COLUMNS))
    outcomes = []
    for scenario in (IDLE, *scenarios):
        with tempfile.TemporaryDirectory() as path:
            [outcome] = await run([scenario], Path(path), scale=scale, kill=True)
        outcomes.append(outcome)
        print(("{:32}" + "{:>13}" * (len(COLUMNS) - 2) + "  {}").format(*row(outcome, BOUNDS)), flush=True)
        for line in [*BOUNDS.broken_by(outcome), *outcome.slow[:3]]:
            print("   ", line, flush=True)
        if page is not None:
            write_table(page, outcomes, BOUNDS)
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Play hostile inputs.")
    parser.add_argument("names", nargs="*", help="families or scenarios; all if none is named")
    parser.add_argument(
        "--scale", type=float, default=1, help="part of the full size, 0 for the tests' sizes"
    )
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table into this page")
    options = parser.parse_args()
    known = [(family.name, each) for family in FAMILIES for each in family.scenarios]
    if unknown := set(options.names) - {name for family, each in known for name in (family, each.name)}:
        parser.error(f"no such scenario or family: {', '.join(sorted(unknown))}")
    chosen = [each for family, each in known if not options.names or {family, each.name} & set(options.names)]
    allow_files()
    outcomes = trio.run(lambda: main(chosen, options.table, options.scale))
    sys.exit(any(BOUNDS.broken_by(outcome) for outcome in outcomes))
