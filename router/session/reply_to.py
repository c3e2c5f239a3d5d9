"""Direct reply-to: answers go to the asking session without a queue (RabbitMQ, "Direct Reply-to")."""

from collections.abc import Callable, Sequence
from secrets import token_urlsafe

from leveret.protocol.amqp.message import Message
from leveret.router.queue.consumers import Receiver
from leveret.router.queue.entry import Entry
from leveret.router.values.outcome import Awaited

REPLY_TO = "amq.rabbitmq.reply-to"


class ReplyTarget:
    """Stands where a queue would, under a name that cannot be guessed; it keeps nothing."""

    __slots__ = ("_accepts", "_dropped", "name", "receiver")

    def __init__(
        self, receiver: Receiver, *, accepts: Callable[[], bool], dropped: Callable[[int, int], None]
    ) -> None:
        """``accepts`` says whether the session takes replies now; ``dropped`` is told how many it did not
        take, and the time.
        """
        self._accepts = accepts
        self._dropped = dropped
        self.name = f"{REPLY_TO}.{token_urlsafe(24)}"
        self.receiver: Receiver | None = receiver

    def close(self) -> None:
        """Nobody waits any more; a transaction that is committed later may still hold on to this."""
        self.receiver = None

    @property
    def deleted(self) -> bool:
        return self.receiver is None

    def enqueue(self, message: Message, now: int) -> None:
        """Hand the message to the asking session at once."""
        self.enqueue_all((message,), now)

    def enqueue_all(self, messages: Sequence[Message], now: int) -> Sequence[Awaited]:
        """Hand messages to the asking session at once. If that does not read what it has, they are dropped:
        there is no queue where they could wait, and who answers is not to blame.
        """
        if self.receiver is not None:
            if self._accepts():
                self.receiver.sink.deliver(self.receiver, [Entry(message, 0) for message in messages])
            else:
                self._dropped(len(messages), now)
        return ()
