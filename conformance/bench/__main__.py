"""``python -m conformance.bench``: measure leveret beside RabbitMQ and write ``docs/performance.md``."""

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from conformance.bench import page
from conformance.bench.measures import Backlog, Figures, Scale
from conformance.bench.sides import Side, start
from conformance.bench.workloads import WORKLOADS, Workload
from leveret.router.bench.load import BenchError

ROOT = Path(__file__).resolve().parents[2]
QUICK = Scale(seconds=0.3, warm_up=0.2, part=0.002)


def compare(workload: Workload, sides: Sequence[Side], scale: Scale, rounds: int) -> list[list[Figures]]:
    """Measure the sides in turn, A B A B; the figures of each side, round by round."""
    figures: list[list[Figures]] = [[] for _ in sides]
    with contextlib.ExitStack() as stack:
        for side in sides:
            stack.enter_context(workload.measure.topology(side, scale))
        for _ in range(min(rounds, workload.rounds)):
            for side, found in zip(sides, figures, strict=True):
                found.append(workload.measure.measure(side, scale))
    return figures


def measure(
    name: str, sides: Sequence[Side], scale: Scale, rounds: int
) -> tuple[dict[str, object] | None, str | None]:
    """Measure one workload and print it; what is to be kept, or what went wrong."""
    workload = WORKLOADS[name].named(name)
    began, load = datetime.now(UTC), os.getloadavg()[0]
    try:
        figures = compare(workload, sides, scale, rounds)
    except BenchError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None, str(error)
    for row in workload.rows:
        line = "  ".join(
            f"{side.name} {statistics.median(each.get(row.figure, 0.0) for each in found):,.1f}"
            for side, found in zip(sides, figures, strict=True)
        )
        if len(sides) > 1:
            ratios = page.ratios(figures, row.figure)
            line += f"  ratio {min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}"
            line += f"  goal {'<=' if row.less else '>='} {row.goal}"
            line += "" if row.met(statistics.median(ratios)) else "  MISSED"
        print(f"{row.title} ({row.figure}, {row.unit}): {line}", flush=True)
    kept: dict[str, object] = {
        "began": began.isoformat(timespec="minutes"),
        "load": round(load, 2),
        "seconds": scale.seconds,
        "part": scale.part,
        "figures": {side.name: found for side, found in zip(sides, figures, strict=True)},
    }
    if isinstance(workload.measure, Backlog):
        kept["curve"] = workload.measure.curve
    return kept, None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure leveret beside RabbitMQ, workload by workload, A B A B, and write the page about it.

    What was measured before and is not measured now stays on the page. Status 1 when a workload failed:
    something was lost, or a broker gave up. A goal that is missed is no failure.
    """
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description=main.__doc__)
    parser.add_argument("--broker", action="append", help="leveret, rabbitmq or a URL; twice: compared")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="may be repeated; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured part of a run")
    parser.add_argument("--part", type=float, default=1.0, help="of bindings, backlogs and what is idle")
    parser.add_argument("--quick", action="store_true", help="whether it works: tiny and short, one round")
    parser.add_argument("--docs", type=Path, help="where to write (default: docs; nowhere for other brokers)")
    options = parser.parse_args(arguments)
    names = options.broker or ["leveret", "rabbitmq"]
    scale = QUICK if options.quick else Scale(seconds=options.seconds, part=options.part)
    rounds = 1 if options.quick else options.rounds
    docs = options.docs
    if docs is None and names == ["leveret", "rabbitmq"] and not options.quick:
        docs = ROOT / "docs"
    failed = False
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(start(name)) for name in names]
        for name in options.only or WORKLOADS:
            kept, error = measure(name, sides, scale, rounds)
            failed = failed or error is not None
            if docs is not None and kept is not None:
                page.keep(docs, name, kept)
    if docs is not None:
        page.write(docs)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
