"""An open channel: its session, and the frames for its client (AMQP 0-9-1 1.5 and 2.2).

Each command is in the file of its class, see ``commands``.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from leveret.protocol.amqp import methods as m
from leveret.protocol.amqp.codec import method_frame
from leveret.protocol.amqp.encode import END, DeliverFrames, ack_frame, nack_frame
from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import splice_properties
from leveret.protocol.amqp.table import Long
from leveret.protocol.buffers import Part
from leveret.protocol.errors import AmqpError, NotFound
from leveret.router.amqp.handshake import Capabilities
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry
from leveret.router.session.reply_gate import Gate
from leveret.router.session.session import Session
from leveret.router.session.topology import Topology
from leveret.router.session.transport import Outbox

COPIED = 1 << 14  # bytes of content frames that are joined with the method frame if they have to be rewritten


class ChannelOwner(Protocol):
    """The connection, as far as a channel needs it."""

    frame_max: int
    capabilities: Capabilities

    @property
    def outbox(self) -> Outbox: ...
    @property
    def replies(self) -> Gate: ...
    def owes_confirms(self, channel: "Channel", batch: int) -> None:
        """As ``SessionSink``."""

    def fail(self, number: int, error: AmqpError) -> None:
        """End the channel, or the connection, with this error."""

    def crash(self, error: Exception) -> None:
        """End the connection: the broker failed while it served this client."""


class Channel:
    """One open channel. ``last_queue`` is the queue that an empty queue name stands for."""

    def __init__(self, number: int, owner: ChannelOwner, session_of: Callable[["Channel"], Session]) -> None:
        self.number = number
        self.last_queue = ""
        self._owner = owner
        self._outbox = owner.outbox
        self._replies = owner.replies
        self._frame_max = owner.frame_max
        self._notices: list[m.Method] | None = None
        self.session = session_of(self)
        session = self.session
        self.topology = Topology(session.vhost, session.user, session.owner)

    def hold_replies(self) -> None:
        """Hold later replies until the changes of this turn are on disk."""
        self._replies.hold()

    def hold_replies_until(self, batch: int) -> None:
        """Hold later replies until this batch is on disk."""
        self._replies.hold_until(batch)

    def send(self, method: m.Method) -> None:
        self._replies.write(method_frame(self.number, method))

    def send_content(self, method: m.Method, message: Message) -> None:
        """Send a method and its content."""
        if len(message.frames) <= COPIED:
            frames = message.framed_for(self.number, self._frame_max, method_frame(self.number, method))
            self._replies.write(frames)
            return
        self._replies.write(method_frame(self.number, method))
        for part in message.framed_parts(self.number, self._frame_max):
            self._replies.write(part)

    def send_confirms(self) -> None:
        """Send the publisher confirms of messages that are on disk or settled."""
        for number, multiple, accepted in self.session.verdicts():
            frame = ack_frame if accepted else nack_frame
            self._replies.write(frame(self.number, number, multiple))

    def queue_name(self, name: str) -> str:
        """Return ``name``, or the last declared queue's if it is empty. Raises NotFound if there is none."""
        if name:
            return name
        if not self.last_queue:
            raise NotFound("no previously declared queue")
        return self.last_queue

    def queue_and_key(self, name: str, routing_key: str) -> tuple[str, str]:
        """Return queue and key of a binding: if both are empty, the last queue's name is the key too."""
        queue = self.queue_name(name)
        return queue, queue if not name and not routing_key else routing_key

    # -- SessionSink -----------------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Return True if the client reads its deliveries and few replies wait for the disk."""
        return self._outbox.writable() and self._replies.size <= self._replies.room

    def overfull(self) -> bool:
        return self._outbox.overfull() or self._replies.room < 0

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write each delivery as a packed basic.deliver and the publisher's content frames."""
        method_frames = receiver.wire
        if method_frames is None:
            method_frames = receiver.wire = DeliverFrames(self.number, receiver.tag)
        counted = receiver.counted
        number, frame_max = self.number, self._frame_max
        parts: list[Part] = []
        known, end = None, END
        for tag, entry in enumerate(entries, first_tag):
            message = entry.message
            if counted and entry.returns:
                message = self.counted(entry)
            route, frames = message.route, message.frames
            if route is not known:  # most messages that are delivered together have one route
                known, pack, end = route, method_frames[len(route)], route + END
            method = pack(tag, entry.returns > 0, end)
            if message.channel == number and len(frames) <= frame_max:
                parts += (method, frames)
            elif len(frames) <= COPIED:  # most parts are copied anyway, and one is sent faster than two
                parts.append(message.framed_for(number, frame_max, method))
            else:
                parts += (method, *message.framed_parts(number, frame_max))
        (self._replies if self._replies.waiting else self._outbox).extend(parts)

    def counted(self, entry: Entry) -> Message:
        """Return the message with the header x-delivery-count, which quorum queues add."""
        message = entry.message
        count = Long(entry.returns)
        properties = splice_properties(message.raw_properties, headers={"x-delivery-count": count})
        return message.rewritten(message.exchange, message.routing_key, properties)

    def owes_confirms(self, batch: int) -> None:
        self._owner.owes_confirms(self, batch)

    def returned(self, message: Message, code: int, text: str) -> None:
        self.send_content(m.BasicReturn(code, text, message.exchange, message.routing_key), message)

    def cancelled(self, consumer: Consumer) -> None:
        if not self._owner.capabilities.cancel_notify:
            return
        notice = m.BasicCancel(consumer.tag, nowait=True)
        if self._notices is None:
            self.send(notice)
        else:
            self._notices.append(notice)

    @contextmanager
    def notices_held(self) -> Iterator[None]:
        """Send the notifications of cancelled consumers at the end of the block."""
        notices = self._notices = []
        try:
            yield
        finally:
            self._notices = None
            for notice in notices:
                self.send(notice)

    def fail(self, error: AmqpError) -> None:
        self._owner.fail(self.number, error)

    def crash(self, error: Exception) -> None:
        self._owner.crash(error)
