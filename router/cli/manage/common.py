"""Helpers of the commands over the management API: options, output of one object, reports of changes."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from leveret.protocol.json_text import dump_json
from leveret.router.cli.api import Api, ObjectNotFound, api_option
from leveret.router.cli.endpoints import find_endpoints
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.formats import format_option
from leveret.router.cli.table import Object, RichTable, shown
from leveret.router.cli.terminal import printable
from leveret.router.cli.unexpected_answers import unexpected_answers_fail

Command = Callable[..., None]
_QUIET = "leveret.quiet"

# Fields of little use to people; --format json shows them.
HIDDEN = ("_details", "garbage_collection", "backing_queue_status", "message_stats", "samples", "_ranges")

table = RichTable
show_format_option = format_option(("table", "json"), "Lines for people, or all fields as JSON.")


def managed(command: Command) -> Command:
    """Add the options that name a broker, and give the command its API."""

    @api_option
    @wraps(command)
    def run(*args: Any, api_url: str, **kwargs: Any) -> None:
        api = Api(api_url)
        with unexpected_answers_fail(api):
            command(api, *args, **kwargs)

    return run


def changing(command: Command) -> Command:
    """Add ``--quiet``, which ``report`` respects, and the options of ``managed`` to a command with
    changes.
    """
    return click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_note_quiet,
        help="Do not print what was changed.",
    )(managed(command))  # fmt: skip


def _note_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Keep the option's value; click calls this."""
    ctx.meta[_QUIET] = value
    return value


def report(text: str) -> None:
    """Print a line about a change, unless ``--quiet`` was given."""
    if not click.get_current_context().meta.get(_QUIET):
        click.echo(printable(text))


def vhost_option(command: Command) -> Command:
    """Add ``--vhost``; without it the command gets the virtual host of the AMQP URL."""

    @wraps(command)
    def run(*args: Any, vhost: str | None, **kwargs: Any) -> None:
        if vhost is None:
            vhost = find_endpoints(click.get_current_context()).vhost
        command(*args, vhost=vhost, **kwargs)

    return click.option(
        "--vhost", metavar="NAME",
        help="The virtual host; without it that of the AMQP URL, which is / by default.",
    )(run)  # fmt: skip


def any_vhost_option(command: Command) -> Command:
    """Add ``--vhost``; without it the command gets None, which stands for every virtual host."""
    return click.option("--vhost", metavar="NAME", help="Only this virtual host.")(command)


def argument_option(command: Command) -> Command:
    """Add ``--argument``, which may be repeated; the command gets ``arguments``."""
    return click.option(
        "--argument", "arguments", metavar="NAME=TEXT", multiple=True,
        help="NAME:=JSON for a number, true, a list, ... May be repeated.",
    )(command)  # fmt: skip


def yes_option(command: Command) -> Command:
    """Add ``--yes``, for a command that asks before it deletes; the command gets ``yes``."""
    return click.option("--yes", is_flag=True, help="Do not ask.")(command)


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal. Raises click.Abort for no, WrongUsage without a terminal."""
    if yes:
        return
    if not _can_ask():
        raise WrongUsage("--yes is needed without a terminal to ask at")
    click.confirm(printable(question), abort=True, err=True)


def _can_ask() -> bool:
    return sys.stdin.isatty()


def show_object(found: Object, form: str) -> None:
    """Print one object: a line for each field, or JSON."""
    if form == "json":
        show_json(found)
        return
    for name, value in found.items():
        if not name.endswith(HIDDEN) and value not in (None, {}, []):
            click.echo(f"{printable(name)}: {shown(value)}")


def show_json(value: Any) -> None:
    """Print JSON with indentation, written in one piece."""
    sys.stdout.buffer.write(dump_json(value, indent=2).encode() + b"\n")
    sys.stdout.buffer.flush()


def vhost_path(kind: str, vhost: str | None) -> tuple[str, ...]:
    """Return the path of a listing, of one virtual host or of all."""
    return (kind,) if vhost is None else (kind, vhost)


def listed(api: Api, *path: str, **query: str | int) -> list[Object]:
    """Return a list from the API. Raises Failure if its virtual host does not exist."""
    try:
        found: list[Object] = api.get(*path, **query)
    except ObjectNotFound:
        raise Failure(f"there is no virtual host {path[-1]!r}; `leveret vhost list` shows them") from None
    return found


def one(kind: str, name: str, vhost: str | None, ask: Callable[[], Any]) -> Any:
    """Request one object. Raises Failure, which names it, if it does not exist."""
    try:
        return ask()
    except ObjectNotFound:
        where = "" if vhost is None else f" in virtual host {vhost!r}"
        raise Failure(f"there is no {kind} {name!r}{where}; `leveret {kind} list` shows them") from None


def rate(path: str) -> str:
    """Return the path of a rate among the message statistics."""
    return f"message_stats.{path}_details.rate"
