"""Lists: their common options, and their output as a table, TSV or JSON, once or repeatedly (``--watch``)."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from shutil import get_terminal_size
from typing import Any

import click

from leveret.protocol.json_text import dump_json
from leveret.router.cli.filters import check_known, find_column, narrowed, parse_filter, sorted_rows
from leveret.router.cli.formats import format_option
from leveret.router.cli.table import BOLD, PLAIN, Column, Object, as_tsv, fitted, lay_out, terminal_width
from leveret.router.cli.terminal import Duration

FORMATS = ("table", "tsv", "json")
# Switch to the terminal's alternate screen and hide the cursor, and back.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as its options describe it; ``show`` prints it. ``interval`` is in ms."""

    columns: Sequence[Column]
    filters: tuple[str, ...] = ()
    sort: str | None = None
    chosen: str | None = None
    form: str = "table"
    watch: bool = False
    interval: int = 2000

    def show(self, fetch: Callable[[], Sequence[Object]]) -> None:
        """Print what ``fetch`` returns; with ``--watch`` until Ctrl-C. Raises Failure and WrongUsage."""
        if not self.watch:
            lines, hidden = self._lines(fetch(), terminal_width())
            self._write(lines)
            if hidden:
                print(
                    f"(not shown for lack of room: {', '.join(hidden)}; select with --columns)",
                    file=sys.stderr,
                )
            return
        screen = sys.stdout.isatty() and self.form == "table"
        try:
            if screen:
                self._write_raw(ENTER)
            while True:
                if screen:
                    self._redraw(fetch())
                else:
                    self._write([*self._lines(fetch(), None)[0], ""])
                time.sleep(self.interval / 1000)
        except KeyboardInterrupt:
            return
        finally:
            if screen:
                self._write_raw(LEAVE)

    def _lines(self, found: Sequence[Object], width: int | None) -> tuple[list[str], list[str]]:
        """Return the listing as lines, and the headings of columns for which there is no room."""
        rows, columns = self._select(found)
        if self.form == "json":
            if self.chosen is not None:
                rows = [narrowed(row, columns) for row in rows]
            return [dump_json(rows, indent=2)], []
        if self.form == "tsv":
            return as_tsv(rows, columns), []
        layout = lay_out(rows, columns, width)
        if width is not None:
            layout.lines[0] = layout.lines[0] if "NO_COLOR" in os.environ else BOLD + layout.lines[0] + PLAIN
        return layout.lines, layout.hidden

    def _select(self, rows: Sequence[Object]) -> tuple[Sequence[Object], Sequence[Column]]:
        """Return the objects that match all filters, sorted, and the columns to show."""
        columns = self.columns
        if self.chosen is not None:
            columns = [find_column(name, columns) for name in self.chosen.split(",") if name.strip()]
        used = list(columns)
        remaining = rows
        for text in self.filters:
            matches, column = parse_filter(text, self.columns)
            remaining = [row for row in remaining if matches(row)]
            used += [column] if column is not None else []
        if self.sort is not None:
            column = find_column(self.sort.removeprefix("-"), self.columns)
            remaining = sorted_rows(remaining, column, descending=self.sort.startswith("-"))
            used.append(column)
        for column in used:
            check_known(column, self.columns, rows)
        return remaining, columns

    def _redraw(self, rows: Sequence[Object]) -> None:
        """Overwrite the screen without erasing it first, which avoids flicker."""
        size = get_terminal_size()
        heading = f"{time.strftime('%H:%M:%S')}, every {self.interval / 1000:g} s; Ctrl-C to stop"
        lines = [fitted(heading, size.columns).rstrip(), *self._lines(rows, size.columns)[0]]
        if len(lines) > size.lines:
            lines = [*lines[: size.lines - 1], f"… {len(lines) - size.lines + 1} more"]
        self._write_raw(HOME + "\r\n".join(line + TO_LINE_END for line in lines) + TO_SCREEN_END)

    @staticmethod
    def _write(lines: Sequence[str]) -> None:
        """Print lines, with bytes that are not UTF-8 as escapes."""
        sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()

    @staticmethod
    def _write_raw(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def list_options(columns: Sequence[Column]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of a listing; the command gets a ``Listing`` as ``listing``."""
    names = ", ".join(column.heading.replace(" ", "-") for column in columns)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(
            *args: Any, filters: tuple[str, ...], sort: str | None, chosen: str | None, form: str,
            watch: bool, interval: int, **kwargs: Any,
        ) -> None:  # fmt: skip
            for text in filters:
                parse_filter(text, columns)  # refuse a bad filter before the first request
            listing = Listing(columns, filters, sort, chosen, form, watch, interval)
            command(*args, listing=listing, **kwargs)

        made: Callable[..., None] = run
        for option in (
            format_option(FORMATS, "A table, cells with tabs between, or all fields as JSON."),
            click.option(
                "--interval", type=Duration(), default="2s", show_default=True, metavar="DURATION",
                help="The time between two lists with --watch.",
            ),
            click.option("--watch", is_flag=True, help="Show the list again and again, until Ctrl-C."),
            click.option(
                "--columns", "chosen", metavar="NAME,NAME",
                help=f"The columns to show, of {names}; or any field that --format json shows.",
            ),
            click.option(
                "--sort", metavar="COLUMN", help="Order by this column; -COLUMN: the largest first."
            ),
            click.option(
                "--filter", "filters", metavar="FILTER", multiple=True,
                help="Part of a name, a name with *, or COLUMN>N, COLUMN=TEXT, COLUMN~REGEX. Repeatable.",
            ),
        ):  # fmt: skip
            made = option(made)
        return made

    return decorate
