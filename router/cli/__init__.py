"""Entry point of the ``leveret`` command; each subcommand is a module of its own.

Responsible for flags, exit statuses and output. A subcommand imports its dependencies when it runs, so that
all of them start quickly. Exit status 0 is success, 1 a failure, 2 wrong usage or settings.
"""

import gc

import click

from leveret.router.cli.lazy_group import LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy={
        "serve": "leveret.router.cli.serve:serve",
        "ping": "leveret.router.cli.ping:ping",
        "store": "leveret.router.cli.store:store",
        "stream": "leveret.router.cli.stream:stream",
        "publish": "leveret.router.cli.publish:publish",
        "consume": "leveret.router.cli.consume:consume",
        "get": "leveret.router.cli.get:get",
        "tap": "leveret.router.cli.tap:tap",
        "work": "leveret.router.cli.work:work",
        "context": "leveret.router.cli.context:context",
        "status": "leveret.router.cli.manage.status:status",
        "top": "leveret.router.cli.manage.top:top",
        "queue": "leveret.router.cli.manage.queues:queue",
        "exchange": "leveret.router.cli.manage.exchanges:exchange",
        "binding": "leveret.router.cli.manage.bindings:binding",
        "connection": "leveret.router.cli.manage.clients:connection",
        "channel": "leveret.router.cli.manage.clients:channel",
        "consumer": "leveret.router.cli.manage.clients:consumer",
        "user": "leveret.router.cli.manage.users:user",
        "permission": "leveret.router.cli.manage.users:permission",
        "vhost": "leveret.router.cli.manage.vhosts:vhost",
        "policy": "leveret.router.cli.manage.policies:policy",
        "outbox": "leveret.router.cli.outbox:outbox",
        "definitions": "leveret.router.cli.manage.definitions:definitions",
        "bench": "leveret.router.cli.bench:bench",
        "completion": "leveret.router.cli.completion:completion",
    },
    aliases={"overview": "status"},
)
@click.version_option(package_name="leveret", message="%(prog)s %(version)s")
def main() -> None:
    """leveret, a message broker that speaks AMQP 0-9-1 as RabbitMQ does.

    serve runs the broker, and store reads its data directory. publish, consume, work and bench connect to any
    AMQP 0-9-1 broker. The others use a management API, leveret's or RabbitMQ's. LEVERET_URL or a context
    selects the broker.
    """
    gc.enable()
