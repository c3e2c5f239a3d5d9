"""``leveret connection``, ``channel`` and ``consumer``."""

from functools import partial

import click

from router.cli.api import Api
from router.cli.manage.common import (
    Column,
    any_vhost_option,
    format_option,
    listed,
    managed,
    one,
    rate,
    show_list,
    show_object,
    vhost_path,
)
from router.cli.terminal import counted

CONNECTIONS = (
    Column("name", "name"),
    Column("client", lambda row: (row.get("client_properties") or {}).get("connection_name")),
    Column("user", "user"),
    Column("vhost", "vhost"),
    Column("protocol", "protocol"),
    Column("tls", "ssl"),
    Column("state", "state"),
    Column("channels", "channels", number=True),
    Column("in B/s", "recv_oct_details.rate", number=True),
    Column("out B/s", "send_oct_details.rate", number=True),
)
CHANNELS = (
    Column("name", "name"),
    Column("user", "user"),
    Column("vhost", "vhost"),
    Column("state", "state"),
    Column("mode", lambda row: "confirm" if row.get("confirm") else "tx" if row.get("transactional") else ""),
    Column("consumers", "consumer_count", number=True),
    Column("prefetch", "prefetch_count", number=True),
    Column("unacked", "messages_unacknowledged", number=True),
    Column("unconfirmed", "messages_unconfirmed", number=True),
    Column("in/s", rate("publish"), number=True),
    Column("out/s", rate("deliver_get"), number=True),
)
CONSUMERS = (
    Column("vhost", "queue.vhost"),
    Column("queue", "queue.name"),
    Column("tag", "consumer_tag"),
    Column("channel", "channel_details.name"),
    Column("ack", "ack_required"),
    Column("exclusive", "exclusive"),
    Column("active", "active"),
    Column("prefetch", "prefetch_count", number=True),
)


@click.group()
def connection() -> None:
    """Show and close connections."""


@connection.command("list")
@any_vhost_option
@format_option
@managed
def list_connections(api: Api, vhost: str | None, form: str) -> None:
    """List connections."""
    path = ("connections",) if vhost is None else ("vhosts", vhost, "connections")
    show_list(listed(api, *path), CONNECTIONS, form)


@connection.command("show")
@click.argument("name")
@format_option
@managed
def show_connection(api: Api, name: str, form: str) -> None:
    """Show all that is known of a connection."""
    show_object(one("connection", name, None, lambda: api.get("connections", name)), form)


@connection.command()
@click.argument("name", required=False)
@click.option("--user", metavar="NAME", help="All of this user.")
@click.option("--reason", default="closed with leveret connection close", metavar="TEXT", show_default=True)
@managed
def close(api: Api, name: str | None, user: str | None, reason: str) -> None:
    """Close the connection NAME, or those of a user."""
    if (name is None) == (user is None):
        raise click.UsageError("either the NAME of a connection or --user")
    names = [name] if name is not None else [
        row["name"] for row in listed(api, "connections") if row.get("user") == user
    ]  # fmt: skip
    for each in names:
        one("connection", each, None, partial(api.delete, "connections", each, reason=reason))
    if user is not None:
        click.echo(f"{counted(len(names), 'connection')} closed")


@click.group()
def channel() -> None:
    """Show channels."""


@channel.command("list")
@any_vhost_option
@format_option
@managed
def list_channels(api: Api, vhost: str | None, form: str) -> None:
    """List channels."""
    path = ("channels",) if vhost is None else ("vhosts", vhost, "channels")
    show_list(listed(api, *path), CHANNELS, form)


@channel.command("show")
@click.argument("name")
@format_option
@managed
def show_channel(api: Api, name: str, form: str) -> None:
    """Show all that is known of a channel."""
    show_object(one("channel", name, None, lambda: api.get("channels", name)), form)


@click.group()
def consumer() -> None:
    """Show consumers."""


@consumer.command("list")
@click.option("--queue", metavar="NAME", help="Of this queue alone.")
@any_vhost_option
@format_option
@managed
def list_consumers(api: Api, queue: str | None, vhost: str | None, form: str) -> None:
    """List consumers."""
    rows = listed(api, *vhost_path("consumers", vhost))
    show_list([row for row in rows if queue in (None, row["queue"]["name"])], CONSUMERS, form)
