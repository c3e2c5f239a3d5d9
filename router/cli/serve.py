"""``leveret serve``: load the settings, set up logging and run the broker until it is stopped."""

import contextlib
import gc
import os
import resource
import sys
from collections.abc import Callable
from functools import partial

import click

from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.configuration import GivenSetting, SettingsError, load_settings

LISTENERS = {
    "amqp": "Address for AMQP; may be repeated.",
    "stomp": "Address for STOMP; may be repeated.",
    "http": "Address for HTTP and WebSocket; may be repeated.",
    "web_stomp": "Address for STOMP over WebSocket only; may be repeated.",
    "amqps": "Address for AMQP over TLS; may be repeated.",
    "stomps": "Address for STOMP over TLS; may be repeated.",
    "https": "Address for HTTP and WebSocket over TLS; may be repeated.",
    "web_stomps": "Address for STOMP over WebSocket and TLS; may be repeated.",
}

FLAGS = {"store.url": "--store", "cluster.node": "--node", "cluster.advertise": "--advertise"}


def _flag(listener: str) -> str:
    return "--" + listener.replace("_", "-")


def _listener_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for each listener to the command."""
    for name, text in reversed(LISTENERS.items()):
        option = click.option(_flag(name), name, metavar="HOST:PORT", multiple=True, help=text)
        command = option(command)
    return command


@click.command()
@click.option("--config", metavar="FILE", help="File of settings in TOML.")
@click.option("--data", metavar="DIR", help='Data directory; ":memory:" stores nothing.')
@click.option("--store", metavar="URL", help="PostgreSQL to store everything in, instead of --data.")
@click.option("--node", metavar="NAME", help="Name of this broker in its cluster, see --store.")
@click.option("--advertise", metavar="HOST:PORT", help="Address at which other brokers reach --amqp.")
@_listener_flags
@click.option(
    "--definitions", metavar="FILE", help="Definitions (users, queues, ...) to import at the start."
)
@click.option("--log-format", metavar="FORMAT", help="console or json.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Any other setting; may be repeated."
)
def serve(
    *,
    config: str | None,
    data: str | None,
    store: str | None,
    node: str | None,
    advertise: str | None,
    definitions: str | None,
    log_format: str | None,
    log_level: str | None,
    assignments: tuple[str, ...],
    **listen: tuple[str, ...],
) -> None:
    """Run the broker until SIGINT or SIGTERM.

    Every setting can also be given in the file or as an environment variable: [amqp] heartbeat is
    LEVERET_AMQP__HEARTBEAT. A flag wins over the environment, which wins over the file. The addresses of all
    listeners are printed on standard output; the log goes to standard error.
    """
    flags = [_assignment(text) for text in assignments]
    flags += [
        GivenSetting(key, value, FLAGS.get(key) or "--" + key.replace(".", "-"))
        for key, value in (
            ("data", data),
            ("store.url", store),
            ("cluster.node", node),
            ("cluster.advertise", advertise),
            ("definitions", definitions),
            ("log.format", log_format),
            ("log.level", log_level),
        )
        if value is not None
    ]
    flags += [
        GivenSetting(f"listen.{name}", ",".join(addresses), _flag(name))
        for name, addresses in listen.items()
        if addresses
    ]
    try:
        settings = load_settings(config, os.environ, flags)
    except SettingsError as error:
        raise WrongUsage(str(error)) from None

    # Imported here, so that help and refused settings are quick. Garbage collection is off meanwhile, because
    # imported modules are never garbage.
    gc.disable()
    import trio

    from leveret.router import logging
    from leveret.router.server.broker_lifecycle import STARTED_ANEW, StartAnew, StartupError, StoreFailed
    from leveret.router.server.main import serve as run

    _open_standard_streams()
    logging.configure(settings.log)
    _raise_file_limit()
    try:
        trio.run(partial(run, settings, announce=_announce))
    except (StartupError, StoreFailed) as error:
        raise Failure(str(error)) from None
    except StartAnew:
        os.environ[STARTED_ANEW] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _assignment(text: str) -> GivenSetting:
    """Parse ``KEY=VALUE`` as a flag. Raises WrongUsage if there is no "="."""
    key, equals, value = text.partition("=")
    if not equals:
        raise WrongUsage(f"--set needs KEY=VALUE, not {text!r}")
    return GivenSetting(key.strip(), value, "--set")


def _open_standard_streams() -> None:
    """Open closed descriptors of standard streams as /dev/null.

    Otherwise a file of the data directory would get such a number, and what C libraries write to standard
    error would be written into that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _announce(text: str) -> None:
    """Print the listeners. A standard output that cannot be written, as on a full disk, stops no broker."""
    try:
        print(text, flush=True)
    except OSError as error:
        import structlog

        structlog.get_logger().warning("cannot write to standard output", error=str(error))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # the text is flushed there at the exit


def _raise_file_limit() -> None:
    """Raise the limit of open files to its maximum: every connection is a file."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS calls its hard limit infinite, and then refuses that value
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
