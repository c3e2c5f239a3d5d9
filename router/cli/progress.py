"""Progress bar on standard error for commands that handle many messages."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """Counts messages, and their bytes of the input."""

    def __init__(self, progress: Progress, verb: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total, messages=0, verb=verb, rate=0)
        self._messages = 0

    def advance(self, messages: int, size: int) -> None:
        """Count more ``messages``, which are ``size`` bytes of the input."""
        self._messages += messages
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = round(self._messages / elapsed) if elapsed else 0
        self._progress.update(self._task, advance=size, messages=self._messages, rate=rate)


@contextmanager
def progress_bar(verb: str, total: int | None) -> Iterator[Bar]:
    """Show a bar for the ``with`` block; ``total`` is the size of the input in bytes, None if unknown."""
    columns = (
        TextColumn("{task.fields[messages]} {task.fields[verb]}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, verb, total)
