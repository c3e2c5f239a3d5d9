"""``leveret consume``: print the messages of a queue as they arrive."""

import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from leveret.router.cli.amqp import broker_options, run_connected
from leveret.router.cli.failure import WrongUsage
from leveret.router.cli.formats import format_option
from leveret.router.cli.message_output import FORMATS, shown
from leveret.router.cli.properties import parse_headers
from leveret.router.cli.terminal import Duration

if TYPE_CHECKING:
    from leveret.protocol.amqp.command import Delivery
    from leveret.protocol.amqp.table import Value
    from leveret.router.client.channel import BrokerChannel
    from leveret.router.client.connection import BrokerConnection

SETTLE = ("ack", "requeue", "reject")
BATCH = 200  # messages that are printed and settled together

form_option = format_option(FORMATS, "For people, a JSON object a line, or the bodies alone.")


@click.command()
@click.argument("queue")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@click.option(
    "--idle", type=Duration(), metavar="DURATION", help="Stop after this time without a message, such as 5s."
)
@click.option(
    "--settle",
    type=click.Choice(SETTLE),
    default="ack",
    show_default=True,
    help="ack: remove the messages; requeue: put them back at the end; reject: dead-letter them.",
)
@click.option("--prefetch", type=click.IntRange(1, 65535), default=BATCH, show_default=True, metavar="N")
@click.option("--exclusive", is_flag=True, help="Be the queue's only consumer.")
@click.option(
    "--argument", "arguments", metavar="NAME=TEXT", multiple=True, help="An argument such as x-priority:=5."
)
@click.option(
    "--offset",
    metavar="OFFSET",
    help="Where to start in a stream: first, last, next, a number, or an age such as 1h.",
)
@click.option(
    "--consumer-name",
    metavar="NAME",
    help="Store the position in a stream under this name, and continue there.",
)
@click.option(
    "--offset-if-new", metavar="OFFSET", help="With --consumer-name: where to start if the name is new."
)
@form_option
@broker_options
def consume(
    *,
    queue: str,
    count: int | None,
    idle: int | None,
    settle: str,
    prefetch: int,
    exclusive: bool,
    arguments: tuple[str, ...],
    offset: str | None,
    consumer_name: str | None,
    offset_if_new: str | None,
    form: str,
    url: str | None,
    vhost: str | None,
) -> None:  # fmt: skip
    """Print the messages of QUEUE as they arrive, until Ctrl-C.

    A message is acknowledged once it is printed. With --settle requeue all messages are held, and return to
    the queue at the end, marked as redelivered.
    """
    wanted = partial(
        _consume,
        printer=Printer(queue, form, settle),
        prefetch=0 if settle == "requeue" else min(prefetch, count or prefetch),
        exclusive=exclusive,
        arguments={
            **parse_headers(arguments, "--argument"),
            **stream_arguments(offset, consumer_name, offset_if_new),
        },
        count=count,
        idle=idle,
    )
    run_connected(url, vhost, f"consume {queue}", wanted)


def stream_arguments(
    offset: str | None, consumer_name: str | None, offset_if_new: str | None
) -> "dict[str, Value]":
    """Return the arguments of a consumer of a stream. Raises WrongUsage."""
    if offset_if_new is not None and (offset is not None or consumer_name is None):
        raise WrongUsage("--offset-if-new goes with --consumer-name, and not with --offset")
    found: dict[str, Value] = {}
    for name, value in (("x-stream-offset", offset), ("x-stream-offset-if-new", offset_if_new)):
        if value is not None:
            found[name] = int(value) if re.fullmatch("[0-9]{1,18}", value) else value
    if consumer_name is not None:
        found["x-stream-consumer-name"] = consumer_name
    return found


class Printer:
    """Prints deliveries and settles them, in that order."""

    def __init__(self, queue: str, form: str, settle: str) -> None:
        self.queue = queue
        self._form = form
        self._settle = settle

    async def show(self, channel: "BrokerChannel", deliveries: "list[Delivery]") -> None:
        """Print and then settle these deliveries. Printing runs in a thread, where a slow reader may block
        it.
        """
        import trio

        await trio.to_thread.run_sync(write, b"".join(shown(each, self._form) for each in deliveries))
        last = deliveries[-1].method.delivery_tag  # type: ignore[union-attr]  # never a basic.return
        if self._settle == "ack":
            channel.ack(last, multiple=True)
        elif self._settle == "reject":
            from leveret.protocol.amqp import methods as m

            channel.send(m.BasicNack(last, multiple=True, requeue=False))


def write(text: bytes) -> None:
    """Print and flush."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


async def _consume(
    connection: "BrokerConnection",
    *,
    printer: Printer,
    count: int | None,
    idle: int | None,
    **options: Any,
) -> None:
    import trio

    channel = await connection.channel()
    await channel.consume(printer.queue, **options)
    shown_so_far = 0
    while count is None or shown_so_far < count:
        with trio.move_on_after(float("inf") if idle is None else idle / 1000) as waited:
            first = await channel.delivery()
        if waited.cancelled_caught:
            return
        batch = [first]
        most = BATCH if count is None else min(BATCH, count - shown_so_far)
        while len(batch) < most and (more := channel.delivery_nowait()) is not None:
            batch.append(more)
        await printer.show(channel, batch)
        shown_so_far += len(batch)
