"""``leveret serve``: gather the settings, set up logging and run the broker until it is told to stop."""

import contextlib
import gc
import os
import resource
from collections.abc import Callable
from functools import partial

import click

from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.configuration import Given, SettingsError, load_settings

LISTENERS = {
    "amqp": "Where to listen; may be repeated.",
    "stomp": "Where to listen for STOMP; likewise.",
    "http": "Where HTTP and WebSocket listen; likewise.",
    "web_stomp": "Where STOMP over WebSocket alone listens; likewise.",
    "amqps": "The same as --amqp, over TLS.",
    "stomps": "The same as --stomp, over TLS.",
    "https": "The same as --http, over TLS.",
    "web_stomps": "The same as --web-stomp, over TLS.",
}


def _flag(listener: str) -> str:
    return "--" + listener.replace("_", "-")


def _listens(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command a flag for each listener."""
    for name, text in reversed(LISTENERS.items()):
        option = click.option(_flag(name), name, metavar="HOST:PORT", multiple=True, help=text)
        command = option(command)
    return command


@click.command()
@click.option("--config", metavar="FILE", help="Settings in TOML.")
@click.option("--data", metavar="DIR", help='Where everything is kept; ":memory:" keeps nothing.')
@_listens
@click.option("--definitions", metavar="FILE", help="Users, exchanges, queues, ... to import at the start.")
@click.option("--log-format", metavar="FORMAT", help="console or json.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Any other setting; may be repeated."
)
def serve(
    *,
    config: str | None,
    data: str | None,
    definitions: str | None,
    log_format: str | None,
    log_level: str | None,
    assignments: tuple[str, ...],
    **listen: tuple[str, ...],
) -> None:
    """Run the broker until SIGINT or SIGTERM.

    Every setting can also be given in the file or as an environment variable: [amqp] heartbeat is
    LEVERET_AMQP__HEARTBEAT. A flag wins over the environment, and that over the file. Each address
    that is listened on is announced on standard output; the log goes to standard error.
    """
    flags = [_assignment(text) for text in assignments]
    flags += [
        Given(key, value, "--" + key.replace(".", "-"))
        for key, value in (
            ("data", data),
            ("definitions", definitions),
            ("log.format", log_format),
            ("log.level", log_level),
        )
        if value is not None
    ]
    flags += [
        Given(f"listen.{name}", ",".join(addresses), _flag(name))
        for name, addresses in listen.items()
        if addresses
    ]
    try:
        settings = load_settings(config, os.environ, flags)
    except SettingsError as error:
        raise WrongUsage(str(error)) from None

    # Not before it is known that there is a broker to run: help and refusals come at once. What is imported
    # stays, so looking for garbage meanwhile is in vain.
    gc.disable()
    import trio

    from leveret.router import logging
    from leveret.router.server import main as run

    logging.configure(settings.log)
    _raise_file_limit()
    try:
        trio.run(partial(run.serve, settings, announce=partial(print, flush=True)))
    except (run.StartupError, run.StoreFailed) as error:
        raise Failure(str(error)) from None


def _assignment(text: str) -> Given:
    """``KEY=VALUE`` as a flag; WrongUsage when there is no "="."""
    key, equals, value = text.partition("=")
    if not equals:
        raise WrongUsage(f"--set wants KEY=VALUE, not {text!r}")
    return Given(key.strip(), value, "--set")


def _raise_file_limit() -> None:
    """Let the process open as many files as it may: every connection is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS calls its hard limit infinite, and then refuses that
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
