"""``docs/performance.md``: the table of what was measured, the machine, and plots beside it.

Owns ``performance.json`` too, which holds every round's figures by workload: what is measured again takes its
place there, and the page is written from all of it.
"""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from conformance.bench.measures import Figures
from conformance.bench.workloads import OTHER, SECTIONS, WORKLOADS, Row
from leveret.router.bench.load import RAGGED, SAME, VARIED

MEGABYTE = 1 << 20
NAMES = ("leveret", "rabbitmq")
HEAD = """\
# Performance

For engineers who want to know how fast leveret is beside RabbitMQ, and where RabbitMQ is faster.
[Measure a broker](how-to/measure.md) describes the generator and the kinds of traffic. This page is written
by

```console
python -m conformance.bench --rounds {rounds} --seconds {seconds:g}
```

which starts both brokers on one machine, each with a data directory on the same disk, and measures every
workload in turn, A B A B, so that other work of the machine falls on both. The generator is that of
`leveret bench`: processes of their own, which compare what was received with what was sent; a run in which
anything was lost fails. `--only NAME` measures one row again. RabbitMQ runs with its plugin for STOMP over
WebSocket, except where its start and its memory are measured.

Figures are medians of the rounds; every round is in [performance.json](performance.json). A ratio is
leveret's figure over RabbitMQ's in the same round; its least, median and greatest are shown, and the goal is
for the median. Where less is better, the goal is an upper bound.
"""
SECTION_HEADS = {
    RAGGED: (
        "Throughput with messages that differ in all they carry",
        "What clients send: each message has its own ids, timestamp and headers, and lengths differ. Sizes\n"
        "are means.",
    ),
    OTHER: (
        "One at a time, latency, backlog, start and memory",
        "The messages differ here as well.",
    ),
    VARIED: (
        "Throughput with messages of one length",
        "Each message has its own ids, timestamp and header values; all are equally long.",
    ),
    SAME: (
        "Throughput with identical messages: an upper bound",
        "All messages are alike, byte for byte. No client sends that, and a broker can remember what it has\n"
        "decoded. Do not expect these figures from an application.",
    ),
}

BESIDES = 2  # load for each processor that the measuring itself leaves behind at most

BUSY = """
**The machine was busy with other work meanwhile** (a load of up to {most:.0f} on {count} processors). Both
brokers had to share it, so all figures are far below those of a quiet machine, and the ratios spread widely.
Measure again where it is quiet before relying on any of them.
"""


def ratios(ours: list[Figures], theirs: list[Figures], name: str) -> list[float]:
    """One side's figure over another's, round by round; empty if either has none."""
    pairs = zip(ours, theirs, strict=True)
    return [one[name] / other[name] for one, other in pairs if other.get(name) and name in one]


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
    for section in SECTIONS:
        lines += _section(section, measured)
    missing = [f"`{name}`" for name in WORKLOADS if name not in measured]
    if missing:
        lines.append(f"\nNot measured: {', '.join(missing)}.\n")
    lines += _missed(measured)
    lines.append(_about(measured, kept.get("machine", {})))
    drawn = plots.draw(docs, measured)
    lines += [f"\n## {title}\n\n![{title}]({path.name})\n" for title, path in drawn]
    (docs / "performance.md").write_text("".join(lines))


def _section(section: str, measured: dict[str, Any]) -> list[str]:
    """A heading and a table, if anything of it was measured."""
    others = sorted({side for each in measured.values() for side in each["figures"]} - {*NAMES})
    lines = []
    for name, each in measured.items():
        for row in WORKLOADS[name].rows:
            sides = each["figures"]
            if row.section == section and any(row.figure in found for found in sides["leveret"]):
                lines.append(_line(name, row, sides, others, each.get("part", 1.0)))
    if not lines:
        return []
    title, text = SECTION_HEADS[section]
    more = "".join(f" {other} | leveret / {other} |" for other in others)
    head = f"| workload | `--only` | leveret | RabbitMQ | ratio: least / median / greatest | goal | |{more}"
    return [f"\n## {title}\n\n{text}\n\n", f"{head}\n|{'---|' * (7 + 2 * len(others))}\n", *lines]


def _line(name: str, row: Row, sides: dict[str, list[Figures]], others: Sequence[str], part: float) -> str:
    ours = sides["leveret"]
    found = ratios(ours, _reference(sides), row.figure)
    goal = verdict = spread = ""
    if found:
        median = statistics.median(found)
        spread = f"{min(found):.2f} / **{median:.2f}** / {max(found):.2f}"
        if row.goal is not None:
            goal = f"{'≤' if row.less else '≥'} {row.goal:g}"
            verdict = "yes" if row.met(median) else "**no**"
    title = row.title if part == 1 else f"{row.title} (with {part:g} of the numbers)"
    cells = [title, f"`{name}`", _median(ours, row), _median(sides.get("rabbitmq", []), row), spread, goal]
    cells.append(verdict)
    for other in others:
        theirs = sides.get(other, [])
        cells.append(_median(theirs, row))
        more = ratios(ours, theirs, row.figure) if len(theirs) == len(ours) else []
        cells.append(f"{statistics.median(more):.2f}" if more else "")
    return f"| {' | '.join(cells)} |\n"


def _reference(sides: dict[str, list[Figures]]) -> list[Figures]:
    """RabbitMQ's figures; none for each round if it was not measured."""
    return sides.get("rabbitmq") or [{} for _ in sides["leveret"]]


def _median(figures: list[Figures], row: Row) -> str:
    """The median of a figure with its unit; a dash without any."""
    found = [each[row.figure] for each in figures if row.figure in each]
    return _shown(statistics.median(found), row.unit) if found else "-"


def _missed(measured: dict[str, Any]) -> list[str]:
    """What the profile shows of the rows that miss their goals."""
    titles: dict[str, list[str]] = {}  # by the reason
    for name, each in measured.items():
        for row in WORKLOADS[name].rows:
            found = ratios(each["figures"]["leveret"], _reference(each["figures"]), row.figure)
            if found and not row.met(median := statistics.median(found)):
                title = row.title if row.section in {RAGGED, OTHER} else f"{row.title} ({row.section})"
                shown = f"**{title}**: {median:.2f} of {row.goal:g}"
                titles.setdefault(row.note or "Not looked into.", []).append(shown)
    lines = [f"- {'; '.join(those)}. {why}\n" for why, those in titles.items()]
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
