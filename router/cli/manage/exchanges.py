"""``leveret exchange``: list, declare and delete exchanges."""

import click

from leveret.router.cli.api import Api
from leveret.router.cli.assignments import parse_assignments
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.manage.common import (
    any_vhost_option,
    argument_option,
    changing,
    listed,
    managed,
    one,
    rate,
    report,
    show_format_option,
    show_object,
    vhost_option,
    vhost_path,
)
from leveret.router.cli.manage.queues import features
from leveret.router.cli.table import Column
from leveret.router.cli.terminal import counted

COLUMNS = (
    Column("vhost", "vhost", rank=2),
    Column("name", lambda row: row["name"] or "(default)", named=True),
    Column("type", "type"),
    Column("features", features, rank=4),
    Column("policy", "policy", rank=3),
    Column("in/s", rate("publish_in"), number=True, rank=1),
    Column("out/s", rate("publish_out"), number=True, rank=1),
)


@click.group()
def exchange() -> None:
    """Show and change exchanges."""


@exchange.command("list")
@any_vhost_option
@list_options(COLUMNS)
@managed
def list_exchanges(api: Api, vhost: str | None, listing: Listing) -> None:
    """List exchanges, with their rates."""
    listing.show(lambda: listed(api, *vhost_path("exchanges", vhost)))


@exchange.command()
@click.argument("name")
@vhost_option
@show_format_option
@managed
def show(api: Api, name: str, vhost: str, form: str) -> None:
    """Show all fields of an exchange. The default exchange is '' or amq.default."""
    path = name or "amq.default"
    found = one("exchange", name, vhost, lambda: api.get("exchanges", vhost, path))
    show_object(found if form == "json" else {**found, "name": found["name"] or "(default)"}, form)


@exchange.command()
@click.argument("name")
@click.option(
    "--type",
    "kind",
    default="direct",
    show_default=True,
    metavar="TYPE",
    help="direct, fanout, topic, headers, ...",
)
@click.option(
    "--durable/--transient", default=True, show_default=True, help="Keep the exchange over a restart."
)
@click.option("--auto-delete", is_flag=True, help="Delete the exchange with its last binding.")
@click.option("--internal", is_flag=True, help="Only other exchanges can publish to it, not clients.")
@argument_option
@vhost_option
@changing
def declare(
    api: Api,
    *,
    name: str,
    kind: str,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: tuple[str, ...],
    vhost: str,
) -> None:
    """Declare an exchange, or check that it exists with the same properties."""
    body = {
        "type": kind,
        "durable": durable,
        "auto_delete": auto_delete,
        "internal": internal,
        "arguments": parse_assignments(arguments),
    }
    created = one("vhost", vhost, None, lambda: api.create("exchanges", vhost, name, body=body))
    report(f"exchange {name!r} in {vhost!r}: {'declared' if created else 'existed already'}")


@exchange.command()
@click.argument("name")
@click.option("--if-unused", is_flag=True, help="Only if nothing is bound to it.")
@vhost_option
@changing
def delete(api: Api, name: str, if_unused: bool, vhost: str) -> None:
    """Delete an exchange with its bindings."""
    query = {"if-unused": "true"} if if_unused else {}
    bindings = one("exchange", name, vhost, lambda: _bindings(api, vhost, name))
    one("exchange", name, vhost, lambda: api.delete("exchanges", vhost, name, **query))
    report(f"exchange {name!r} in {vhost!r}: deleted, with {counted(bindings, 'binding')}")


def _bindings(api: Api, vhost: str, name: str) -> int:
    """Return the number of bindings that are deleted with an exchange: from it and to it."""
    return sum(len(api.get("exchanges", vhost, name, "bindings", side)) for side in ("source", "destination"))
