"""Copies of a session's messages for the firehose of its virtual host, while tracing is on.

Responsible for which messages are copied; ``vhost.trace`` has the form of a copy. Copies are published at the
end of the batch, when no queue is in the middle of a delivery.
"""

from collections.abc import Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.auth import User
from leveret.router.broker.broker import Broker
from leveret.router.exchange.routing import Target, routing_keys
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.session.transport import ConnectionEnds
from leveret.router.vhost.trace import TRACE, TraceOrigin, delivered, published
from leveret.router.vhost.vhost import VHost

NO_CONNECTION = "HTTP API"  # the connection's name in the copies of messages of the HTTP API


class SessionTrace:
    """Copies the messages of one session of ``owner``, on the channel of this number."""

    def __init__(self, broker: Broker, vhost: VHost, user: User, owner: object, number: int) -> None:
        self._broker = broker
        self._vhost = vhost
        ends = getattr(owner, "ends", None)
        name = getattr(owner, "trace_name", NO_CONNECTION)  # of a publisher inside the broker
        connection = ends.name if isinstance(ends, ConnectionEnds) else name
        self._origin = TraceOrigin(broker.node_name, vhost.name, connection, number, user.name)

    def published(self, given: Message, message: Message, queues: Sequence[Target]) -> None:
        """Copy a routed message; ``given`` is the message as its publisher sent it."""
        if self._is_read():
            keys = routing_keys(given.routing_key, given.some_headers("CC", "BCC"))
            copy = published(message, keys, [queue.name for queue in queues], self._origin)
            self._broker.trace(self._vhost, copy)

    def delivered(self, receiver: Receiver, entries: Sequence[Entry]) -> None:
        """Copy messages that were delivered to a consumer. Direct replies are not copied."""
        if isinstance(receiver, Consumer):
            for entry in entries:
                self.acquired(receiver.queue.name, entry)

    def acquired(self, queue: str, entry: Entry) -> None:
        """Copy a message that a queue has delivered."""
        message = entry.message
        if message.exchange != TRACE and self._is_read():
            copy = delivered(message, queue, entry.returns > 0, self._origin)
            self._broker.trace(self._vhost, copy)

    def _is_read(self) -> bool:
        """Return True if the trace exchange has a binding."""
        exchange = self._vhost.exchanges.get(TRACE)
        return exchange is not None and bool(exchange.bindings)
