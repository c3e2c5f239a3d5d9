"""Interface of a session to the protocol: the deliveries, returns and errors for its client."""

from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import AmqpError
from leveret.router.queue.consumers import Consumer, Receiver
from leveret.router.queue.entry import Entry


class SessionSink(Protocol):
    """The protocol's side of a session."""

    def writable(self) -> bool:
        """Return True if the client reads fast enough for more deliveries."""

    def overfull(self) -> bool:
        """Return True if so many bytes are unsent that direct replies to the client are dropped."""

    def write_deliveries(self, receiver: Receiver, first_tag: int, entries: Sequence[Entry]) -> None:
        """Write deliveries; their tags count up from ``first_tag``."""

    def owes_confirms(self, batch: int) -> None:
        """Schedule the confirms of publishes: once this batch is on disk, or (0) at the end of this turn."""

    def returned(self, message: Message, code: int, text: str) -> None:
        """Return a mandatory message that reached no queue."""

    def cancelled(self, consumer: Consumer) -> None:
        """Notify the client that the broker has cancelled a consumer."""

    def crash(self, error: Exception) -> None:
        """End the connection with all its sessions, because a delivery could not be written."""

    def fail(self, error: AmqpError) -> None:
        """End the session for an error that no command has caused."""
