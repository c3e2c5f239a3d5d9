"""``leveret stream``: super streams, and where the named consumers of a stream are.

Asks the management API of a running leveret, at paths that RabbitMQ does not have.
"""

import re
from typing import Any

import click

from protocol.json_text import dump_json
from router.cli.api import Api, NotThere, api_option
from router.cli.failure import Failure, WrongUsage

vhost_option = click.option(
    "--vhost", default="/", show_default=True, metavar="NAME", help="The virtual host of the stream."
)
_OFFSET = re.compile(r"[0-9]{1,20}")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")


@click.group()
def stream() -> None:
    """Super streams, and the positions of named consumers of a stream."""


@stream.command("create-super")
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1, 1000), metavar="N", help="How many streams.")
@click.option("--binding-keys", metavar="KEY,KEY,...", help="A stream for each of these routing keys.")
@click.option("--max-age", metavar="AGE", help="How long messages are kept, such as 7D.")
@click.option("--max-length-bytes", type=click.IntRange(0), metavar="BYTES", help="The size of each stream.")
@click.option(
    "--max-segment-size-bytes", type=click.IntRange(0), metavar="BYTES", help="The size of their files."
)
@vhost_option
@api_option
def create_super(  # noqa: PLR0917 - click names them
    name: str,
    partitions: int | None,
    binding_keys: str | None,
    max_age: str | None,
    max_length_bytes: int | None,
    max_segment_size_bytes: int | None,
    vhost: str,
    api_url: str | None,
) -> None:
    """Make an exchange NAME that spreads messages over streams by their routing keys."""
    if (partitions is None) == (binding_keys is None):
        raise click.UsageError("give either --partitions or --binding-keys")
    arguments: dict[str, Any] = {
        "x-max-age": max_age,
        "x-max-length-bytes": max_length_bytes,
        "x-stream-max-segment-size-bytes": max_segment_size_bytes,
    }
    body: dict[str, Any] = {key: value for key, value in arguments.items() if value is not None}
    body = {"arguments": body}
    if partitions is not None:
        body["partitions"] = partitions
    else:
        body["binding_keys"] = [key for key in str(binding_keys).split(",") if key]
    for each in Api(api_url).put("super-streams", vhost, name, body=body)["partitions"]:
        click.echo(each)


@stream.command()
@click.argument("name")
@json_option
@vhost_option
@api_option
def positions(name: str, as_json: bool, vhost: str, api_url: str | None) -> None:
    """Show where the named consumers of the stream NAME are, also those that are away."""
    found = _ask(api_url, vhost, name, "positions")
    _show(found, as_json, ("consumer_name", "offset", "active"))


@stream.command()
@click.argument("name")
@json_option
@vhost_option
@api_option
def lag(name: str, as_json: bool, vhost: str, api_url: str | None) -> None:
    """Show how far all who read the stream NAME are behind its end."""
    found = _ask(api_url, vhost, name)["consumers"]
    _show(found, as_json, ("consumer_name", "consumer_tag", "offset", "lag_messages", "lag_seconds"))


@stream.command()
@click.argument("name")
@click.argument("consumer")
@click.option(
    "--to", metavar="OFFSET", help="first, next, or a number; without it the position is forgotten."
)
@vhost_option
@api_option
def reset(name: str, consumer: str, to: str | None, vhost: str, api_url: str | None) -> None:
    """Have the consumer of that name go on elsewhere in the stream NAME; it must not be reading."""
    api = Api(api_url)
    path = ("streams", vhost, name, "positions", consumer)
    if to is not None and to not in ("first", "next") and not _OFFSET.fullmatch(to):
        raise WrongUsage(f"--to is first, next or the number of an offset, not {to!r}")
    try:
        if to is None:
            api.delete(*path)
        else:
            api.put(*path, body={"offset": int(to) if to.isdecimal() else to})
    except NotThere:
        raise Failure(
            f"{name!r} in virtual host {vhost!r} is no stream, or {consumer!r} is not known there"
        ) from None


def _ask(api_url: str | None, vhost: str, name: str, *path: str) -> Any:
    try:
        return Api(api_url).get("streams", vhost, name, *path)
    except NotThere:
        raise Failure(f"there is no stream {name!r} in virtual host {vhost!r}") from None


def _show(rows: list[dict[str, Any]], as_json: bool, columns: tuple[str, ...]) -> None:
    if as_json:
        click.echo(dump_json(rows))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    Console().print(table)
