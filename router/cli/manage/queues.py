"""``leveret queue``: list, declare, purge and delete queues."""

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
from leveret.router.cli.manage.data_loss import warn_of_queue
from leveret.router.cli.manage.messages import delete_messages, move, peek, replay
from leveret.router.cli.table import Column, Object
from leveret.router.cli.terminal import counted


def features(row: Object) -> str:
    """Return the features of a queue or an exchange, in the management UI's abbreviations."""
    marks = [("durable", "D"), ("auto_delete", "AD"), ("exclusive", "Excl"), ("internal", "I")]
    return " ".join(mark for name, mark in marks if row.get(name))


COLUMNS = (
    Column("vhost", "vhost", rank=2),
    Column("name", "name", named=True),
    Column("type", "type", rank=3),
    Column("features", features, rank=6),
    Column("state", "state", rank=5),
    Column("policy", "policy", rank=4),
    Column("ready", "messages_ready", number=True),
    Column("unacked", "messages_unacknowledged", number=True),
    Column("consumers", "consumers", number=True, rank=1),
    Column("in/s", rate("publish"), number=True, rank=1),
    Column("out/s", rate("deliver_get"), number=True, rank=1),
)


@click.group()
def queue() -> None:
    """Show and change queues, and the messages in them."""


for command in (peek, move, replay, delete_messages):
    queue.add_command(command)


@queue.command("list")
@any_vhost_option
@list_options(COLUMNS)
@managed
def list_queues(api: Api, vhost: str | None, listing: Listing) -> None:
    """List queues, with their messages and rates."""
    listing.show(lambda: listed(api, *vhost_path("queues", vhost)))


@queue.command()
@click.argument("name")
@vhost_option
@show_format_option
@managed
def show(api: Api, name: str, vhost: str, form: str) -> None:
    """Show all fields of a queue."""
    show_object(one("queue", name, vhost, lambda: api.get("queues", vhost, name)), form)


@queue.command()
@click.argument("name")
@click.option("--durable/--transient", default=True, show_default=True, help="Keep the queue over a restart.")
@click.option("--auto-delete", is_flag=True, help="Delete the queue with its last consumer.")
@click.option("--type", "kind", metavar="TYPE", help="classic, quorum or stream.")
@argument_option
@vhost_option
@changing
def declare(
    api: Api,
    *,
    name: str,
    durable: bool,
    auto_delete: bool,
    kind: str | None,
    arguments: tuple[str, ...],
    vhost: str,
) -> None:
    """Declare a queue, or check that it exists with the same properties.

    Warns on standard error of arguments that delete messages, or the queue itself.
    """
    table = parse_assignments(arguments)
    if kind is not None:
        table["x-queue-type"] = kind
    body = {"durable": durable, "auto_delete": auto_delete, "arguments": table}
    created = one("vhost", vhost, None, lambda: api.create("queues", vhost, name, body=body))
    warn_of_queue(name, table)
    report(f"queue {name!r} in {vhost!r}: {'declared' if created else 'existed already'}")


@queue.command()
@click.argument("name")
@click.option("--if-empty", is_flag=True, help="Only if it has no messages.")
@click.option("--if-unused", is_flag=True, help="Only if it has no consumers.")
@vhost_option
@changing
def delete(api: Api, name: str, if_empty: bool, if_unused: bool, vhost: str) -> None:
    """Delete a queue with its messages."""
    conditions = {"if-empty": if_empty, "if-unused": if_unused}
    query = {condition: "true" for condition, wanted in conditions.items() if wanted}
    found = one("queue", name, vhost, lambda: api.get("queues", vhost, name))
    one("queue", name, vhost, lambda: api.delete("queues", vhost, name, **query))
    report(f"queue {name!r} in {vhost!r}: deleted, with {counted(found.get('messages', 0), 'message')}")


@queue.command()
@click.argument("name")
@vhost_option
@changing
def purge(api: Api, name: str, vhost: str) -> None:
    """Delete the ready messages of a queue. Unacknowledged messages stay."""
    found = one("queue", name, vhost, lambda: api.get("queues", vhost, name))
    one("queue", name, vhost, lambda: api.delete("queues", vhost, name, "contents"))
    held = found.get("messages_unacknowledged", 0)
    report(
        f"queue {name!r} in {vhost!r}: purged of {counted(found.get('messages_ready', 0), 'message')}"
        + (f"; {held} more are unacknowledged" if held else "")
    )
