"""Options for a message's headers and properties, and building the properties from them."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leveret.router.cli.assignments import parse_assignments
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.terminal import parse_duration

if TYPE_CHECKING:
    from leveret.protocol.amqp.properties import Properties
    from leveret.protocol.amqp.table import Table

F = TypeVar("F", bound=Callable[..., Any])

TEXTS = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "user_id",
         "app_id", "cluster_id")  # fmt: skip
HELP = {
    "content_type": "MIME type of the body, as text/plain.",
    "correlation_id": "Identifies the request of a reply.",
    "reply_to": "Queue for replies.",
    "user_id": "The publishing user; the broker refuses any other name.",
}


def property_options(command: F) -> F:
    """Add an option for each property, and ``--header``."""
    options = [
        click.option(
            "-H", "--header", "headers", metavar="NAME=TEXT", multiple=True,
            help="A header; NAME:=JSON for a number, true, a list, ... May be repeated.",
        ),
        click.option(
            "--persistent/--transient", default=True, show_default=True,
            help="Keep the message over a restart, in a durable queue.",
        ),
        click.option("--priority", type=click.IntRange(0, 255), metavar="0-255"),
        click.option("--expiration", metavar="DURATION", help="Time to live, such as 30s; default unit: ms."),
        click.option("--timestamp", metavar="SECONDS", help='Seconds since 1970, or "now".'),
        *(
            click.option("--" + name.replace("_", "-"), metavar="TEXT", help=HELP.get(name))
            for name in TEXTS
        ),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def make_properties(
    *,
    headers: tuple[str, ...],
    persistent: bool,
    priority: int | None,
    expiration: str | None,
    timestamp: str | None,
    **texts: str | None,
) -> "Properties":
    """Return the properties for the given options. Raises WrongUsage."""
    from leveret.protocol.amqp.properties import PERSISTENT, TRANSIENT, Properties

    if timestamp is not None and timestamp != "now" and not (timestamp.isascii() and timestamp.isdigit()):
        raise WrongUsage(f'--timestamp wants seconds since 1970 or "now", not {timestamp!r}')
    return Properties(
        headers=parse_headers(headers) or None,
        delivery_mode=PERSISTENT if persistent else TRANSIENT,
        priority=priority,
        expiration=None if expiration is None else _expiration(expiration),
        timestamp=None if timestamp is None else int(time.time()) if timestamp == "now" else int(timestamp),
        **texts,
    )


def parse_headers(given: tuple[str, ...], option: str = "--header") -> "Table":
    """Parse ``NAME=TEXT`` and ``NAME:=JSON`` to a table. Raises WrongUsage."""
    from leveret.protocol.amqp.plain import value_of
    from leveret.protocol.amqp.table import encode_table

    table: Table = parse_assignments(given, option, value_of)
    try:
        encode_table(table)
    except (ValueError, TypeError) as error:
        raise WrongUsage(f"{option}: {error}") from None
    return table


def _expiration(text: str) -> str:
    """Convert a duration to a text of milliseconds, the form of AMQP."""
    if text.isascii() and text.isdigit():
        return text
    try:
        return str(parse_duration(text))
    except ValueError as error:
        raise WrongUsage(f"--expiration: {error}") from None
