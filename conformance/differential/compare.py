"""Which scenarios differ, and which of them may: ``docs/known-differences.md`` is read for the latter.

In that document a heading of the third level begins a difference, and names of scenarios in it stand in
backquotes, with a ``*`` for any characters. What leveret answers there is kept too, so that a known
difference stays the one that is known.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "known-differences.md"
NAME = re.compile(r"`([a-z_]+/[^`\n]+)`")


class Verdict(Enum):
    """What a comparison came to. The last four are failures."""

    SAME = "same"
    EXPECTED = "expected"  # differs as the document and leveret's transcript say
    DIFFERENT = "different"
    CHANGED = "changed"  # listed as a difference, but leveret answers otherwise than recorded
    VANISHED = "vanished"  # listed as a difference, and is none
    MISSING = "missing"  # there is nothing to compare with


FAILURES = (Verdict.DIFFERENT, Verdict.CHANGED, Verdict.VANISHED, Verdict.MISSING)


@dataclass(frozen=True)
class Result:
    """One scenario's verdict, and the difference as lines."""

    name: str
    verdict: Verdict
    diff: tuple[str, ...] = ()

    @property
    def area(self) -> str:
        return self.name.split("/")[0]


class Known:
    """The document of known differences."""

    def __init__(self, text: str) -> None:
        self.patterns: list[str] = [
            pattern for section in text.split("\n### ")[1:] for pattern in NAME.findall(section)
        ]

    @classmethod
    def read(cls) -> "Known":
        return cls(DOCUMENT.read_text())

    def __contains__(self, name: str) -> bool:
        return any(matches(pattern, name) for pattern in self.patterns)

    def unused(self, names: Sequence[str]) -> list[str]:
        """The patterns that mean none of these scenarios."""
        return [each for each in self.patterns if not any(matches(each, name) for name in names)]


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a scenario; only ``*`` is special, brackets name cases."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def compare(
    name: str,
    reference: Sequence[str] | None,
    ours: Sequence[str],
    recorded: Sequence[str] | None,
    known: bool,
) -> Result:
    """Judge one scenario; ``recorded`` is what leveret answered when the difference was accepted."""
    if reference is None:
        return Result(name, Verdict.MISSING)
    if list(reference) == list(ours):
        return Result(name, Verdict.VANISHED if known else Verdict.SAME)
    if not known:
        return Result(name, Verdict.DIFFERENT, diff(reference, ours))
    if recorded is not None and list(recorded) == list(ours):
        return Result(name, Verdict.EXPECTED, diff(reference, ours))
    return Result(name, Verdict.CHANGED, diff(recorded or reference, ours))


def diff(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """The whole of both, lines of only one of them marked."""
    lines = difflib.unified_diff(before, after, n=1000, lineterm="")
    return tuple(line for line in lines if not line.startswith(("---", "+++", "@@")))


def counts(results: Sequence[Result]) -> Mapping[str, Mapping[Verdict, int]]:
    """How many of each verdict there are by area."""
    table: dict[str, dict[Verdict, int]] = {}
    for each in results:
        row = table.setdefault(each.area, dict.fromkeys(Verdict, 0))
        row[each.verdict] += 1
    return table
