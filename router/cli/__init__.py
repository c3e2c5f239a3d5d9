"""The ``leveret`` command: one module for each subcommand, put together here.

Owns flags, exit statuses and what is printed. A subcommand imports what it needs when it runs, so that all of
them start quickly. Exit status 0 is success, 1 a failure, 2 wrong usage or settings.
"""

import click

from router.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    lazy={
        "serve": "router.cli.serve:serve",
        "ping": "router.cli.ping:ping",
        "store": "router.cli.store:store",
        "stream": "router.cli.stream:stream",
        "publish": "router.cli.publish:publish",
        "consume": "router.cli.consume:consume",
        "get": "router.cli.get:get",
        "tap": "router.cli.tap:tap",
        "work": "router.cli.work:work",
        "context": "router.cli.context:context",
        "status": "router.cli.manage.status:status",
        "top": "router.cli.manage.top:top",
        "queue": "router.cli.manage.queues:queue",
        "exchange": "router.cli.manage.exchanges:exchange",
        "binding": "router.cli.manage.bindings:binding",
        "connection": "router.cli.manage.clients:connection",
        "channel": "router.cli.manage.clients:channel",
        "consumer": "router.cli.manage.clients:consumer",
        "user": "router.cli.manage.users:user",
        "permission": "router.cli.manage.users:permission",
        "vhost": "router.cli.manage.vhosts:vhost",
        "policy": "router.cli.manage.policies:policy",
        "definitions": "router.cli.manage.definitions:definitions",
        "bench": "router.cli.bench:bench",
        "completion": "router.cli.completion:completion",
    },
    aliases={"overview": "status"},
)
@click.version_option(package_name="leveret", message="%(prog)s %(version)s")
def main() -> None:
    """leveret, a message broker that speaks AMQP 0-9-1 as RabbitMQ does.

    serve runs the broker, and store looks into its data directory. publish, consume, work and bench talk to
    any AMQP 0-9-1 broker. The others ask a management API, leveret's or RabbitMQ's. LEVERET_URL or a context
    says where the broker is.
    """
