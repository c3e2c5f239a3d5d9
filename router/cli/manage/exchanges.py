"""``leveret exchange``."""

import click

from router.cli.api import Api
from router.cli.manage.common import (
    Column,
    any_vhost_option,
    argument_option,
    format_option,
    listed,
    managed,
    one,
    parse_arguments,
    rate,
    show_list,
    show_object,
    vhost_option,
    vhost_path,
)
from router.cli.manage.queues import features

COLUMNS = (
    Column("vhost", "vhost"),
    Column("name", lambda row: row["name"] or "(default)"),
    Column("type", "type"),
    Column("features", features),
    Column("policy", "policy"),
    Column("in/s", rate("publish_in"), number=True),
    Column("out/s", rate("publish_out"), number=True),
)


@click.group()
def exchange() -> None:
    """Show and change exchanges."""


@exchange.command("list")
@any_vhost_option
@format_option
@managed
def list_exchanges(api: Api, vhost: str | None, form: str) -> None:
    """List exchanges, with their rates."""
    show_list(listed(api, *vhost_path("exchanges", vhost)), COLUMNS, form)


@exchange.command()
@click.argument("name")
@vhost_option
@format_option
@managed
def show(api: Api, name: str, vhost: str, form: str) -> None:
    """Show all that is known of an exchange; '' is the default one, as is amq.default."""
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
@click.option("--durable/--transient", default=True, show_default=True, help="Whether it outlives a restart.")
@click.option("--auto-delete", is_flag=True, help="Delete it with its last binding.")
@click.option("--internal", is_flag=True, help="Nobody may publish to it; other exchanges may lead there.")
@argument_option
@vhost_option
@managed
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
    """Make an exchange, or see that it is there with the same properties."""
    body = {
        "type": kind,
        "durable": durable,
        "auto_delete": auto_delete,
        "internal": internal,
        "arguments": parse_arguments(arguments),
    }
    one("vhost", vhost, None, lambda: api.put("exchanges", vhost, name, body=body))


@exchange.command()
@click.argument("name")
@click.option("--if-unused", is_flag=True, help="Only if nothing is bound to it.")
@vhost_option
@managed
def delete(api: Api, name: str, if_unused: bool, vhost: str) -> None:
    """Delete an exchange with its bindings."""
    query = {"if-unused": "true"} if if_unused else {}
    one("exchange", name, vhost, lambda: api.delete("exchanges", vhost, name, **query))
