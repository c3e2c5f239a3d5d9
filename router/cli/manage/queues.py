"""``leveret queue``."""

import click

from router.cli.api import Api
from router.cli.manage.common import (
    Column,
    Object,
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


def features(row: Object) -> str:
    """What a queue is, in the management UI's abbreviations."""
    marks = [("durable", "D"), ("auto_delete", "AD"), ("exclusive", "Excl"), ("internal", "I")]
    return " ".join(mark for name, mark in marks if row.get(name))


COLUMNS = (
    Column("vhost", "vhost"),
    Column("name", "name"),
    Column("type", "type"),
    Column("features", features),
    Column("state", "state"),
    Column("policy", "policy"),
    Column("ready", "messages_ready", number=True),
    Column("unacked", "messages_unacknowledged", number=True),
    Column("consumers", "consumers", number=True),
    Column("in/s", rate("publish"), number=True),
    Column("out/s", rate("deliver_get"), number=True),
)


@click.group()
def queue() -> None:
    """Show and change queues."""


@queue.command("list")
@any_vhost_option
@format_option
@managed
def list_queues(api: Api, vhost: str | None, form: str) -> None:
    """List queues, with their messages and rates."""
    show_list(listed(api, *vhost_path("queues", vhost)), COLUMNS, form)


@queue.command()
@click.argument("name")
@vhost_option
@format_option
@managed
def show(api: Api, name: str, vhost: str, form: str) -> None:
    """Show all that is known of a queue."""
    show_object(one("queue", name, vhost, lambda: api.get("queues", vhost, name)), form)


@queue.command()
@click.argument("name")
@click.option("--durable/--transient", default=True, show_default=True, help="Whether it outlives a restart.")
@click.option("--auto-delete", is_flag=True, help="Delete it with its last consumer.")
@click.option("--type", "kind", metavar="TYPE", help="classic, quorum or stream.")
@argument_option
@vhost_option
@managed
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
    """Make a queue, or see that it is there with the same properties."""
    table = parse_arguments(arguments)
    if kind is not None:
        table["x-queue-type"] = kind
    body = {"durable": durable, "auto_delete": auto_delete, "arguments": table}
    one("vhost", vhost, None, lambda: api.put("queues", vhost, name, body=body))


@queue.command()
@click.argument("name")
@click.option("--if-empty", is_flag=True, help="Only if it has no messages.")
@click.option("--if-unused", is_flag=True, help="Only if it has no consumers.")
@vhost_option
@managed
def delete(api: Api, name: str, if_empty: bool, if_unused: bool, vhost: str) -> None:
    """Delete a queue with its messages."""
    conditions = {"if-empty": if_empty, "if-unused": if_unused}
    query = {condition: "true" for condition, wanted in conditions.items() if wanted}
    one("queue", name, vhost, lambda: api.delete("queues", vhost, name, **query))


@queue.command()
@click.argument("name")
@vhost_option
@managed
def purge(api: Api, name: str, vhost: str) -> None:
    """Delete the messages of a queue that are ready."""
    one("queue", name, vhost, lambda: api.delete("queues", vhost, name, "contents"))
