"""``python -m conformance.bench``: measure leveret beside RabbitMQ and write ``docs/performance.md``."""

import argparse
import contextlib
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from conformance.bench import page
from conformance.bench.measures import Backlog, Figures, Scale
from conformance.bench.sides import Side, start
from conformance.bench.workloads import WORKLOADS, Row, Workload
from conformance.brokers import BrokerError
from conformance.rabbitmq import RabbitMQError
from leveret.router.bench.load import KINDS, BenchError

ROOT = Path(__file__).resolve().parents[2]
FAILURES = (BenchError, BrokerError, RabbitMQError, OSError, EOFError)  # of one workload
STARTING = 1.5  # seconds that a run takes besides what is measured
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
    except FAILURES as error:
        print(f"{name}: {error or type(error).__name__}", file=sys.stderr)
        return None, str(error)
    for row in workload.rows:
        if line := _printed(row, sides, figures):
            print(f"{row.title} ({row.figure}, {row.unit}): {line}", flush=True)
    kept: dict[str, object] = {
        "began": began.isoformat(timespec="minutes"),
        "load": round(load, 2),
        "seconds": scale.seconds,
        "part": scale.part if workload.measure.scaled else 1.0,
        "figures": {side.name: found for side, found in zip(sides, figures, strict=True)},
    }
    if isinstance(workload.measure, Backlog):
        kept["curve"] = workload.measure.curve
    return kept, None


def _printed(row: Row, sides: Sequence[Side], figures: Sequence[list[Figures]]) -> str:
    """The medians of a figure, and the ratios of the first side to each other one; "" if there is none."""
    shown = []
    for side, found in zip(sides, figures, strict=True):
        values = [each[row.figure] for each in found if row.figure in each]
        if not values:
            continue
        text = f"{side.name} {statistics.median(values):,.1f}"
        if side is not sides[0] and (each := page.ratios(figures[0], found, row.figure)):
            text += f" (ratio {min(each):.2f} / {statistics.median(each):.2f} / {max(each):.2f}"
            if row.goal is not None and side.name == "rabbitmq":
                text += f", goal {'<=' if row.less else '>='} {row.goal}"
                text += "" if row.met(statistics.median(each)) else " MISSED"
            text += ")"
        shown.append(text)
    return "  ".join(shown)


def expected(names: Sequence[str], scale: Scale, rounds: int, sides: int) -> float:
    """About how many minutes the workloads take."""
    each = scale.seconds + scale.warm_up + STARTING
    runs = sum(WORKLOADS[name].measure.runs * min(rounds, WORKLOADS[name].rounds) for name in names)
    return runs * each * sides / 60


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.bench", description=main.__doc__)
    parser.add_argument("--broker", action="append", help="leveret, rabbitmq or a URL; twice: compared")
    parser.add_argument(
        "--beside", action="append", default=[], metavar="URL", help="another broker that runs"
    )
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="may be repeated; default all")
    parser.add_argument("--kind", action="append", choices=KINDS, help="may be repeated; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured part of a run")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no workload after this time")
    parser.add_argument("--part", type=float, default=1.0, help="of bindings, backlogs and what is idle")
    parser.add_argument("--quick", action="store_true", help="whether it works: tiny and short, one round")
    parser.add_argument("--docs", type=Path, help="where to write (default: docs; nowhere for other brokers)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure leveret beside RabbitMQ, workload by workload, A B A B, and write the page about it.

    What was measured before and is not measured now stays on the page. Status 1 when a workload failed:
    something was lost, or a broker gave up. A goal that is missed is no failure.
    """
    options = parse(arguments)
    names = options.broker or ["leveret", "rabbitmq"]
    scale = QUICK if options.quick else Scale(seconds=options.seconds, part=options.part)
    scale = replace(scale, kinds=tuple(options.kind or KINDS))
    rounds = 1 if options.quick else options.rounds
    chosen = options.only or list(WORKLOADS)
    docs = options.docs
    if docs is None and names == ["leveret", "rabbitmq"] and not options.quick:
        docs = ROOT / "docs"
    failed, left = False, []
    with contextlib.ExitStack() as stack:
        try:
            sides = [stack.enter_context(start(name, websockets=True)) for name in [*names, *options.beside]]
        except FAILURES as error:
            print(f"conformance.bench: {error}", file=sys.stderr)
            return 1
        print(
            f"{len(chosen)} workloads, about {expected(chosen, scale, rounds, len(sides)):.0f} minutes",
            flush=True,
        )
        end = time.monotonic() + 60 * options.minutes
        for name in chosen:
            if time.monotonic() > end:
                left.append(name)
                continue
            kept, error = measure(name, sides, scale, rounds)
            failed = failed or error is not None
            if docs is not None and kept is not None:
                page.keep(docs, name, kept)
    if left:
        print(f"not begun after {options.minutes:g} minutes: {', '.join(left)}", file=sys.stderr)
    if docs is not None:
        page.write(docs)
    return int(failed)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the brokers end too
    sys.exit(main())
