"""``leveret top``: a live view of the busiest queues."""

import sys
import time
from typing import Any

import click

from router.cli.api import Api
from router.cli.manage.common import any_vhost_option, managed, rate, table, vhost_path
from router.cli.manage.status import lines, node_lines
from router.cli.table import Column, Object
from router.cli.terminal import Duration

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
    "--rows", type=click.IntRange(1, 500), metavar="N", help="Queues to show; as many as fit if not given."
)
@click.option("--interval", type=Duration(), default="2s", show_default=True, metavar="DURATION")
@click.option("--once", is_flag=True, help="Print one page and end.")
@any_vhost_option
@managed
def top(api: Api, *, sort: str, rows: int | None, interval: int, once: bool, vhost: str | None) -> None:
    """Watch queues and rates, the busiest first, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)

    def page() -> Any:
        shown = rows or max(console.height - 10, 5)
        return render(api.get("overview"), api.get("nodes"), busiest(api, vhost, sort, shown))

    if once:
        console.print(page())
        return
    try:
        with Live(page(), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(interval / 1000)
                live.update(page(), refresh=True)
    except KeyboardInterrupt:
        return


def busiest(api: Api, vhost: str | None, sort: str, rows: int) -> list[Object]:
    """The first queues in this order, largest first except for names."""
    found: list[Object] = api.get(
        *vhost_path("queues", vhost),
        page=1,
        page_size=rows,
        sort=SORT[sort],
        sort_reverse=str(sort != "name").lower(),
    )["items"]
    return found


def render(overview: Object, nodes: list[Object], queues: list[Object]) -> Any:
    """One page for rich."""
    from rich.console import Group
    from rich.text import Text

    heading = [*lines(overview), *(line for node in nodes for line in node_lines(node)), ""]
    parts = [Text(line, style="bold red" if line.startswith("ALARM") else "") for line in heading]
    return Group(*parts, table(queues, COLUMNS))
