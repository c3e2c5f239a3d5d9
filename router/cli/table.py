"""Layout of tables for terminals and pipes: columns, cells, and fitting to a width.

If a table is too wide, columns are left out, the highest ``rank`` first, and then cells are cut, the widest
first, and end in an ellipsis. Cells are never wrapped. Without a width nothing is left out or cut.
"""

import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from shutil import get_terminal_size
from typing import Any, NamedTuple

from leveret.protocol.json_text import dump_json
from leveret.router.cli.terminal import printable

Object = Mapping[str, Any]
GAP = "  "
ELLIPSIS = "…"
EASY_NAME, EASY = 48, 24  # columns are left out until cells fit up to these widths: names, others
LEAST = 8  # cells are not cut below this width
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


class Column(NamedTuple):
    """A column: its heading, and its value as a path of field names or a function of the object.

    Columns of ``rank`` 0 are always shown; of the others the highest rank is left out first. Name patterns
    search the columns that are ``named``.
    """

    heading: str
    value: str | Callable[[Object], Any]
    number: bool = False
    rank: int = 0
    named: bool = False

    def at(self, row: Object) -> Any:
        """Return the column's value of an object."""
        return self.value(row) if callable(self.value) else at(row, self.value)

    def of(self, row: Object) -> str:
        """Return the column's cell for an object, as text."""
        return shown(self.at(row))


class Layout(NamedTuple):
    """A table as lines of text, the heading first, and the headings of the columns that were left out."""

    lines: list[str]
    hidden: list[str]


def at(row: Object, path: str) -> Any:
    """Return the value at a path such as ``message_stats.publish_details.rate``, None if it is missing."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def shown(value: Any) -> str:
    """Return a value as text for a terminal."""
    match value:
        case str():
            return printable(value)
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case float():
            return f"{value:.1f}"
    return printable(dump_json(value)) if value else ""


def lay_out(rows: Iterable[Object], columns: Sequence[Column], width: int | None) -> Layout:
    """Return objects as a table, at most ``width`` wide if possible; None: no limit."""
    cells = [[column.of(row) for row in rows] for column in columns] if columns else []
    needs = [
        max(len(column.heading), max(map(text_width, texts), default=0))
        for column, texts in zip(columns, cells, strict=True)
    ]
    kept = list(range(len(columns)))
    if width is not None:
        _leave_out(kept, columns, cells, needs, width)
        _shrink(kept, columns, needs, width)
    lines = []
    for texts in zip(*([columns[i].heading, *cells[i]] for i in kept), strict=True):
        line = GAP.join(
            fitted(text, needs[i], right=columns[i].number) for i, text in zip(kept, texts, strict=True)
        )
        lines.append(line.rstrip())
    return Layout(lines, [column.heading for i, column in enumerate(columns) if i not in kept])


def _leave_out(
    kept: list[int], columns: Sequence[Column], cells: list[list[str]], needs: list[int], width: int
) -> None:
    """Remove columns from ``kept`` until the rest fits: empty ones first, then by rank."""

    limits = [EASY_NAME if column.named else EASY for column in columns]

    def too_wide() -> bool:
        return _total(kept, list(map(min, needs, limits))) > width

    optional = [i for i in kept if columns[i].rank]
    empty = [i for i in optional if not any(cells[i])]
    for i in [*empty, *sorted(optional, key=lambda i: -columns[i].rank)]:
        if i in kept and too_wide():
            kept.remove(i)


def _shrink(kept: list[int], columns: Sequence[Column], needs: list[int], width: int) -> None:
    """Reduce the widths (``needs``) of the widest text columns until the table fits."""
    texts = [i for i in kept if not columns[i].number]
    while (excess := _total(kept, needs) - width) > 0:
        widest = max(texts, key=needs.__getitem__, default=None)
        if widest is None or needs[widest] <= LEAST:
            return
        others = [needs[i] for i in texts if needs[i] < needs[widest]]
        needs[widest] = max(needs[widest] - excess, min(max(others, default=0), needs[widest] - 1), LEAST)


def _total(kept: Sequence[int], needs: Sequence[int]) -> int:
    return sum(needs[i] for i in kept) + len(GAP) * (len(kept) - 1)


def text_width(text: str) -> int:
    """Return the width of a text on a terminal, in character cells."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """Pad a text to ``width``, or cut it with an ellipsis."""
    size = text_width(text)
    if size > width:
        taken = size = 0
        for char in text:
            if size + _char_width(char) > width - 1:
                break
            size += _char_width(char)
            taken += 1
        text, size = text[:taken] + ELLIPSIS, size + 1
    padding = " " * (width - size)
    return padding + text if right else text + padding


def as_tsv(rows: Iterable[Object], columns: Sequence[Column]) -> list[str]:
    """Return objects as tab-separated lines; cells hold no tab or line break."""
    heading = "\t".join(column.heading for column in columns)
    return [heading, *("\t".join(column.of(row) for column in columns) for row in rows)]


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is; None if it is a file or a pipe."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


class RichTable:
    """A table as an object that rich can draw."""

    def __init__(self, rows: Iterable[Object], columns: Sequence[Column]) -> None:
        self._rows = list(rows)
        self._columns = columns

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """Yield the lines, as wide as the console; rich calls this."""
        from rich.text import Text

        lines = lay_out(self._rows, self._columns, options.max_width).lines
        for number, line in enumerate(lines):
            yield Text(line, style="" if number else "bold", no_wrap=True, overflow="ellipsis")
