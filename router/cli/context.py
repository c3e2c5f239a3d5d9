"""``leveret context``: add, list, select and remove named brokers."""

import sys
from urllib.parse import quote

import click

from leveret.router.cli.api import Api
from leveret.router.cli.context_store import Context, contexts_file, load_contexts, save_contexts
from leveret.router.cli.endpoints import derive, split_url, without_password
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.listing import Listing, list_options
from leveret.router.cli.table import Column

COLUMNS = (
    Column("in use", lambda row: "*" if row["in_use"] else ""),
    Column("name", "name", named=True),
    Column("url", "url"),
    Column("api", "api", rank=1),
)


@click.group()
def context() -> None:
    """Name brokers, and choose the broker that commands use.

    `--context NAME` or LEVERET_CONTEXT selects a broker for one command, `leveret context use NAME` for all
    later commands. --url, --api and the variables LEVERET_URL and LEVERET_API have priority over the context
    in use.
    """


@context.command("list")
@list_options(COLUMNS)
def list_contexts(listing: Listing) -> None:
    """List the named brokers. Passwords are not shown."""

    def fetch() -> list[dict[str, object]]:
        contexts = load_contexts()
        return [
            {
                "name": name,
                "url": without_password(endpoints.url),
                "api": without_password(endpoints.api),
                "in_use": name == contexts.current,
            }
            for name, each in sorted(contexts.known.items())
            for endpoints in (derive(each.url, each.api),)
        ]

    listing.show(fetch)


@context.command()
@click.argument("name")
@click.option("--url", metavar="URL", help="amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS.")
@click.option("--api", "api_url", metavar="URL", help="http://USER:PASSWORD@HOST:PORT, or https:// for TLS.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--use", "use_it", is_flag=True, help="Use this context from now on.")
def add(name: str, url: str | None, api_url: str | None, password_stdin: bool, use_it: bool) -> None:
    """Name a broker, or change the URLs of NAME.

    Give --url, --api or both; one is derived from the other. If a URL has a user and no password, the command
    asks for the password, which keeps it off the command line. Passwords are stored in
    $XDG_CONFIG_HOME/leveret/contexts.json, a file that only you can read.
    """
    if url is None and api_url is None:
        raise click.UsageError("give --url, --api or both")
    if not name or name.startswith("-"):
        raise WrongUsage(f"{name!r} cannot be the name of a context")
    incomplete = [each for each in (url, api_url) if each is not None and _lacks_password(each)]
    if password_stdin or incomplete:
        password = _read_password(password_stdin)
        url, api_url = _with_password(url, password), _with_password(api_url, password)
    _check(url, api_url)
    contexts = load_contexts()
    changed = name in contexts.known
    contexts.known[name] = Context(url, api_url)
    if use_it:
        contexts.current = name
    save_contexts(contexts)
    verb = "changed" if changed else "added"
    click.echo(f"context {name!r}: {verb}{', and in use' if contexts.current == name else ''}")


@context.command()
@click.argument("name", required=False)
@click.option("--none", "no_context", is_flag=True, help="Stop using a context.")
def use(name: str | None, no_context: bool) -> None:
    """Use the broker NAME for all later commands that do not name another one."""
    if (name is None) != no_context:
        raise click.UsageError("give a NAME, or --none")
    contexts = load_contexts()
    if name is not None:
        contexts.find(name)
    contexts.current = name
    save_contexts(contexts)
    click.echo("no context is in use" if name is None else f"context {name!r}: in use")


@context.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the context NAME and its password."""
    contexts = load_contexts()
    contexts.find(name)
    del contexts.known[name]
    if contexts.current == name:
        contexts.current = None
    save_contexts(contexts)
    click.echo(f"context {name!r}: removed from {contexts_file()}")


def _check(url: str | None, api_url: str | None) -> None:
    """Raise WrongUsage for an invalid URL."""
    from leveret.router.cli.amqp import find_broker

    endpoints = derive(url, api_url)
    find_broker(endpoints.url, None)
    Api(endpoints.api)


def _lacks_password(url: str) -> bool:
    parts = split_url(url)
    return bool(parts.username) and parts.password is None


def _with_password(url: str | None, password: str) -> str | None:
    """Put the password into a URL that has a user and no password."""
    if url is None or not _lacks_password(url):
        return url
    parts = split_url(url)
    login, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login.removesuffix(':')}:{quote(password, safe='')}@{host}").geturl()


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read().removesuffix("\n")
    if not sys.stdin.isatty():
        raise WrongUsage("the URL has a user and no password: --password-stdin reads it from standard input")
    password: str = click.prompt("Password", hide_input=True, err=True)
    return password
