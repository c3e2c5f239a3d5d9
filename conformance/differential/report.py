"""What a run came to, as a table for people and as ``docs/conformance.md``."""

from collections.abc import Sequence
from pathlib import Path

from conformance.differential.compare import FAILURES, Result, Verdict, counts

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
HEAD = """# Conformance

For engineers who check compatibility. `python -m conformance.differential` runs the scenarios of
`conformance/scenarios` against {version} and leveret, and compares the replies frame by frame.
With `--accept` it also writes this page.

The column "expected" counts differences on purpose; [known differences](known-differences.md) explains
each and names its scenarios. Any other difference fails the tests. [Peers](peers.md) explains how scenarios
are recorded and compared, and lists the other comparisons.

"""


def rows(results: Sequence[Result]) -> list[tuple[str, int, int, int, int]]:
    """Area, scenarios, same, expected, different; the last row is the sum."""
    table = []
    for area, row in counts(results).items():
        different = sum(row[verdict] for verdict in FAILURES)
        table.append((area, sum(row.values()), row[Verdict.SAME], row[Verdict.EXPECTED], different))
    total = [sum(each[column] for each in table) for column in range(1, 5)]
    table.append(("all", total[0], total[1], total[2], total[3]))
    return table


def table(version: str, results: Sequence[Result]) -> str:
    """The table as text."""
    lines = [
        f"{'leveret beside ' + version:<28}{'scenarios':>10}{'same':>8}{'expected':>10}{'different':>11}"
    ]
    for area, *numbers in rows(results):
        lines.append(f"{area:<28}{numbers[0]:>10}{numbers[1]:>8}{numbers[2]:>10}{numbers[3]:>11}")
    return "\n".join(lines)


def render(version: str, results: Sequence[Result]) -> str:
    """The document."""
    lines = ["| area | scenarios | same | expected | different |", "|---|--:|--:|--:|--:|"]
    for area, *numbers in rows(results):
        shown = f"[{area}](../conformance/scenarios/{area}.py)" if area != "all" else "all"
        lines.append(" | ".join([f"| {shown}", *map(str, numbers)]) + " |")
    return HEAD.format(version=version.replace("rabbitmq-", "RabbitMQ ")) + "\n".join(lines) + "\n"


def document(version: str, results: Sequence[Result]) -> None:
    """Write the document."""
    DOCUMENT.write_text(render(version, results))
