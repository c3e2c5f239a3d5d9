"""``leveret tap``: watch published and delivered messages through the firehose.

The broker publishes a copy of every message to ``amq.rabbitmq.trace`` (RabbitMQ's firehose). No queue is
bound to the watched exchange itself, where a binding would change the behaviour of hash and random exchanges,
of alternate exchanges and of mandatory messages.
"""

from typing import TYPE_CHECKING, Any

import click

from leveret.router.cli.amqp import broker_options, find_broker, notice, run_connected
from leveret.router.cli.api import Api, api_option
from leveret.router.cli.consume import write
from leveret.router.cli.terminal import Duration

if TYPE_CHECKING:
    from leveret.protocol.amqp.message import Message
    from leveret.router.cli.tracing import Tracing
    from leveret.router.client.channel import BrokerChannel
    from leveret.router.client.connection import BrokerConnection

RESOURCE_LOCKED = 405
BACKLOG, BACKLOG_BYTES = 10_000, 64 << 20  # copies that wait for a slow reader; the oldest ones are dropped


@click.command()
@click.argument("exchange", required=False)
@click.argument("pattern", default="#")
@click.option("--queue", metavar="NAME", help="Watch deliveries of this queue, not publishes.")
@click.option("--deliveries", is_flag=True, help="Watch deliveries too.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="Stop after N messages.")
@click.option(
    "--idle", type=Duration(), metavar="DURATION", help="Stop after this time without a message, such as 5s."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("pretty", "json")),
    default="pretty",
    show_default=True,
    help="For people, or a JSON object a line.",
)
@click.option(
    "--switch/--no-switch",
    default=True,
    show_default=True,
    help="Switch tracing on, and off at the end, through the API.",
)
@api_option
@broker_options
def tap(
    *,
    exchange: str | None,
    pattern: str,
    queue: str | None,
    deliveries: bool,
    count: int | None,
    idle: int | None,
    form: str,
    switch: bool,
    api_url: str | None,
    url: str | None,
    vhost: str | None,
) -> None:
    """Watch the messages published to EXCHANGE, until Ctrl-C; without it, those to any exchange.

    Only messages whose routing key matches PATTERN are shown, where * is one word and # any number of words.
    Nothing is bound to the exchange, so that routing does not change.
    """
    from functools import partial

    from leveret.router.cli.tracing import Tracing

    wanted = CopyFilter(exchange, pattern, queue, deliveries)
    tracing = Tracing(Api(api_url), find_broker(url, vhost).vhost) if switch else None
    work = partial(_watch, wanted=wanted, tracing=tracing, count=count, idle=idle, form=form)
    run_connected(url, vhost, "tap", work)


class CopyFilter:
    """Filter of the copies to show."""

    def __init__(self, exchange: str | None, pattern: str, queue: str | None, deliveries: bool) -> None:
        from leveret.router.exchange.base import Binding
        from leveret.router.exchange.topic import TopicExchange

        self.exchange = exchange
        self.queue = queue
        self.keys = []  # binding keys
        if queue is None:
            self.keys.append("publish.#" if exchange is None else f"publish.{exchange}")
        if queue is not None:
            self.keys.append(f"deliver.{queue}")
        elif deliveries:
            self.keys.append("deliver.#")
        self._topic = TopicExchange("pattern")
        self._topic.add(Binding(self._topic, self._topic, pattern, {}, None))

    def __call__(self, event: dict[str, Any]) -> bool:
        """Return True if a copy is wanted; needed since names may hold wildcards of binding keys."""
        if self.exchange is not None and event["exchange"] != self.exchange:
            return False
        if self.queue is not None and event.get("queue") != self.queue:
            return False
        return any(self._topic.match(key, None) for key in event["routing_keys"])  # type: ignore[arg-type]


