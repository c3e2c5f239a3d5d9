"""``leveret outbox``: create, inspect and remove a transactional outbox in a PostgreSQL database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from leveret.router.cli.failure import Failure, WrongUsage

if TYPE_CHECKING:
    from leveret.router.transactional_outbox.connection import Connection
    from leveret.router.transactional_outbox.maintenance import OutboxReport

URL = click.argument("url", metavar="URL")


@click.group()
def outbox() -> None:
    """Create and inspect a transactional outbox: a table of PostgreSQL whose rows a broker publishes.

    URL is that of the database, such as postgresql://user@host/shop. A broker publishes the rows of the
    databases in its setting outbox.databases; see docs/outbox.md.
    """


@outbox.command()
@click.argument("url", metavar="[URL]", required=False)
@click.option("--print", "printed", is_flag=True, help="Print the SQL that creates the outbox.")
def install(url: str | None, printed: bool) -> None:
    """Create the table leveret_outbox, or upgrade it."""
    from leveret.router.transactional_outbox.schema import SCRIPTS, VERSION

    if printed:
        click.echo("\n".join(SCRIPTS), nl=False)
        return
    if url is None:
        raise WrongUsage("name the database: leveret outbox install postgresql://user@host/database")
    with connected(url) as connection:
        from leveret.router.transactional_outbox.maintenance import install as create

        before = create(connection)
    if before is None:
        click.echo("created the table leveret_outbox and the trigger leveret_outbox_notify")
    elif before < VERSION:
        click.echo(f"upgraded the table leveret_outbox from version {before} to {VERSION}")
    else:
        click.echo(f"the table leveret_outbox is up to date (version {VERSION})")


@outbox.command()
@URL
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(url: str, as_json: bool) -> None:
    """Count waiting rows, and list failed ones with their errors.

    Also shown is the address of the broker that publishes.

    Status 0: all rows are published or wait. 1: rows have failed.
    """
    from leveret.router.transactional_outbox.maintenance import report

    with connected(url) as connection:
        found = report(connection)
    if as_json:
        from leveret.protocol.json_text import dump_json

        failures = [
            {
                **each._asdict(),
                "failed_at": each.failed_at.isoformat(),
                "retry_at": each.retry_at and each.retry_at.isoformat(),
            }
            for each in found.failures
        ]
        click.echo(dump_json({**found._asdict(), "failures": failures}))
    else:
        _print(found)
    if found.failed:
        raise click.exceptions.Exit(1)


def _print(found: "OutboxReport") -> None:
    """Print a report for people."""
    from leveret.router.cli.table import Column, lay_out, terminal_width
    from leveret.router.cli.terminal import counted

    oldest = "" if found.oldest is None else f", the oldest for {found.oldest:.1f} s"
    click.echo(f"waiting    {counted(found.waiting, 'row')}{oldest}")
    click.echo(f"failed     {counted(found.failed, 'row')}")
    click.echo(f"publisher  {found.publisher or 'no broker is connected'}")
    if not found.notifies:
        click.echo("notify     off: a broker finds rows when it polls (outbox.poll_interval)")
    if found.failures:
        columns = [
            Column("ID", "id", number=True),
            Column("VIRTUAL HOST", "virtual_host", rank=2),
            Column("EXCHANGE", "exchange", rank=1),
            Column("ROUTING KEY", "routing_key", rank=1),
            Column("ATTEMPTS", "attempts", number=True, rank=2),
            Column("ERROR", "error"),
        ]
        rows = [each._asdict() for each in found.failures]
        click.echo()
        click.echo("\n".join(lay_out(rows, columns, terminal_width()).lines))
        if found.failed > len(rows):
            click.echo(f"... and {found.failed - len(rows)} more")
        click.echo("\n'leveret outbox retry' publishes them again", err=True)


@outbox.command()
@URL
@click.option("--id", "ids", metavar="ID", type=int, multiple=True, help="A failed row; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All failed rows.")
def retry(url: str, ids: tuple[int, ...], everything: bool) -> None:
    """Publish failed rows again, after their cause is removed."""
    from leveret.router.cli.terminal import counted
    from leveret.router.transactional_outbox.maintenance import retry as let_wait

    if bool(ids) is everything:
        raise WrongUsage("name the rows with --id, or use --all")
    with connected(url) as connection:
        count = let_wait(connection, None if everything else list(ids))
    click.echo(f"{counted(count, 'row')} will be published again")
    if ids and count < len(set(ids)):
        raise Failure("the other rows do not exist or have not failed")


@outbox.command()
@URL
def uninstall(url: str) -> None:
    """Remove the table leveret_outbox, which must be empty."""
    from leveret.router.transactional_outbox.maintenance import uninstall as remove

    with connected(url) as connection:
        remove(connection)
    click.echo("removed the table leveret_outbox")


@contextmanager
def connected(url: str) -> Iterator["Connection"]:
    """Connect to the database of an outbox. Raises Failure for all errors of the database."""
    try:
        from leveret.router.transactional_outbox.connection import OutboxError, connect
    except ModuleNotFoundError:
        raise Failure("psycopg is not installed: pip install 'leveret[postgresql]'") from None
    try:
        connection = connect(url, "leveret outbox command")
        try:
            yield connection
        finally:
            connection.close()
    except OutboxError as error:
        raise Failure(str(error)) from None
