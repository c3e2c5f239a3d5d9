"""``leveret top``: a live view of the busiest queues."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from leveret.router.cli.api import Api, NotReachable
from leveret.router.cli.failure import Failure
from leveret.router.cli.manage.common import any_vhost_option, managed, rate, table, vhost_path
from leveret.router.cli.manage.status import lines, node_lines
from leveret.router.cli.table import Column, Object
from leveret.router.cli.terminal import Duration

if TYPE_CHECKING:
    from rich.console import Console

ANSWER_TIMEOUT = 5.0  # seconds
SORT = {
    "ready": "messages_ready",
    "unacked": "messages_unacknowledged",
    "in": rate("publish"),
    "out": rate("deliver_get"),
    "memory": "memory",
    "name": "name",
}
COLUMNS = (
    Column("vhost", "vhost", rank=3),
    Column("queue", "name", named=True),
    Column("state", "state", rank=4),
    Column("ready", "messages_ready", number=True),
    Column("unacked", "messages_unacknowledged", number=True),
    Column("consumers", "consumers", number=True, rank=1),
    Column("in/s", rate("publish"), number=True),
    Column("out/s", rate("deliver_get"), number=True),
    Column("ack/s", rate("ack"), number=True, rank=2),
    Column("redelivered/s", rate("redeliver"), number=True, rank=2),
)


@click.command()
@click.option("--sort", type=click.Choice(tuple(SORT)), default="ready", show_default=True)
@click.option(
    "--rows",
    type=click.IntRange(1, 500),
    metavar="N",
    help="Number of queues to show; by default as many as fit.",
)
@click.option("--interval", type=Duration(), default="2s", show_default=True, metavar="DURATION")
@click.option("--once", is_flag=True, help="Print one page and exit.")
@any_vhost_option
@managed
def top(api: Api, *, sort: str, rows: int | None, interval: int, once: bool, vhost: str | None) -> None:
    """Watch queues and rates, the busiest first, until q or Ctrl-C.

    When the broker stops or does not answer, the view waits until it is back.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    api.timeout = ANSWER_TIMEOUT

    def page() -> Any:
        shown = rows or max(console.height - 10, 5)
        return render(api.get("overview"), api.get("nodes"), busiest(api, vhost, sort, shown))

    if once:
        console.print(page())
        return
    with suppress(KeyboardInterrupt), keys() as pressed:
        watch(page, console, lambda: pressed(interval / 1000) == "q")


def watch(page: Callable[[], Any], console: "Console", finished: Callable[[], bool]) -> None:
    """Show a new page whenever ``finished`` returns False; the first page must succeed.

    After a failure the last page stays, with the failure above it, until the next success.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    last = page()
    with Live(last, console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while not finished():
            try:
                shown = last = page()
            except Failure as error:
                what = "not reachable, trying again: " if isinstance(error, NotReachable) else ""
                shown = Group(Text(what + error.message.partition("\n")[0], style="bold red"), last)
            live.update(shown, refresh=True)


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Provide a function that waits up to some seconds for a key and returns it, "" for none.

    If standard input is not a terminal there are no keys.
    """
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield partial(_read_key, descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def _read_key(descriptor: int, seconds: float) -> str:
    ready, _, _ = select.select([descriptor], [], [], seconds)
    return os.read(descriptor, 1).decode("latin-1") if ready else ""


def busiest(api: Api, vhost: str | None, sort: str, rows: int) -> list[Object]:
    """Return the first ``rows`` queues by ``sort``, largest first except for names."""
    found: list[Object] = api.get(
        *vhost_path("queues", vhost),
        page=1,
        page_size=rows,
        sort=SORT[sort],
        sort_reverse=str(sort != "name").lower(),
    )["items"]
    return found


def render(overview: Object, nodes: list[Object], queues: list[Object]) -> Any:
    """Return one page for rich."""
    from rich.console import Group
    from rich.text import Text

    heading = [*lines(overview), *(line for node in nodes for line in node_lines(node)), ""]
    parts = [Text(line, style="bold red" if line.startswith("ALARM") else "") for line in heading]
    return Group(*parts, table(queues, COLUMNS))
