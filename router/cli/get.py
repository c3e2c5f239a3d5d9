"""``leveret get``: print the first messages of a queue, without removing them or, with --take, removing
them.
"""

from functools import partial
from typing import TYPE_CHECKING

import click

from leveret.router.cli.amqp import broker_options, run_connected
from leveret.router.cli.api import Api, NotReachable
from leveret.router.cli.consume import SETTLE, Printer, form_option, write
from leveret.router.cli.endpoints import find_endpoints
from leveret.router.cli.failure import Failure, WrongUsage
from leveret.router.cli.message_output import render
from leveret.router.cli.peek import MOST, MOST_BYTES, peek
from leveret.router.cli.unexpected_answers import unexpected_answers_fail

if TYPE_CHECKING:
    from leveret.router.client.connection import BrokerConnection


@click.command()
@click.argument("queue")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help=f"Number of messages; at most {MOST} without --take.",
)
@click.option("--take", is_flag=True, help="Remove the messages from the queue, over AMQP.")
@click.option(
    "--settle",
    type=click.Choice(SETTLE),
    help="With --take: acknowledge (the default), reject (to the dead-letter exchange), or requeue, which "
    "counts as a delivery.",
)
@form_option
@broker_options
@click.pass_context
def get(
    ctx: click.Context,
    *,
    queue: str,
    count: int,
    take: bool,
    settle: str | None,
    form: str,
    url: str,
    vhost: str | None,
) -> None:  # fmt: skip
    """Print the first messages of QUEUE, without waiting for more. Status 1 if the queue is empty.

    The messages stay in the queue and do not count as delivered. This needs the management API of leveret,
    and a user with a tag for it. With --take the messages are fetched over AMQP, from any broker.
    """
    if take or settle is not None:
        printer = Printer(queue, form, settle or "ack")
        run_connected(url, vhost, f"get {queue}", partial(_take, printer, count))
        return
    if count > MOST:
        raise WrongUsage(f"at most {MOST} messages are shown without --take")
    endpoints = find_endpoints(ctx)
    api = Api(endpoints.api)
    try:
        with unexpected_answers_fail(api):
            show_peeked(api, endpoints.vhost if vhost is None else vhost, queue, count, form)
    except NotReachable as error:
        raise Failure(
            f"{error.message}\n`leveret get --take` takes messages over AMQP, without the management API"
        ) from None


def show_peeked(api: Api, vhost: str, queue: str, count: int, form: str, **query: str | int | None) -> None:
    """Print messages without removing them; ``query`` as in ``peek``. Raises Failure if there are none."""
    found = peek(api, vhost, queue, count, **query)
    if not found:
        chosen = any(query.get(name) is not None for name in ("selector", "from"))
        raise Failure(
            f"no ready message of queue {queue!r} matches" if chosen else f"queue {queue!r} is empty"
        )
    write(b"".join(render(each, form) for each in found))
    if len(found) < count and sum(each["body_bytes"] for each in found) >= MOST_BYTES:
        from leveret.router.cli.amqp import notice

        notice(
            f"stopped after {len(found)} messages, whose bodies reach {MOST_BYTES >> 20} MiB; "
            f"`leveret queue peek --from {found[-1]['position'] + 1}` shows more"
        )


async def _take(printer: Printer, count: int, connection: "BrokerConnection") -> None:
    channel = await connection.channel()
    for number in range(count):
        found = await channel.get(printer.queue)
        if found is None:
            if not number:
                raise Failure(f"queue {printer.queue!r} is empty")
            return
        await printer.show(channel, [found])
