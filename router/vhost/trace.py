"""The firehose (message tracing): a copy of every message that is published or delivered in a virtual host.

Responsible for its state, including whether it ends with the last binding of the trace exchange, and for the
form of a copy: the body of the message, with its properties and route in the headers, published to
``amq.rabbitmq.trace`` with the key ``publish.EXCHANGE`` or ``deliver.QUEUE``. While it is off, sessions do no
work for it. As in RabbitMQ it is off after a start, and messages from the trace exchange are not copied.

Source: RabbitMQ, "Firehose Tracer"; the headers are those that 3.10 sends.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from leveret.protocol.amqp.message import Message, headers_at
from leveret.protocol.amqp.properties import Properties, decode_without_headers
from leveret.protocol.amqp.table import KEPT, MAX_ENTRIES, EncodedTable, Table, Value
from leveret.protocol.amqp.traits import is_flat
from leveret.router.exchange.routing import routing_keys
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.router.vhost.vhost import VHost

TRACE = "amq.rabbitmq.trace"
LARGE = 4096  # bytes of headers
TABLE_LENGTH = 4  # bytes of the length before the entries of a table
WIDE = 64  # queues that a copy is enqueued in at a time


class TracedSession(Protocol):
    """Interface of a session to the firehose."""

    def set_tracing(self, *, on: bool) -> None:
        """Start or stop to copy each message."""


class Firehose:
    """Tracing state of one virtual host."""

    __slots__ = ("_sessions", "_until_unbound", "on")

    def __init__(self) -> None:
        self.on = False
        self._until_unbound = False
        self._sessions: dict[TracedSession, None] = {}

    def switch(self, *, on: bool, until_unbound: bool = False) -> None:
        """Turn tracing on or off; with ``until_unbound`` it ends when the trace exchange loses its last
        binding.
        """
        self.on = on
        self._until_unbound = on and until_unbound
        for session in self._sessions:
            session.set_tracing(on=on)

    def unbound(self) -> None:
        """End tracing that was to be on until the trace exchange has lost its last binding."""
        if self._until_unbound:
            self.switch(on=False)

    def join(self, session: TracedSession) -> None:
        """Add a session that has begun."""
        self._sessions[session] = None
        if self.on:
            session.set_tracing(on=True)

    def leave(self, session: TracedSession) -> None:
        """Remove a session that has ended."""
        del self._sessions[session]


class TraceOrigin(Struct, frozen=True):
    """The connection (by name) and channel (by number) that a message was published or delivered on."""

    node: str
    vhost: str
    connection: str
    channel: int
    user: str


def published(message: Message, keys: Iterable[str], queues: Iterable[str], origin: TraceOrigin) -> Message:
    """Return the copy of a message that was routed to these queues by these keys."""
    names: list[Value] = []
    names += islice(queues, MAX_ENTRIES)
    more: Table = _origin_headers(origin) | {"routed_queues": names}
    return _copy(f"publish.{message.exchange}", message, keys, origin.node, more)


def delivered(message: Message, queue: str, redelivered: bool, origin: TraceOrigin) -> Message:
    """Return the copy of a message that a queue delivered to a client."""
    more: Table = {"redelivered": int(redelivered)} | _origin_headers(origin)
    copied = message.some_headers("CC", "BCC")
    keys = [*routing_keys(message.routing_key, copied), *message.blind_keys]
    return _copy(f"deliver.{queue}", message, keys, origin.node, more)


def _origin_headers(origin: TraceOrigin) -> Table:
    return {
        "vhost": origin.vhost,
        "connection": origin.connection,
        "channel": origin.channel,
        "user": origin.user,
    }


def _copy(key: str, message: Message, keys: Iterable[str], node: str, more: Table) -> Message:
    """Return the copy of a message; its headers are left out if they are nested too deep to be copied."""
    plain = _properties(message)
    headers: Table = {
        "exchange_name": message.exchange,
        "routing_keys": list(islice(keys, MAX_ENTRIES)),
        "properties": plain,
        "node": node,
    }
    key = key.encode("utf-8", "surrogateescape")[:255].decode("utf-8", "surrogateescape")
    try:
        return Message.build(TRACE, key, Properties(headers=headers | more), message.body, bounds=KEPT)
    except ValueError:  # nested too deep: a copy of a copy that was dead-lettered, and so on
        plain.pop("headers", None)
        return Message.build(TRACE, key, Properties(headers=headers | more), message.body, bounds=KEPT)


def _properties(message: Message) -> dict[str, Value]:
    """Return the properties that are set. Large headers stay encoded unless tables are nested in them:
    decoding and encoding 6,000 headers takes 12 ms.
    """
    data = message.header_bytes
    start, end = headers_at(data)
    is_large = end - start > LARGE and is_flat(data, start, end)
    properties = decode_without_headers(message.raw_properties, 0) if is_large else message.properties
    known = ((name, getattr(properties, name)) for name in Properties.__dataclass_fields__)
    found: dict[str, Value] = {name: value for name, value in known if value is not None}
    if is_large:
        found["headers"] = EncodedTable(data[start - TABLE_LENGTH : end])
    return found


def publish_copy(vhost: "VHost", copy: Message) -> Slicing[None]:
    """Publish a copy to the trace exchange, in slices; a virtual host without that exchange drops it."""
    if TRACE in vhost.exchanges:
        plan = vhost.plan(copy.route)
        plan.published += 1
        targets = plan.queues
        if targets is None:
            found = yield from vhost.routes.route_in_slices(plan.exchange, (plan.routing_key,), copy)
            targets = tuple(found)
            plan.routed += len(targets)
        for place, target in enumerate(targets):
            if place and not place % WIDE:
                yield
            if not target.deleted:
                target.enqueue(copy, vhost.host.now)
