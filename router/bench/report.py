"""Terminal output of a benchmark: a progress line during the run, then a table."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from leveret.router.bench.benchmark_run import BenchResult
from leveret.router.bench.load import Load
from leveret.router.bench.sink import Ceiling

REFRESH = 0.5  # seconds
SHORT = 0.2  # seconds that a measurement must last for its rates to be worth anything


class ProgressLine(AbstractContextManager["ProgressLine"]):
    """A line with the messages sent, confirmed and received a second."""

    def __init__(self, console: Console, seconds: float) -> None:
        # Without auto-refresh, which needs a thread: processes are forked while the line is shown.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._seconds = seconds
        self._last = (time.monotonic(), 0, 0, 0)

    def __enter__(self) -> "ProgressLine":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def watch(self, elapsed: float, sent: int, confirmed: int, received: int) -> None:
        """Update the line; see ``benchmark_run.ProgressCallback``."""
        now = time.monotonic()
        past = now - self._last[0]
        if past < REFRESH:
            return
        rates = [
            (count - before) / past
            for count, before in zip((sent, confirmed, received), self._last[1:], strict=True)
        ]
        self._last = (now, sent, confirmed, received)
        stage = "warming up" if elapsed < 0 else f"{elapsed:.0f} of {self._seconds:.0f} s"
        if elapsed > self._seconds:
            stage = "waiting for the rest"
        line = f"{stage}   sent {rates[0]:,.0f}/s"
        if confirmed:
            line += f"   confirmed {rates[1]:,.0f}/s"
        self._live.update(Text(f"{line}   received {rates[2]:,.0f}/s"), refresh=True)


def ratio(ours: BenchResult, theirs: BenchResult) -> float | None:
    """Return the ratio of the messages a second that two brokers deliver; None if the other delivers none."""
    return round(ours.received / theirs.received, 3) if theirs.received else None


def table(load: Load, results: Mapping[str, BenchResult], ceiling: Ceiling | None, why: str = "") -> Table:
    """Return the table of a run. ``results`` has those of each broker by its address.

    ``why`` is the reason if there are no latencies.
    """
    found = list(results.values())
    made = Table(show_header=len(found) > 1)
    for column in ("", *results):
        made.add_column(column)

    def add(name: str, text: Callable[[BenchResult], str]) -> None:
        made.add_row(name, *map(text, found))

    add("published", lambda each: f"{each.published:,.0f} msg/s")
    if load.window:
        add("confirmed", lambda each: f"{each.confirmed:,.0f} msg/s")
    add("received", lambda each: f"{each.received:,.0f} msg/s")
    if len(found) > 1:
        add("ratio", lambda each: "" if each is found[0] else f"{ratio(found[0], each) or math.nan:.2f}")
    add("in all", lambda each: f"{each.sent_in_all:,} sent, {each.received_in_all:,} received, none lost")
    if any(each.seconds < SHORT for each in found):
        add("measured", lambda each: f"{each.seconds:.3f} s: too short for a rate, use a larger --count")
    _add_latencies(made, found, why)
    add("generator", lambda each: f"{each.publishers_cpu:.0%} + {each.consumers_cpu:.0%} of a core")
    if ceiling is not None:
        made.add_row(
            "its ceiling",
            f"{ceiling.published:,.0f} published, {ceiling.received:,.0f} received a second by one each",
        )
    return made


def _add_latencies(made: Table, found: Sequence[BenchResult], why: str) -> None:
    """Add rows for the latencies, or one that says why there are none."""
    if not any(each.latency for each in found):
        if why:
            made.add_row("latency", why)
        return
    made.add_row(
        "latency, of", *(f"{each.latency.count:,} messages" if each.latency else "-" for each in found)
    )
    for percentile in (50.0, 90.0, 99.0, 99.9, 100.0):
        name = "max" if percentile == 100 else f"p{percentile:g}"
        shown = (each.latency.percentiles[percentile] if each.latency else None for each in found)
        made.add_row(f"  {name}", *("-" if us is None else f"{us / 1000:,.3f} ms" for us in shown))
