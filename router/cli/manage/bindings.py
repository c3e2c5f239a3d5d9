"""``leveret binding``: list, create and delete bindings."""

from typing import Any

import click

from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.assignments import parse_assignments
from leveret.router.cli.failure import Failure
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.manage.common import (
    any_vhost_option,
    argument_option,
    changing,
    listed,
    managed,
    report,
    vhost_option,
    vhost_path,
)
from leveret.router.cli.table import Column, Object

COLUMNS = (
    Column("vhost", "vhost", rank=3),
    Column("source", lambda row: row["source"] or "(default)", named=True),
    Column("destination", "destination", named=True),
    Column("kind", "destination_type", rank=2),
    Column("key", "routing_key", named=True),
    Column("arguments", "arguments", rank=1),
)

to_option = click.option(
    "--to", "kind", type=click.Choice(("queue", "exchange")), default="queue", show_default=True,
    help="The kind of the destination.",
)  # fmt: skip


@click.group()
def binding() -> None:
    """Show and change bindings."""


@binding.command("list")
@click.option("--source", metavar="EXCHANGE", help="Only bindings from this exchange.")
@click.option("--destination", metavar="NAME", help="Only bindings to this queue or exchange.")
@any_vhost_option
@list_options(COLUMNS)
@managed
def list_bindings(
    api: Api, source: str | None, destination: str | None, vhost: str | None, listing: Listing
) -> None:
    """List bindings."""

    def fetch() -> list[Object]:
        return [
            row
            for row in listed(api, *vhost_path("bindings", vhost))
            if source in (None, row["source"]) and destination in (None, row["destination"])
        ]

    listing.show(fetch)


@binding.command()
@click.argument("source")
@click.argument("destination")
@click.argument("key", default="")
@to_option
@argument_option
@vhost_option
@changing
def declare(
    api: Api, *, source: str, destination: str, key: str, kind: str, arguments: tuple[str, ...], vhost: str
) -> None:
    """Bind DESTINATION to the exchange SOURCE, with the binding key KEY."""
    body = {"routing_key": key, "arguments": parse_assignments(arguments)}
    path = ("bindings", vhost, "e", source, kind[0], destination)
    try:
        bound = any(
            (row["routing_key"], row["arguments"]) == (key, body["arguments"]) for row in api.get(*path)
        )
        api.post(*path, body=body)
    except ObjectNotFound:
        raise _missing_endpoint(source, destination, kind, vhost) from None
    how = "already bound" if bound else "bound"
    report(f"{kind} {destination!r} in {vhost!r}: {how} to exchange {source!r} with key {key!r}")


@binding.command()
@click.argument("source")
@click.argument("destination")
@click.argument("key", default="")
@to_option
@argument_option
@vhost_option
@changing
def delete(
    api: Api, *, source: str, destination: str, key: str, kind: str, arguments: tuple[str, ...], vhost: str
) -> None:
    """Delete the binding of DESTINATION to the exchange SOURCE with this key and these arguments."""
    wanted: dict[str, Any] = parse_assignments(arguments)
    path = ("bindings", vhost, "e", source, kind[0], destination)
    try:
        for row in api.get(*path):
            if (row["routing_key"], row["arguments"]) == (key, wanted):
                api.delete(*path, row["properties_key"])
                report(f"{kind} {destination!r} in {vhost!r}: unbound from exchange {source!r}, key {key!r}")
                return
    except ObjectNotFound:
        raise _missing_endpoint(source, destination, kind, vhost) from None
    raise Failure(
        f"{destination!r} is not bound to {source!r} with the key {key!r}"
        + (" and these arguments" if wanted else " and without arguments")
        + f"\n`leveret binding list --source {source} --destination {destination}` shows how it is"
    )


def _missing_endpoint(source: str, destination: str, kind: str, vhost: str) -> Failure:
    return Failure(
        f"there is no exchange {source!r} or no {kind} {destination!r} in virtual host {vhost!r}\n"
        f"`leveret exchange list` and `leveret {kind} list` show them"
    )
