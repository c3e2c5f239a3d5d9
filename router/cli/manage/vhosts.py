"""``leveret vhost``: list, create and delete virtual hosts."""

from typing import Any

import click

from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.manage.common import (
    changing,
    confirm,
    listed,
    managed,
    one,
    report,
    show_format_option,
    show_object,
    yes_option,
)
from leveret.router.cli.table import Column
from leveret.router.cli.terminal import counted

COLUMNS = (
    Column("name", "name", named=True),
    Column("description", "description", rank=1),
    Column("queue type", "default_queue_type", rank=3),
    Column("tracing", "tracing", rank=2),
    Column("ready", "messages_ready", number=True),
    Column("unacked", "messages_unacknowledged", number=True),
)
LIMITS = {"max_connections": "max-connections", "max_queues": "max-queues"}


@click.group()
def vhost() -> None:
    """Show and change virtual hosts."""


@vhost.command("list")
@list_options(COLUMNS)
@managed
def list_vhosts(api: Api, listing: Listing) -> None:
    """List virtual hosts."""
    listing.show(lambda: listed(api, "vhosts"))


@vhost.command("show")
@click.argument("name")
@show_format_option
@managed
def show_vhost(api: Api, name: str, form: str) -> None:
    """Show a virtual host and its limits."""
    found = one("vhost", name, None, lambda: api.get("vhosts", name))
    limits = api.get("vhost-limits", name)
    show_object({**found, "limits": limits[0]["value"] if limits else {}}, form)


@vhost.command("declare")
@click.argument("name")
@click.option("--description", metavar="TEXT")
@click.option("--tags", metavar="TAG,TAG")
@click.option("--default-queue-type", "kind", metavar="TYPE", help="classic, quorum or stream.")
@click.option("--max-connections", type=int, metavar="N", help="Connections at a time; -1: no limit.")
@click.option("--max-queues", type=int, metavar="N", help="Queues at a time; -1: no limit.")
@click.option("--tracing/--no-tracing", default=None, help="Publish copies of all messages for leveret tap.")
@changing
def declare_vhost(
    api: Api,
    *,
    name: str,
    description: str | None,
    tags: str | None,
    kind: str | None,
    tracing: bool | None,
    **limits: int | None,
) -> None:
    """Create a virtual host, or change one; omitted options keep their values."""
    try:
        found = api.get("vhosts", name)
    except ObjectNotFound:
        found = {}
    kept = found.get("default_queue_type")
    body: dict[str, Any] = {
        "description": found.get("description") if description is None else description,
        "tags": ",".join(found.get("tags") or ()) if tags is None else tags,
        "default_queue_type": (None if kept == "undefined" else kept) if kind is None else kind,
        "tracing": tracing,
    }
    created = api.create(
        "vhosts", name, body={key: value for key, value in body.items() if value is not None}
    )
    for option, limit in limits.items():
        if limit is not None and limit >= 0:
            api.put("vhost-limits", name, LIMITS[option], body={"value": limit})
        elif limit is not None:
            api.delete("vhost-limits", name, LIMITS[option])
    report(f"virtual host {name!r}: {'created' if created else 'changed'}")


@vhost.command("delete")
@click.argument("name")
@yes_option
@changing
def delete_vhost(api: Api, name: str, yes: bool) -> None:
    """Delete a virtual host with all its queues and messages."""
    found = one("vhost", name, None, lambda: api.get("vhosts", name))
    messages = counted(found.get("messages", 0), "message")
    confirm(f"Delete the virtual host {name!r} and its {messages} at {api.shown}?", yes)
    api.delete("vhosts", name)
    report(f"virtual host {name!r}: deleted, with {messages}")
