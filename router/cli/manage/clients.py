"""``leveret connection``, ``channel`` and ``consumer``: list them, and close connections."""

from functools import partial

import click

from leveret.router.cli.api import Api
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.manage.common import (
    any_vhost_option,
    changing,
    listed,
    managed,
    one,
    rate,
    report,
    show_format_option,
    show_object,
    vhost_path,
)
from leveret.router.cli.table import Column, Object
from leveret.router.cli.terminal import counted

CONNECTIONS = (
    Column("name", "name", named=True),
    Column(
        "client", lambda row: (row.get("client_properties") or {}).get("connection_name"), rank=3, named=True
    ),
    Column("user", "user"),
    Column("vhost", "vhost", rank=1),
    Column("protocol", "protocol", rank=5),
    Column("tls", "ssl", rank=6),
    Column("state", "state", rank=2),
    Column("channels", "channels", number=True, rank=4),
    Column("in B/s", "recv_oct_details.rate", number=True, rank=2),
    Column("out B/s", "send_oct_details.rate", number=True, rank=2),
)
CHANNELS = (
    Column("name", "name", named=True),
    Column("user", "user", rank=3),
    Column("vhost", "vhost", rank=4),
    Column("state", "state", rank=5),
    Column(
        "mode",
        lambda row: "confirm" if row.get("confirm") else "tx" if row.get("transactional") else "",
        rank=6,
    ),
    Column("consumers", "consumer_count", number=True, rank=1),
    Column("prefetch", "prefetch_count", number=True, rank=2),
    Column("unacked", "messages_unacknowledged", number=True),
    Column("unconfirmed", "messages_unconfirmed", number=True, rank=2),
    Column("in/s", rate("publish"), number=True, rank=1),
    Column("out/s", rate("deliver_get"), number=True, rank=1),
)
CONSUMERS = (
    Column("vhost", "queue.vhost", rank=2),
    Column("queue", "queue.name", named=True),
    Column("tag", "consumer_tag", named=True),
    Column("channel", "channel_details.name", rank=1),
    Column("ack", "ack_required", rank=5),
    Column("exclusive", "exclusive", rank=6),
    Column("active", "active", rank=4),
    Column("prefetch", "prefetch_count", number=True, rank=3),
)


@click.group()
def connection() -> None:
    """Show and close connections."""


@connection.command("list")
@any_vhost_option
@list_options(CONNECTIONS)
@managed
def list_connections(api: Api, vhost: str | None, listing: Listing) -> None:
    """List connections."""
    path = ("connections",) if vhost is None else ("vhosts", vhost, "connections")
    listing.show(lambda: listed(api, *path))


@connection.command("show")
@click.argument("name")
@show_format_option
@managed
def show_connection(api: Api, name: str, form: str) -> None:
    """Show all fields of a connection."""
    show_object(one("connection", name, None, lambda: api.get("connections", name)), form)


@connection.command()
@click.argument("name", required=False)
@click.option("--user", metavar="NAME", help="All connections of this user.")
@click.option("--reason", default="closed with leveret connection close", metavar="TEXT", show_default=True)
@changing
def close(api: Api, name: str | None, user: str | None, reason: str) -> None:
    """Close the connection NAME, or those of a user."""
    if (name is None) == (user is None):
        raise click.UsageError("give either the NAME of a connection or --user")
    names = [name] if name is not None else [
        row["name"] for row in listed(api, "connections") if row.get("user") == user
    ]  # fmt: skip
    for each in names:
        one("connection", each, None, partial(api.delete, "connections", each, reason=reason))
    report(f"{counted(len(names), 'connection')} closed")


@click.group()
def channel() -> None:
    """Show channels."""


@channel.command("list")
@any_vhost_option
@list_options(CHANNELS)
@managed
def list_channels(api: Api, vhost: str | None, listing: Listing) -> None:
    """List channels."""
    path = ("channels",) if vhost is None else ("vhosts", vhost, "channels")
    listing.show(lambda: listed(api, *path))


@channel.command("show")
@click.argument("name")
@show_format_option
@managed
def show_channel(api: Api, name: str, form: str) -> None:
    """Show all fields of a channel."""
    show_object(one("channel", name, None, lambda: api.get("channels", name)), form)


@click.group()
def consumer() -> None:
    """Show consumers."""


@consumer.command("list")
@click.option("--queue", metavar="NAME", help="Only consumers of this queue.")
@any_vhost_option
@list_options(CONSUMERS)
@managed
def list_consumers(api: Api, queue: str | None, vhost: str | None, listing: Listing) -> None:
    """List consumers."""

    def fetch() -> list[Object]:
        rows = listed(api, *vhost_path("consumers", vhost))
        return [row for row in rows if queue in (None, row["queue"]["name"])]

    listing.show(fetch)