async def _watch(
    connection: "BrokerConnection",
    *,
    wanted: CopyFilter,
    tracing: "Tracing | None",
    count: int | None,
    idle: int | None,
    form: str,
) -> None:
    """Bind a temporary queue to the trace exchange, and print the copies while tracing is on."""
    import trio

    from leveret.protocol.amqp import methods as m
    from leveret.protocol.amqp.table import Table
    from leveret.router.cli.tracing import MARK, TRACE

    await _check_names(connection, wanted)
    if tracing is not None:
        await trio.to_thread.run_sync(tracing.look)
    arguments: Table = {"x-max-length": BACKLOG, "x-max-length-bytes": BACKLOG_BYTES}
    mark: Table = {MARK: True} if tracing is not None and tracing.shared else {}
    channel = await connection.channel()
    declared = await channel.call(m.QueueDeclare(exclusive=True, arguments=arguments), m.QueueDeclareOk)
    try:
        for key in wanted.keys:
            await channel.call(m.QueueBind(declared.queue, TRACE, key, arguments=mark), m.QueueBindOk)
        if tracing is not None:
            await trio.to_thread.run_sync(tracing.start)
        await channel.consume(declared.queue, no_ack=True)
        notice("watching")
        await _show_copies(channel, wanted, count, idle, form)
    finally:
        with trio.CancelScope(shield=True):
            if channel.error is None:
                await channel.call(m.QueueDelete(declared.queue), m.QueueDeleteOk)
            if tracing is not None:
                await trio.to_thread.run_sync(tracing.leave)


async def _show_copies(
    channel: "BrokerChannel", wanted: CopyFilter, count: int | None, idle: int | None, form: str
) -> None:
    """Print the wanted copies as they arrive."""
    import trio

    shown = 0
    while count is None or shown < count:
        with trio.move_on_after(float("inf") if idle is None else idle / 1000) as waited:
            delivery = await channel.delivery()
        if waited.cancelled_caught:
            return
        event = describe(delivery.message)
        if wanted(event):
            shown += 1
            await trio.to_thread.run_sync(write, _shown(event, form))


async def _check_names(connection: "BrokerConnection", wanted: CopyFilter) -> None:
    """Raise ChannelEnded if the exchange or queue to watch does not exist."""
    from leveret.protocol.amqp import methods as m
    from leveret.router.client.errors import ChannelEnded

    probe = await connection.channel()
    if wanted.exchange:  # the default exchange always exists, and cannot be declared
        await probe.call(m.ExchangeDeclare(wanted.exchange, passive=True), m.ExchangeDeclareOk)
    if wanted.queue is not None:
        try:
            await probe.call(m.QueueDeclare(wanted.queue, passive=True), m.QueueDeclareOk)
        except ChannelEnded as error:
            if error.code != RESOURCE_LOCKED:  # the queue exists, exclusive to another connection
                raise


def describe(copy: "Message") -> dict[str, Any]:
    """Return a copy from the firehose as an object for JSON."""
    from leveret.protocol.amqp.plain import plain_body, plain_value

    headers: dict[str, Any] = plain_value(copy.headers)
    what, _, name = copy.routing_key.partition(".")
    body, encoding = plain_body(copy.body)
    event: dict[str, Any] = {
        "event": what,
        "exchange": headers.get("exchange_name", ""),
        "routing_keys": headers.get("routing_keys", []),
    }
    if what == "publish":
        event["queues"] = headers.get("routed_queues", [])
    else:
        event["queue"] = name
        event["redelivered"] = bool(headers.get("redelivered"))
    event |= {key: headers.get(key) for key in ("vhost", "connection", "channel", "user")}
    return event | {"properties": headers.get("properties", {}), "body_encoding": encoding, "body": body}


def _shown(event: dict[str, Any], form: str) -> bytes:
    from leveret.router.cli.message_output import as_json, content_lines, shown_name
    from leveret.router.cli.terminal import printable

    if form == "json":
        return as_json(event)
    way = f"{shown_name(event['exchange'])} → {' '.join(map(shown_name, event['routing_keys']))}"
    if event["event"] == "publish":
        queues = ", ".join(map(printable, event["queues"])) or "no queue"
        heading = f"── {way} → {queues}"
    else:
        again = "  redelivered" if event["redelivered"] else ""
        heading = f"── delivered by {printable(event['queue'])}{again}  ({way})"
    user, connection = printable(str(event["user"])), printable(str(event["connection"]))
    who = f"   {user} at {connection}, channel {event['channel']}"
    return ("\n".join([heading, who, *content_lines(event)]) + "\n").encode()
