"""Direct reply-to: replies go to the requesting session without a queue (RabbitMQ, "Direct Reply-to")."""

from collections.abc import Callable, Sequence
from secrets import token_urlsafe

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.traits import DIRECT_REPLY_TO
from leveret.router.queue.consumers import Receiver
from leveret.router.queue.entry import QueuedEntry
from leveret.router.values.outcome import Awaited

REPLY_TO = DIRECT_REPLY_TO  # the queue that a client consumes replies from


class ReplyTarget:
    """A routing target without storage, in place of a queue, under a name that cannot be guessed."""

    __slots__ = ("_accepts", "_dropped", "name", "receiver")

    def __init__(
        self, receiver: Receiver, *, accepts: Callable[[], bool], dropped: Callable[[int, int], None]
    ) -> None:
        """``accepts`` returns True if the session takes replies now; ``dropped`` is called with the number of
        replies that it did not take, and the time in ms.
        """
        self._accepts = accepts
        self._dropped = dropped
        self.name = f"{REPLY_TO}.{token_urlsafe(24)}"
        self.receiver: Receiver | None = receiver

    def close(self) -> None:
        """Deliver no more replies. An open transaction may still refer to this target and commit later."""
        self.receiver = None

    @property
    def deleted(self) -> bool:
        return self.receiver is None

    def enqueue(self, message: Message, now: int) -> None:
        """Deliver a reply to the requesting session at once."""
        self.enqueue_all((message,), message.size, now)

    def enqueue_all(self, messages: Sequence[Message], size: int, now: int) -> Sequence[Awaited]:
        """Deliver replies to the requesting session at once, or drop them if its client does not read.

        There is no queue for them, and the replying client must not be blocked by the requesting one.
        """
        if self.receiver is not None:
            if self._accepts():
                self.receiver.sink.deliver(self.receiver, [QueuedEntry(message, 0) for message in messages])
            else:
                self._dropped(len(messages), now)
        return ()
