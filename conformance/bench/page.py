"""``docs/performance.md``: the table of what was measured, the machine, and plots beside it.

Owns ``performance.json`` too, which holds every round's figures by workload: what is measured again takes its
place there, and the page is written from all of it.
"""

import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from conformance.bench.measures import Figures
from conformance.bench.workloads import WORKLOADS, Row

MEGABYTE = 1 << 20
NAMES = ("leveret", "rabbitmq")
HEAD = """\
# Performance

leveret beside RabbitMQ on one machine, written by

```console
python -m conformance.bench --rounds {rounds} --seconds {seconds:g}
```

which starts both, each with a data directory on the same disk, and measures every workload in turn,
A B A B, so that whatever else the machine does falls on both. The generator is that of `leveret bench`:
processes of their own, which compare what was received with what was sent; a run in which anything was lost
fails. `--only NAME` measures one row again.

A ratio is leveret's figure over RabbitMQ's in the same round; its least, median and greatest are shown, and
the goal is for the median. Where less is better, the goal is an upper bound. Figures are medians of the
rounds; every round is in [performance.json](performance.json).

| workload | `--only` | leveret | RabbitMQ | ratio: least / median / greatest | goal | |
|---|---|---|---|---|---|---|
"""

BESIDES = 2  # load for each processor that the measuring itself leaves behind at most

BUSY = """
**The machine was busy with other work meanwhile** (a load of up to {most:.0f} on {count} processors). Both
brokers had to share it, so all figures are far below those of a quiet machine, and the ratios spread widely.
Measure again where it is quiet before relying on any of them.
"""


def ratios(figures: list[list[Figures]], name: str) -> list[float]:
    """The first side's figure over the last side's, round by round."""
    pairs = zip(figures[0], figures[-1], strict=True)
    return [ours[name] / theirs[name] for ours, theirs in pairs if theirs.get(name) and name in ours] or [0.0]


def load(docs: Path) -> dict[str, Any]:
    """What was kept."""
    path = docs / "performance.json"
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    return found


def keep(docs: Path, name: str, figures: dict[str, object]) -> None:
    """Keep what was measured of a workload, in place of what was measured before."""
    kept = load(docs)
    kept[name] = figures
    kept["machine"] = machine()
    docs.mkdir(parents=True, exist_ok=True)
    document = {key: kept[key] for key in (*WORKLOADS, "machine") if key in kept}
    (docs / "performance.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    )


def write(docs: Path) -> None:
    """Write the page and its plots from what was kept."""
    from conformance.bench import plots  # noqa: PLC0415 - the plotting library is large and not always wanted

    kept = load(docs)
    measured = {name: kept[name] for name in WORKLOADS if name in kept}
    rounds = max((len(each["figures"]["leveret"]) for each in measured.values()), default=0)
    seconds = max((each["seconds"] for each in measured.values()), default=0)
    lines = [HEAD.format(rounds=rounds, seconds=seconds)]
    for name, each in measured.items():
        figures = [each["figures"][side] for side in NAMES]
        part = each.get("part", 1.0)
        lines += [_line(name, row, figures, part) for row in WORKLOADS[name].rows]
    missing = [f"`{name}`" for name in WORKLOADS if name not in measured]
    if missing:
        lines.append(f"\nNot measured: {', '.join(missing)}.\n")
    lines += _missed(measured)
    lines.append(_about(measured, kept.get("machine", {})))
    drawn = plots.draw(docs, measured)
    lines += [f"\n## {title}\n\n![{title}]({path.name})\n" for title, path in drawn]
    (docs / "performance.md").write_text("".join(lines))


def _line(name: str, row: Row, figures: list[list[Figures]], part: float) -> str:
    ours, theirs = (statistics.median(each.get(row.figure, 0.0) for each in side) for side in figures)
    found = ratios(figures, row.figure)
    median = statistics.median(found)
    goal, verdict = "", ""
    if row.goal is not None:
        goal = f"{'≤' if row.less else '≥'} {row.goal:g}"
        verdict = "yes" if row.met(median) else "**no**"
    spread = f"{min(found):.2f} / **{median:.2f}** / {max(found):.2f}"
    shown = f"{_shown(ours, row.unit)} | {_shown(theirs, row.unit)}"
    title = row.title if part == 1 else f"{row.title} (with {part:g} of the numbers)"
    return f"| {title} | `{name}` | {shown} | {spread} | {goal} | {verdict} |\n"


def _missed(measured: dict[str, Any]) -> list[str]:
    """What the profile shows of the rows that miss their goals."""
    lines = []
    for name, each in measured.items():
        figures = [each["figures"][side] for side in NAMES]
        for row in WORKLOADS[name].rows:
            median = statistics.median(ratios(figures, row.figure))
            if not row.met(median):
                why = row.note or "Not looked into."
                lines.append(f"- **{row.title}**: {median:.2f} of {row.goal:g}. {why}\n")
    return ["\n## Goals that are missed, and why\n\n", *lines] if lines else []


def _shown(value: float, unit: str) -> str:
    if unit == "MB":
        value /= MEGABYTE
    return f"{value:,.0f} {unit}" if value >= 20 else f"{value:,.2f} {unit}"


def _about(measured: dict[str, Any], machine: dict[str, str]) -> str:
    began = sorted(each["began"] for each in measured.values())
    loads = [each["load"] for each in measured.values()]
    counts = sorted({len(each["figures"]["leveret"]) for each in measured.values()})
    text = "\n## Where and when\n\n| | |\n|---|---|\n"
    text += "".join(f"| {key} | {value} |\n" for key, value in machine.items())
    if began:
        text += f"| measured | {began[0]} to {began[-1]} |\n"
        text += f"| rounds | {' to '.join(str(each) for each in (counts[0], counts[-1]))} |\n"
        text += (
            f"| load when a workload began, of the last one too | {min(loads):.1f} to {max(loads):.1f}"
            " (1 min average) |\n"
        )
        if max(loads) > BESIDES * (os.cpu_count() or 1):
            text = BUSY.format(most=max(loads), count=os.cpu_count()) + text
    return text


def machine() -> dict[str, str]:
    """What it was measured on, and with which versions."""
    return {
        "processor": f"{os.cpu_count()} x {_first('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_first('/proc/meminfo', 'MemTotal').split()[0]) / MEGABYTE:.0f} GB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Trio": version("trio"),
        "leveret": f"{version('leveret')} ({_said('git', 'rev-parse', '--short', 'HEAD')})",
        "RabbitMQ": _said("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"),
        "Erlang": _said("dpkg-query", "-W", "-f", "${Version}", "erlang-base"),
    }


def _first(path: str, key: str) -> str:
    """The value of the first line with this key in a file of the system's; empty when there is none."""
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return "0"


def _said(*command: str) -> str:
    """What a command prints; "unknown" when it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Write the page again from the figures that are kept in the directory given."""
    write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
