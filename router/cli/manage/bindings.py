"""``leveret binding``."""

from typing import Any

import click

from router.cli.api import Api, NotThere
from router.cli.failure import Failure
from router.cli.manage.common import (
    Column,
    any_vhost_option,
    argument_option,
    format_option,
    listed,
    managed,
    parse_arguments,
    show_list,
    vhost_option,
    vhost_path,
)

COLUMNS = (
    Column("vhost", "vhost"),
    Column("source", lambda row: row["source"] or "(default)"),
    Column("destination", "destination"),
    Column("kind", "destination_type"),
    Column("key", "routing_key"),
    Column("arguments", "arguments"),
)

to_option = click.option(
    "--to", "kind", type=click.Choice(("queue", "exchange")), default="queue", show_default=True,
    help="What the destination is.",
)  # fmt: skip


@click.group()
def binding() -> None:
    """Show and change bindings."""


@binding.command("list")
@click.option("--source", metavar="EXCHANGE", help="From this exchange alone.")
@click.option("--destination", metavar="NAME", help="To this queue or exchange alone.")
@any_vhost_option
@format_option
@managed
def list_bindings(
    api: Api, source: str | None, destination: str | None, vhost: str | None, form: str
) -> None:
    """List bindings."""
    rows = [
        row
        for row in listed(api, *vhost_path("bindings", vhost))
        if source in (None, row["source"]) and destination in (None, row["destination"])
    ]
    show_list(rows, COLUMNS, form)


@binding.command()
@click.argument("source")
@click.argument("destination")
@click.argument("key", default="")
@to_option
@argument_option
@vhost_option
@managed
def declare(
    api: Api, *, source: str, destination: str, key: str, kind: str, arguments: tuple[str, ...], vhost: str
) -> None:
    """Bind DESTINATION to the exchange SOURCE, with the binding key KEY."""
    body = {"routing_key": key, "arguments": parse_arguments(arguments)}
    try:
        api.post("bindings", vhost, "e", source, kind[0], destination, body=body)
    except NotThere:
        raise _not_there(source, destination, kind, vhost) from None


@binding.command()
@click.argument("source")
@click.argument("destination")
@click.argument("key", default="")
@to_option
@argument_option
@vhost_option
@managed
def delete(
    api: Api, *, source: str, destination: str, key: str, kind: str, arguments: tuple[str, ...], vhost: str
) -> None:
    """Delete the binding of DESTINATION to the exchange SOURCE with this key and these arguments."""
    wanted: dict[str, Any] = parse_arguments(arguments)
    path = ("bindings", vhost, "e", source, kind[0], destination)
    try:
        for row in api.get(*path):
            if (row["routing_key"], row["arguments"]) == (key, wanted):
                api.delete(*path, row["properties_key"])
                return
    except NotThere:
        raise _not_there(source, destination, kind, vhost) from None
    raise Failure(
        f"{destination!r} is not bound to {source!r} with the key {key!r}"
        + (" and these arguments" if wanted else " and without arguments")
        + f"\n`leveret binding list --source {source} --destination {destination}` shows how it is"
    )


def _not_there(source: str, destination: str, kind: str, vhost: str) -> Failure:
    return Failure(
        f"there is no exchange {source!r} or no {kind} {destination!r} in virtual host {vhost!r}\n"
        f"`leveret exchange list` and `leveret {kind} list` show them"
    )
