"""What the commands over the management API share: options, and how objects are printed."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from protocol.json_text import dump_json
from router.cli.api import Api, NotThere, api_option
from router.cli.failure import Failure, WrongUsage
from router.cli.terminal import printable

F = TypeVar("F", bound=Callable[..., Any])
Object = Mapping[str, Any]
DEFAULT_VHOST = "/"

# Of no use to a person: they are in --format json.
HIDDEN = ("_details", "garbage_collection", "backing_queue_status", "message_stats", "samples", "_ranges")


class Column(NamedTuple):
    """A column: its heading, and where the value is, as a path of names or as a function."""

    heading: str
    value: str | Callable[[Object], Any]
    number: bool = False

    def of(self, row: Object) -> str:
        """The cell of an object."""
        value = self.value(row) if callable(self.value) else at(row, self.value)
        return shown(value)


def at(row: Object, path: str) -> Any:
    """What stands at a path such as ``message_stats.publish_details.rate``; None where there is nothing."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def shown(value: Any) -> str:
    """A value for a terminal."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case str():
            return printable(value)
    return printable(dump_json(value)) if value or value == 0 else ""


def managed(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--api``, and give the command the API in its place."""

    @api_option
    @wraps(command)
    def run(*args: Any, api_url: str | None, **kwargs: Any) -> None:
        command(Api(api_url), *args, **kwargs)

    return run


def vhost_option(command: F) -> F:
    """``--vhost``, the default virtual host if not given."""
    return click.option("--vhost", default=DEFAULT_VHOST, show_default=True, metavar="NAME")(command)


def any_vhost_option(command: F) -> F:
    """``--vhost``, every one if not given."""
    return click.option("--vhost", metavar="NAME", help="Of this virtual host alone.")(command)


def format_option(command: F) -> F:
    """``--format table|json``."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(("table", "json")),
        default="table",
        show_default=True,
        help="For people, or all that the API tells.",
    )(command)


def argument_option(command: F) -> F:
    """``--argument``, as often as there are."""
    return click.option(
        "--argument", "arguments", metavar="NAME=TEXT", multiple=True,
        help="NAME:=JSON for a number, true, a list, ... May be repeated.",
    )(command)  # fmt: skip


def parse_arguments(given: Sequence[str], option: str = "--argument") -> dict[str, Any]:
    """``NAME=TEXT`` and ``NAME:=JSON`` as an object. Raises WrongUsage."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.removesuffix(":"):
            raise WrongUsage(f"{option} wants NAME=TEXT or NAME:=JSON, not {text!r}")
        if not name.endswith(":"):
            found[name] = value
            continue
        try:
            found[name[:-1]] = json.loads(value)
        except ValueError as error:
            raise WrongUsage(f"{option} {text}: {error}; for plain text write {name[:-1]}={value}") from None
    return found


def show_list(rows: Iterable[Object], columns: Sequence[Column], form: str) -> None:
    """Print objects: a table, or a JSON array of all that is known of each."""
    if form == "json":
        show_json(list(rows))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table(rows, columns))


def table(rows: Iterable[Object], columns: Sequence[Column]) -> Any:
    """A table of objects for rich, in which names are shown whole."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column.heading, justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(column.of(row)) for column in columns))
    return made


def show_object(found: Object, form: str) -> None:
    """Print one object: a line for each thing that is known of it, or JSON."""
    if form == "json":
        show_json(found)
        return
    for name, value in found.items():
        if not name.endswith(HIDDEN) and value not in (None, {}, []):
            click.echo(f"{printable(name)}: {shown(value)}")


def show_json(value: Any) -> None:
    """Print JSON, readable and in one piece."""
    sys.stdout.buffer.write(dump_json(value, indent=2).encode() + b"\n")
    sys.stdout.buffer.flush()


def vhost_path(kind: str, vhost: str | None) -> tuple[str, ...]:
    """The path of a listing, of one virtual host or of all."""
    return (kind,) if vhost is None else (kind, vhost)


def listed(api: Api, *path: str, **query: str | int) -> list[Object]:
    """A list that the API has; of a virtual host that must be there."""
    try:
        found: list[Object] = api.get(*path, **query)
    except NotThere:
        raise Failure(f"there is no virtual host {path[-1]!r}; `leveret vhost list` shows them") from None
    return found


def one(kind: str, name: str, vhost: str | None, ask: Callable[[], Any]) -> Any:
    """What is asked of one object; Failure that names it when it is not there."""
    try:
        return ask()
    except NotThere:
        where = "" if vhost is None else f" in virtual host {vhost!r}"
        raise Failure(f"there is no {kind} {name!r}{where}; `leveret {kind} list` shows them") from None


def rate(path: str) -> str:
    """The path of a rate among the message statistics."""
    return f"message_stats.{path}_details.rate"
