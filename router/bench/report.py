"""Terminal output of a benchmark: a progress line during the run, then a table."""

import time
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


def table(load: Load, result: BenchResult, ceiling: Ceiling | None) -> Table:
    """Return the table of results of a run."""
    made = Table(show_header=False)
    made.add_row("published", f"{result.published:,.0f} msg/s")
    if load.window:
        made.add_row("confirmed", f"{result.confirmed:,.0f} msg/s")
    made.add_row("received", f"{result.received:,.0f} msg/s")
    made.add_row("in all", f"{result.sent_in_all:,} sent, {result.received_in_all:,} received, none lost")
    if result.latency is not None:
        shown = result.latency.percentiles
        made.add_row("latency, of", f"{result.latency.count:,} messages")
        for percentile in (50.0, 90.0, 99.0, 99.9, 100.0):
            name = "max" if percentile == 100 else f"p{percentile:g}"
            made.add_row(f"  {name}", f"{shown[percentile] / 1000:,.3f} ms")
    made.add_row("generator", f"{result.publishers_cpu:.0%} + {result.consumers_cpu:.0%} of a core")
    if ceiling is not None:
        made.add_row(
            "its ceiling",
            f"{ceiling.published:,.0f} published, {ceiling.received:,.0f} received a second by one each",
        )
    return made
