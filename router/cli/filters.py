"""Filtering, sorting and column selection for ``--filter``, ``--sort`` and ``--columns`` of listings.

A filter is a name pattern, or a comparison of a column such as ``messages>0``. All filters of a command
have to match.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.table import Column, Object, at, shown

Filter = Callable[[Object], bool]
_COMPARISON = re.compile(r"\s*([A-Za-z][\w./ -]*?)\s*(>=|<=|!=|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}


def find_column(name: str, columns: Sequence[Column]) -> Column:
    """Return the column with this heading, or else a column for the field at this path."""
    wanted = name.strip().lower()
    for column in columns:
        if column.heading in (wanted, wanted.replace("-", " ")):
            return column
    return Column(name.strip(), name.strip())


def check_known(column: Column, columns: Sequence[Column], rows: Sequence[Object]) -> None:
    """Raise WrongUsage for a column that is neither one of ``columns`` nor a field of any of the objects."""
    if not rows or column in columns or callable(column.value):
        return
    first = column.value.partition(".")[0]
    if not any(first in row for row in rows):
        known = ", ".join(each.heading.replace(" ", "-") for each in columns)
        raise WrongUsage(
            f"there is no column {column.heading!r}; known are {known}, "
            "and the fields that --format json shows"
        )


def parse_filter(text: str, columns: Sequence[Column]) -> tuple[Filter, Column | None]:
    """Return the predicate of a filter, and the column that it compares, if any. Raises WrongUsage."""
    found = _COMPARISON.fullmatch(text)
    if found is None:
        return _name_pattern(text.strip(), columns), None
    column, operator, value = find_column(found[1], columns), found[2], found[3]
    if operator == "~":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise WrongUsage(f"--filter {text!r}: {value!r} is not a regular expression: {error}") from None
        return lambda row: pattern.search(column.of(row)) is not None, column
    if operator in ("=", "!="):
        return lambda row: _equals(column.at(row), value) == (operator == "="), column
    bound = _number(value)
    if bound is None:
        raise WrongUsage(f"--filter {text!r}: {operator} needs a number, and {value!r} is not one")
    compare = _ORDERS[operator]

    def matches(row: Object) -> bool:
        cell = column.at(row)
        return isinstance(cell, int | float) and compare(cell, bound)

    return matches, column


def _name_pattern(text: str, columns: Sequence[Column]) -> Filter:
    """Match names against a pattern with ``*`` and ``?``; text without these matches as part of a name."""
    named = [column for column in columns if column.named]
    if not any(char in text for char in "*?["):
        return lambda row: any(text in column.of(row) for column in named)
    return lambda row: any(fnmatchcase(column.of(row), text) for column in named)


def _equals(cell: Any, value: str) -> bool:
    if isinstance(cell, bool):
        return value.lower() in (("yes", "true") if cell else ("no", "false"))
    if isinstance(cell, int | float):
        return _number(value) == cell
    return shown(cell) == value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def sorted_rows(rows: Sequence[Object], column: Column, *, descending: bool) -> list[Object]:
    """Return the objects in the order of a column. Those without a value come last."""
    present = [row for row in rows if column.at(row) is not None]
    absent = [row for row in rows if column.at(row) is None]
    return sorted(present, key=lambda row: _order(column.at(row)), reverse=descending) + absent


def _order(value: Any) -> tuple[int, Any]:
    return (0, value) if isinstance(value, int | float) else (1, shown(value))


def narrowed(row: Object, columns: Sequence[Column]) -> Object:
    """Return an object with these columns only: by their paths, or by their headings if they are computed."""
    return {
        column.heading if callable(column.value) else column.value: (
            column.at(row) if callable(column.value) else at(row, column.value)
        )
        for column in columns
    }
