"""``leveret stream``: streams, super streams, and the positions of named consumers.

``list`` and ``create`` use paths of the management API that RabbitMQ has too; the others use leveret's own.
"""

import re
from typing import Any

import click

from leveret.router.cli.api import Api, ObjectNotFound
from leveret.router.cli.failure import Failure, WrongUsage
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
    vhost_option,
    vhost_path,
)
from leveret.router.cli.manage.data_loss import warn_of_queue
from leveret.router.cli.table import Column, Object
from leveret.router.cli.terminal import counted

_OFFSET = re.compile(r"[0-9]{1,20}")
STREAMS = (
    Column("vhost", "vhost", rank=2),
    Column("name", "name", named=True),
    Column("policy", "policy", rank=3),
    Column("messages", "messages", number=True),
    Column("bytes", "message_bytes", number=True, rank=1),
    Column("consumers", "consumers", number=True),
    Column("in/s", rate("publish"), number=True, rank=1),
    Column("out/s", rate("deliver_get"), number=True, rank=1),
)
POSITIONS = (
    Column("consumer name", "consumer_name", named=True),
    Column("offset", "offset", number=True),
    Column("active", "active"),
)
LAG = (
    Column("consumer name", "consumer_name", named=True),
    Column("consumer tag", "consumer_tag", named=True, rank=1),
    Column("offset", "offset", number=True),
    Column("lag messages", "lag_messages", number=True),
    Column("lag seconds", "lag_seconds", number=True),
)


@click.group()
def stream() -> None:
    """Show and change streams, super streams, and the positions of named consumers."""


@stream.command("list")
@any_vhost_option
@list_options(STREAMS)
@managed
def list_streams(api: Api, vhost: str | None, listing: Listing) -> None:
    """List streams."""

    def fetch() -> list[Object]:
        return [row for row in listed(api, *vhost_path("queues", vhost)) if row.get("type") == "stream"]

    listing.show(fetch)


@stream.command()
@click.argument("name")
@vhost_option
@show_format_option
@managed
def show(api: Api, name: str, vhost: str, form: str) -> None:
    """Show a stream: its offsets, size, segments, publishers and consumers."""
    found = _ask(api, vhost, name)
    if form == "json":
        show_object(found, form)
        return
    show_object({key: value for key, value in found.items() if key != "consumers"}, form)
    if found["consumers"]:
        Listing(LAG).show(lambda: found["consumers"])


def retention_options(command: Any) -> Any:
    """Add the options for retention; the command gets them as ``retention``."""
    for option in (
        click.option(
            "--max-segment-size-bytes", type=click.IntRange(0), metavar="BYTES", help="Segment size."
        ),
        click.option("--max-length-bytes", type=click.IntRange(0), metavar="BYTES", help="Maximum size."),
        click.option("--max-age", metavar="AGE", help="Maximum age, such as 7D."),
    ):  # fmt: skip
        command = option(command)
    return command


def _arguments(
    max_age: str | None, max_length_bytes: int | None, max_segment_size_bytes: int | None
) -> dict[str, Any]:
    """Return the arguments of a stream for the retention options."""
    arguments = {
        "x-max-age": max_age,
        "x-max-length-bytes": max_length_bytes,
        "x-stream-max-segment-size-bytes": max_segment_size_bytes,
    }
    return {name: value for name, value in arguments.items() if value is not None}


@stream.command()
@click.argument("name")
@retention_options
@vhost_option
@changing
def create(api: Api, *, name: str, vhost: str, **retention: Any) -> None:
    """Create a stream, or check that it exists with the same properties."""
    arguments = {"x-queue-type": "stream", **_arguments(**retention)}
    body = {"durable": True, "auto_delete": False, "arguments": arguments}
    created = one("vhost", vhost, None, lambda: api.create("queues", vhost, name, body=body))
    warn_of_queue(name, arguments, "stream")
    report(f"stream {name!r} in {vhost!r}: {'created' if created else 'existed already'}")


@stream.command("create-super")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1, 1000), metavar="N", help="Number of streams.")
@click.option("--binding-keys", metavar="KEY,KEY,...", help="A stream for each of these routing keys.")
@retention_options
@vhost_option
@changing
def create_super(
    api: Api, *, name: str, partitions: int | None, binding_keys: str | None, vhost: str, **retention: Any
) -> None:
    """Create an exchange NAME that distributes messages over streams by their routing keys."""
    if (partitions is None) == (binding_keys is None):
        raise click.UsageError("give either --partitions or --binding-keys")
    body: dict[str, Any] = {"arguments": _arguments(**retention)}
    if partitions is not None:
        body["partitions"] = partitions
    else:
        body["binding_keys"] = [key for key in str(binding_keys).split(",") if key]
    made = api.put("super-streams", vhost, name, body=body)["partitions"]
    warn_of_queue(name, body["arguments"], "super stream")
    report(f"super stream {name!r} in {vhost!r}: {counted(len(made), 'partition')}: {', '.join(made)}")


@stream.command()
@click.argument("name")
@list_options(POSITIONS)
@vhost_option
@managed
def positions(api: Api, name: str, vhost: str, listing: Listing) -> None:
    """Show the positions of the named consumers of the stream NAME, also of those that are not connected."""
    listing.show(lambda: _ask(api, vhost, name, "positions"))


@stream.command()
@click.argument("name")
@list_options(LAG)
@vhost_option
@managed
def lag(api: Api, name: str, vhost: str, listing: Listing) -> None:
    """Show the lag of the consumers of the stream NAME: the messages that they have not read."""
    listing.show(lambda: _ask(api, vhost, name)["consumers"])


@stream.command()
@click.argument("name")
@click.argument("consumer")
@click.option("--to", metavar="OFFSET", help="first, next, or a number; without it the position is deleted.")
@vhost_option
@changing
def reset(api: Api, *, name: str, consumer: str, to: str | None, vhost: str) -> None:
    """Set the next offset of a named consumer of the stream NAME, which must not be connected."""
    path = ("streams", vhost, name, "positions", consumer)
    if to is not None and to not in ("first", "next") and not _OFFSET.fullmatch(to):
        raise WrongUsage(f"--to is first, next or the number of an offset, not {to!r}")
    try:
        if to is None:
            api.delete(*path)
        else:
            api.put(*path, body={"offset": int(to) if to.isdecimal() else to})
    except ObjectNotFound:
        raise Failure(
            f"{name!r} in virtual host {vhost!r} is not a stream, or has no position of {consumer!r}"
        ) from None
    report(f"consumer {consumer!r} of stream {name!r}: {'forgotten' if to is None else f'goes on at {to}'}")


def _ask(api: Api, vhost: str, name: str, *path: str) -> Any:
    try:
        return api.get("streams", vhost, name, *path)
    except ObjectNotFound:
        raise Failure(f"there is no stream {name!r} in virtual host {vhost!r}") from None
