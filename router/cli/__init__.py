"""The ``leveret`` command: one module for each subcommand, put together here.

Owns flags, exit statuses and what is printed. A subcommand imports what it needs when it runs, so that all of
them start quickly. Exit status 0 is success, 1 a failure, 2 wrong usage or settings.
"""

import click

from router.cli.bench import bench
from router.cli.ping import ping
from router.cli.serve import serve
from router.cli.store import store


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leveret", message="%(prog)s %(version)s")
def main() -> None:
    """leveret, a message broker that speaks AMQP 0-9-1 as RabbitMQ does."""


main.add_command(serve)
main.add_command(ping)
main.add_command(store)
main.add_command(bench)
