"""Parsing and formatting for the terminal: durations, text without control sequences, plural forms."""

import re

import click

UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)")
LONGEST = 365 * UNITS["d"]


class Duration(click.ParamType):  # type: ignore[type-arg]  # click before 8.3 has no type there
    """A duration such as ``500ms``, ``30s`` or ``5m``, in ms."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds; click calls this."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_duration(text: str) -> int:
    """Parse a duration to ms. Raises ValueError."""
    found = DURATION.fullmatch(text.strip())
    length = round(float(found[1]) * UNITS[found[2]]) if found is not None else LONGEST + 1
    if length > LONGEST:
        raise ValueError(f"{text!r} is not a duration, a number with ms, s, m, h or d, such as 500ms or 5m")
    return length


def shown_duration(ms: int) -> str:
    """Format a duration in the largest unit that gives a whole number."""
    unit = max((name for name, size in UNITS.items() if ms % size == 0), key=UNITS.__getitem__)
    return f"{ms // UNITS[unit]}{unit}"


def printable(text: str) -> str:
    """Make a broker's text safe for a terminal: escape control sequences and bytes that are not UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def counted(number: int, what: str) -> str:
    """Format a number with a noun: ``1 message``, ``2 messages``."""
    return f"{number} {what}{'' if number == 1 else 's'}"
