"""``python -m conformance.bench.readme``: print README's sentences about speed from the figures kept.

They are for the list at the top of README. Throughput is that of messages that differ, as clients send them.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

from conformance.bench import page
from conformance.bench.__main__ import ROOT
from leveret.router.bench.load import RAGGED, SAME

MEGABYTE = 1 << 20
TEXT = """\
- **Fast.** {transient:,.0f} messages a second from one publisher to one consumer, {transient_ratio:.1f} times as many as RabbitMQ beside it, and
  {durable:,.0f} a second if they are persistent, confirmed and acknowledged one by one, {durable_ratio:.1f} times as many. The messages differ, as those of
  clients do; with identical ones it is {same:,.0f}. [Performance](docs/performance.md) has all workloads, also those where RabbitMQ is faster.
- **Small.** {start:,.0f} ms from the start to the first channel (RabbitMQ: {start_theirs:,.0f} ms), {idle:.0f} MB of memory when idle ({idle_theirs:.0f} MB), and {backlog:.0f} MB with a
  backlog of 500,000 persistent messages of 1 KiB ({backlog_theirs:,.0f} MB).
- **Selective.** `x-selector` bindings take the messages whose headers satisfy a condition, on any type of exchange. With 100,000
  topic bindings leveret routes {topic:,.0f} messages a second, {topic_ratio:.1f} times as many as RabbitMQ.

Measured on {date} on a machine with two cores (AMD EPYC, Linux 6.18, Python 3.11) with `python -m conformance.bench --rounds {rounds} --seconds {seconds:g}`.
"""  # noqa: E501 - README's lines are longer


def sentences(kept: dict[str, Any]) -> str:
    """Return the sentences. Raises KeyError for a workload that was not measured."""

    def median(workload: str, figure: str, side: str = "leveret") -> float:
        return statistics.median(each[figure] for each in kept[workload]["figures"][side])

    def ratio(workload: str, figure: str) -> float:
        figures = kept[workload]["figures"]
        return statistics.median(page.ratios(figures["leveret"], figures["rabbitmq"], figure))

    return TEXT.format(
        transient=median("transient", RAGGED),
        transient_ratio=ratio("transient", RAGGED),
        durable=median("durable", RAGGED),
        durable_ratio=ratio("durable", RAGGED),
        same=median("transient", SAME),
        start=median("fresh", "start"),
        start_theirs=median("fresh", "start", "rabbitmq"),
        idle=median("fresh", "idle") / MEGABYTE,
        idle_theirs=median("fresh", "idle", "rabbitmq") / MEGABYTE,
        backlog=median("backlog", "memory") / MEGABYTE,
        backlog_theirs=median("backlog", "memory", "rabbitmq") / MEGABYTE,
        topic=median("topic-100k", RAGGED),
        topic_ratio=ratio("topic-100k", RAGGED),
        date=kept["transient"]["began"][:10],
        rounds=len(kept["transient"]["figures"]["leveret"]),
        seconds=kept["transient"]["seconds"],
    )


def main() -> int:
    """Print the sentences from docs/performance.json, or from that of another directory."""
    docs = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    try:
        print(sentences(page.load(docs)), end="")
    except KeyError as error:
        print(f"{docs / 'performance.json'} has no figures for {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
