"""The plots of ``docs/performance.md``: what cannot be read from one figure, as SVG."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"leveret": "#1b6ca8", "rabbitmq": "#e8743b"}
LABELS = {"leveret": "leveret", "rabbitmq": "RabbitMQ"}
PERCENTILES = (50, 75, 90, 95, 99, 99.9, 99.99)
MEGABYTE = 1 << 20


def draw(docs: Path, measured: dict[str, Any]) -> list[tuple[str, Path]]:
    """Draw what there are figures for; the title and the file of each plot."""
    made = []
    for name, title, file, plot in (
        ("sizes", "Throughput against size", "throughput", throughput),
        ("rate", "Latency at 2,000 messages a second", "latency", latency),
        ("beside", "Latency of a light consumer beside a flood", "latency-flood", latency),
        ("backlog", "Memory against backlog", "memory", memory),
    ):
        if name in measured:
            path = docs / f"performance-{file}.svg"
            _save(path, title, plot, measured[name])
            made.append((title, path))
    return made


def _save(path: Path, title: str, plot: Callable[[Axes, dict[str, Any]], None], kept: dict[str, Any]) -> None:
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "leveret", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        plot(axes, kept)
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.patch.set_facecolor("white")
        figure.savefig(path, format="svg", metadata={"Date": None})


def throughput(axes: Axes, kept: dict[str, Any]) -> None:
    """Messages a second by the size of a body, with the spread of the rounds."""
    for side, rounds in kept["figures"].items():
        sizes = sorted(map(int, rounds[0]))
        found = [[each[str(size)] for each in rounds] for size in sizes]
        axes.plot(
            sizes,
            [statistics.median(each) for each in found],
            "o-",
            color=COLOURS.get(side),
            label=LABELS.get(side, side),
        )
        axes.fill_between(sizes, [min(each) for each in found], [max(each) for each in found],
                          color=COLOURS.get(side), alpha=0.15)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("bytes of a body")
    axes.set_ylabel("messages a second")


def latency(axes: Axes, kept: dict[str, Any]) -> None:
    """Milliseconds by percentile."""
    for side, rounds in kept["figures"].items():
        found = [statistics.median(each[f"p{at:g}"] for each in rounds) for at in PERCENTILES]
        axes.plot(range(len(found)), found, "o-", color=COLOURS.get(side), label=LABELS.get(side, side))
    axes.set_xticks(range(len(PERCENTILES)), [f"p{at:g}" for at in PERCENTILES])
    axes.set_yscale("log")
    axes.set_ylabel("ms")


def memory(axes: Axes, kept: dict[str, Any]) -> None:
    """Resident megabytes by messages that are confirmed and not consumed."""
    for side, samples in kept["curve"].items():
        axes.plot(
            [count / 1000 for count, _ in samples],
            [size / MEGABYTE for _, size in samples],
            color=COLOURS.get(side),
            label=LABELS.get(side, side),
        )
    axes.set_xlabel("thousand messages of 1 KiB in the queue")
    axes.set_ylabel("resident MB")
    axes.set_ylim(bottom=0)
