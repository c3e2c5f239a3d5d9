"""Client side of a channel: calls, publishes with their confirms, and deliveries.

Responsible for keeping the commands that the broker sent on one channel until a task takes them. Any number
of tasks may wait on a channel; each checks its own condition after every read with commands for the channel.
"""

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Protocol, TypeVar

import trio

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.command import Command, Delivery
from leveret.protocol.amqp.content_frames import pack_frames
from leveret.protocol.amqp.encode import ack_frame
from leveret.protocol.amqp.table import Value
from leveret.router.client.errors import ChannelEnded, ConsumerEnded, Ended

M = TypeVar("M", bound=m.Method)


class PublishOutcome(Enum):
    """Outcome of a publish."""

    CONFIRMED = auto()
    RETURNED = auto()  # a mandatory message that was routed to no queue
    REFUSED = auto()  # basic.nack: a queue was full, or the broker failed


class ChannelTransport(Protocol):
    """Operations of the connection that a channel needs."""

    frame_max: int

    def write(self, data: bytes) -> None:
        """Queue bytes for sending."""

    def delivery_queued(self, message_size: int) -> None:
        """Count a delivery that waits on the channel."""

    def delivery_taken(self, message_size: int) -> None:
        """Count a delivery that a task has taken."""


class BrokerChannel:
    """An open channel. After it is closed, all calls raise the reason."""

    def __init__(self, number: int, line: ChannelTransport) -> None:
        self.number = number
        self.error: Ended | None = None
        self.refused = 0  # publishes that were answered with basic.nack
        self.returns: deque[Delivery] = deque()
        self._line = line
        self._calls = trio.Lock()
        self._orphans = 0  # expected replies whose callers were cancelled
        self._replies: deque[Command] = deque()
        self._deliveries: deque[Delivery] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._cancelled: dict[str, None] = {}
        self._confirming = False
        self._published = 0  # number of the last publish since confirms were selected
        self._unconfirmed: dict[int, None] = {}

    # -- calls -----------------------------------------------------------------------------------------------

    def send(self, method: m.Method) -> None:
        """Send a method that has no reply. Raises ValueError for a value that its wire type cannot hold."""
        if self.error is not None:
            raise self.error
        self._line.write(method_frame(self.number, method))

    async def call(self, method: m.Method, answer: type[M]) -> M:
        """Send a method and return its reply. Raises ChannelEnded or ConnectionEnded if it is refused."""
        reply = await self._call(method)
        assert isinstance(reply, answer), reply
        return reply

    async def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """Get one message, with a BasicGetOk; None if the queue is empty."""
        reply = await self._call(m.BasicGet(queue, no_ack=no_ack))
        return reply if isinstance(reply, Delivery) else None

    async def _call(self, method: m.Method) -> Command:
        async with self._calls:
            self.send(method)
            try:
                await self.until(lambda: bool(self._replies))
            except trio.Cancelled:
                self._orphans += 1
                raise
            return self._replies.popleft()

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked whenever something has arrived on the channel."""
        while not done():
            if self.error is not None:
                raise self.error
            await self._arrived.park()

    # -- publish ---------------------------------------------------------------------------------------------

    async def select_confirms(self) -> None:
        """Switch on publisher confirms."""
        await self.call(m.ConfirmSelect(), m.ConfirmSelectOk)
        self._confirming = True

    def publish(
        self, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool = False
    ) -> None:
        """Send a message with raw properties (flags and list)."""
        self.send(m.BasicPublish(exchange, routing_key, mandatory=mandatory))
        self._line.write(pack_frames(self.number, properties, body, self._line.frame_max))
        if self._confirming:
            self._published += 1
            self._unconfirmed[self._published] = None

    @property
    def unconfirmed(self) -> int:
        """Return the number of publishes without a confirm."""
        return len(self._unconfirmed)

    async def publish_alone(
        self, exchange: str, routing_key: str, properties: bytes, body: bytes, *, mandatory: bool = True
    ) -> PublishOutcome:
        """Publish and wait for the outcome; nothing else may be published on the channel meanwhile."""
        self.returns.clear()
        before = self.refused
        self.publish(exchange, routing_key, properties, body, mandatory=mandatory)
        await self.until(lambda: not self._unconfirmed)
        if self.refused > before:
            return PublishOutcome.REFUSED
        return PublishOutcome.RETURNED if self.returns else PublishOutcome.CONFIRMED

    def _confirmed(self, number: int, multiple: bool) -> int:
        """Remove confirmed publishes; return their number."""
        before = len(self._unconfirmed)
        if multiple:
            for each in [known for known in self._unconfirmed if known <= number or not number]:
                del self._unconfirmed[each]
        else:
            self._unconfirmed.pop(number, None)
        return before - len(self._unconfirmed)

    # -- consume ---------------------------------------------------------------------------------------------

    async def consume(
        self,
        queue: str,
        *,
        tag: str = "",
        prefetch: int = 0,
        no_ack: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Value] | None = None,
    ) -> str:
        """Start a consumer with a prefetch count of ``prefetch``; return its tag."""
        if prefetch:
            await self.call(m.BasicQos(prefetch_count=prefetch), m.BasicQosOk)
        method = m.BasicConsume(
            queue, tag, no_ack=no_ack, exclusive=exclusive, arguments=dict(arguments or {})
        )
        return (await self.call(method, m.BasicConsumeOk)).consumer_tag

    async def delivery(self) -> Delivery:
        """Return the next message of any consumer. Raises ConsumerEnded after the broker has cancelled
        one.
        """
        await self.until(lambda: self.has_delivery)
        found = self.delivery_nowait()
        if found is None:
            raise ConsumerEnded("the broker cancelled the consumer: its queue was deleted")
        return found

    @property
    def has_delivery(self) -> bool:
        """Return True if ``delivery`` would return or raise without waiting."""
        return bool(self._deliveries or self._cancelled)

    def delivery_nowait(self) -> Delivery | None:
        """Return the next message if it has arrived, else None."""
        if not self._deliveries:
            return None
        found = self._deliveries.popleft()
        self._line.delivery_taken(found.message.size)
        return found

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        if self.error is not None:
            raise self.error
        self._line.write(ack_frame(self.number, tag, multiple))

    # -- calls of the connection -----------------------------------------------------------------------------

    def receive(self, command: Command) -> None:
        """Handle a command from the broker on this channel. After the last command of a read, ``wake`` is
        called.
        """
        match command:
            case Delivery(method=m.BasicDeliver()):
                self._deliveries.append(command)
                self._line.delivery_queued(command.message.size)
            case Delivery(method=m.BasicReturn()):
                self.returns.append(command)
            case m.BasicAck():
                self._confirmed(command.delivery_tag, command.multiple)
            case m.BasicNack():
                self.refused += self._confirmed(command.delivery_tag, command.multiple)
            case m.BasicCancel():
                self._cancelled[command.consumer_tag] = None
            case m.ChannelClose():
                self._line.write(method_frame(self.number, m.ChannelCloseOk()))
                self.error = ChannelEnded(command.reply_text, command.reply_code)
            case m.ChannelFlow():
                self._line.write(method_frame(self.number, m.ChannelFlowOk(command.active)))
            case _ if self._orphans:
                self._orphans -= 1
            case _:
                self._replies.append(command)

    def wake(self) -> None:
        """Wake every task that waits on this channel, so that it checks its condition."""
        self._arrived.unpark_all()
