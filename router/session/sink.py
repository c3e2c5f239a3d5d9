"""What a session has for its client: the seam between what clients may do and the protocol they speak."""

from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry


class SessionSink(Protocol):
    """The protocol's side of a session."""

    def writable(self) -> bool:
        """Whether the client reads fast enough to be given more."""

    def overfull(self) -> bool:
        """Whether so much is unsent to the client that replies to it are dropped."""

    def deliver(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write deliveries; their tags count up from ``first_tag``."""

    def owes_confirms(self, batch: int) -> None:
        """Publishes are to be confirmed once this batch is on disk; 0: at the end of this turn."""

    def returned(self, message: Message, code: int, text: str) -> None:
        """A mandatory message reached no queue."""

    def cancelled(self, consumer: Consumer) -> None:
        """The broker ended a consumer."""

    def crash(self, error: Exception) -> None:
        """A delivery could not be written: the connection ends, and with it all its sessions."""

    def fail(self, error: AmqpError) -> None:
        """Something went wrong outside of any command: the session ends."""
