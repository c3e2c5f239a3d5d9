"""The table of a run: its rows for the terminal, and its Markdown in docs/security.md."""

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.hostile.harness import Bounds, Outcome

COLUMNS = ("scenario", "p50 ms", "p99 ms", "max ms", "turn CPU ms", "peak MiB", "restart s", "result")
BEGIN = "<!-- hostile: table -->"
END = "<!-- hostile: end -->"


def row(outcome: Outcome, bounds: Bounds) -> list[str]:
    """The cells of an outcome, in the order of ``COLUMNS``."""
    times = [f"{1000 * outcome.quantile(share):.1f}" for share in (0.5, 0.99, 1)]
    result = "exceeded" if bounds.broken_by(outcome) else "ok"
    return [
        outcome.scenario.name,
        *times,
        f"{1000 * outcome.turn_cpu:.1f}",
        f"{outcome.memory:.0f} of {outcome.scenario.memory}",
        f"{outcome.restart:.1f}",
        result,
    ]


def markdown(outcomes: Sequence[Outcome], bounds: Bounds) -> str:
    """The table with what it was measured by: command, machine, date."""
    arguments = sys.argv[1:]
    if "--table" in arguments:
        at = arguments.index("--table")
        del arguments[at : at + 2]  # where the page was says nothing about the run
    command = shlex.join(["python", "-m", "tests.hostile", *arguments])
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    good = sum(not bounds.broken_by(each) for each in outcomes)
    lines = [
        f"`{command}`, {datetime.date.today().isoformat()}: {os.cpu_count()} cores, {platform.machine()},",
        f"{platform.system()} {'.'.join(platform.release().split('.')[:2])},",
        f"Python {platform.python_version()};",
        f"load average at the end {load}.",
        f"{good} of {len(outcomes)} scenarios within the bounds.",
        "",
        "| " + " | ".join((*COLUMNS, "what one client does")) + " |",
        "|---|" + "---:|" * (len(COLUMNS) - 2) + "---|---|",
    ]
    for outcome in outcomes:
        cells = [f"`{outcome.scenario.name}`", *row(outcome, bounds)[1:], outcome.scenario.summary]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_table(page: Path, outcomes: Sequence[Outcome], bounds: Bounds) -> None:
    """Replace what stands between the markers of a page. Raises ValueError if it has none."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}; add them where the table should stand")
    page.write_text(f"{before}{BEGIN}\n\n{markdown(outcomes, bounds)}\n\n{END}{after}")
