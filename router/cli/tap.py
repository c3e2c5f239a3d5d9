"""``leveret tap``: watch what is published and delivered, without taking part in it.

The broker copies every message to ``amq.rabbitmq.trace`` (RabbitMQ's firehose), so nothing is bound to the
exchange that is watched, where a binding would change what hash and random exchanges, alternate exchanges and
mandatory messages do.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from router.cli.amqp import broker_options, find_broker, notice, run_connected
from router.cli.api import Api, NotThere, api_option
from router.cli.failure import Failure
from router.cli.terminal import Duration

if TYPE_CHECKING:
    from protocol.amqp.message import Message
    from router.client.connection import Connection

TRACE = "amq.rabbitmq.trace"
BACKLOG, BACKLOG_BYTES = 10_000, 64 << 20  # copies that wait for a slow reader; older ones are dropped


@click.command()
@click.argument("exchange", required=False)
@click.argument("pattern", default="#")
@click.option(
    "--queue", metavar="NAME", help="Watch what this queue delivers, in place of what is published."
)
@click.option("--deliveries", is_flag=True, help="Watch deliveries, too.")
@click.option("-n", "--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.option("--idle", type=Duration(), metavar="DURATION", help="End when none came for so long, as 5s.")
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
    help="Have tracing switched on, and off in the end, through the API.",
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
    """Watch the messages that are published to EXCHANGE, until Ctrl-C; without it, those to any exchange.

    Only those are shown whose routing key is like PATTERN, where * stands for a word and # for any number of
    them. Nothing is bound to the exchange, so that routing stays as it is.
    """
    from functools import partial

    wanted = Wanted(exchange, pattern, queue, deliveries)
    name = find_broker(url, vhost).vhost
    queues: list[str] = []
    with _tracing(Api(api_url), name, queues) if switch else _as_it_is():
        work = partial(_watch, wanted=wanted, count=count, idle=idle, form=form, queues=queues)
        run_connected(url, vhost, "tap", work)


class Wanted:
    """Which copies to show."""

    def __init__(self, exchange: str | None, pattern: str, queue: str | None, deliveries: bool) -> None:
        from router.exchange import EXCHANGE_TYPES
        from router.exchange.base import Binding

        self._exchange = exchange
        self._queue = queue
        self.keys = []  # to bind with
        if queue is None:
            self.keys.append("publish.#" if exchange is None else f"publish.{exchange}")
        if queue is not None:
            self.keys.append(f"deliver.{queue}")
        elif deliveries:
            self.keys.append("deliver.#")
        self._topic = EXCHANGE_TYPES["topic"]("pattern")
        self._topic.add(Binding(self._topic, self._topic, pattern, {}, None))

    def __call__(self, event: dict[str, Any]) -> bool:
        """Whether this is one: names may hold words that mean more in a binding key."""
        if self._exchange is not None and event["exchange"] != self._exchange:
            return False
        if self._queue is not None and event.get("queue") != self._queue:
            return False
        return any(self._topic.match(key, None) for key in event["routing_keys"])  # type: ignore[arg-type]


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _tracing(api: Api, vhost: str, queues: list[str]) -> Iterator[None]:
    """Tracing is on for the block, and off afterwards if it was before and nobody else watches.

    ``queues`` are this command's own, once they are known.
    """
    try:
        found = api.get("vhosts", vhost)
    except NotThere:
        raise Failure(f"there is no virtual host {vhost!r}\n--vhost chooses another one") from None
    except Failure as error:
        raise Failure(
            f"{error.message}\nto watch without the API, have tracing switched on "
            f"(`rabbitmqctl trace_on -p {vhost}`) and add --no-switch"
        ) from None
    if found.get("tracing"):
        end = f"leveret vhost declare {shlex.quote(vhost)} --no-tracing"
        notice(f"tracing was on before and stays on; `{end}` ends it")
        yield
        return
    switch = _switch(api, vhost, found)
    switch(True)
    try:
        yield
    finally:
        bindings = api.get("exchanges", vhost, TRACE, "bindings", "source")
        if any(each["destination"] not in queues for each in bindings):
            notice("tracing stays on: somebody else watches too")
        else:
            switch(False)


def _switch(api: Api, vhost: str, found: dict[str, Any]) -> Callable[[bool], None]:
    """How to switch tracing; what else is said of the virtual host has to be said again."""
    same = {"description": found.get("description") or "", "tags": ",".join(found.get("tags") or ())}
    kind = found.get("default_queue_type")
    if kind and kind != "undefined":
        same["default_queue_type"] = kind
    return lambda on: api.put("vhosts", vhost, body={**same, "tracing": on})


async def _watch(
    connection: "Connection",
    *,
    wanted: Wanted,
    count: int | None,
    idle: int | None,
    form: str,
    queues: list[str],
) -> None:
    """Bind a queue of one's own to the trace exchange, and print what comes."""
    import trio

    from protocol.amqp import methods as m
    from protocol.amqp.table import Table
    from router.cli.consume import write

    arguments: Table = {"x-max-length": BACKLOG, "x-max-length-bytes": BACKLOG_BYTES}
    channel = await connection.channel()
    declared = await channel.call(m.QueueDeclare(exclusive=True, arguments=arguments), m.QueueDeclareOk)
    queues.append(declared.queue)
    for key in wanted.keys:
        await channel.call(m.QueueBind(declared.queue, TRACE, key), m.QueueBindOk)
    await channel.consume(declared.queue, no_ack=True)
    notice("watching")
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


def describe(copy: "Message") -> dict[str, Any]:
    """What a copy from the firehose tells of a message."""
    from protocol.amqp.plain import plain_body, plain_value

    told: dict[str, Any] = plain_value(copy.headers)
    what, _, name = copy.routing_key.partition(".")
    body, encoding = plain_body(copy.body)
    event: dict[str, Any] = {
        "event": what,
        "exchange": told.get("exchange_name", ""),
        "routing_keys": told.get("routing_keys", []),
    }
    if what == "publish":
        event["queues"] = told.get("routed_queues", [])
    else:
        event["queue"] = name
        event["redelivered"] = bool(told.get("redelivered"))
    event |= {key: told.get(key) for key in ("vhost", "connection", "channel", "user")}
    return event | {"properties": told.get("properties", {}), "body_encoding": encoding, "body": body}


def _shown(event: dict[str, Any], form: str) -> bytes:
    from router.cli.show import as_json, content_lines, shown_name
    from router.cli.terminal import printable

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
