"""Direct reply-to: answers go to the asking session without a queue (RabbitMQ, "Direct Reply-to")."""

from collections.abc import Sequence
from secrets import token_urlsafe

from protocol.amqp.message import Message
from router.queue.consumers import Receiver
from router.queue.entry import Entry

REPLY_TO = "amq.rabbitmq.reply-to"


class ReplyTarget:
    """Stands where a queue would, under a name that cannot be guessed; it keeps nothing."""

    __slots__ = ("name", "receiver")

    def __init__(self, receiver: Receiver) -> None:
        self.name = f"{REPLY_TO}.{token_urlsafe(24)}"
        self.receiver: Receiver | None = receiver

    def close(self) -> None:
        """Nobody waits any more; a transaction that is committed later may still hold on to this."""
        self.receiver = None

    @property
    def deleted(self) -> bool:
        return self.receiver is None

    def enqueue(self, message: Message, now: int, *, again: bool = False) -> bool:
        """Hand the message to the asking session at once."""
        if self.receiver is not None:
            self.receiver.sink.deliver(self.receiver, [Entry(message, 0)])
        return True

    def enqueue_all(self, messages: Sequence[Message], now: int) -> bool:
        """Hand messages to the asking session at once."""
        if self.receiver is not None:
            self.receiver.sink.deliver(self.receiver, [Entry(message, 0) for message in messages])
        return True
