"""The interface between a durable queue and its stored log."""

from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.values.notes import Notes


class QueueLog(Protocol):
    """The log of one queue. All methods but ``store`` are for ``stored`` entries only."""

    @property
    def notes(self) -> Notes: ...

    def store(self, entry: Entry, message: Message) -> None:
        """Store a message; its entry becomes ``stored``."""

    def store_all(self, entries: Sequence[Entry], messages: Sequence[Message]) -> None:
        """Store messages with consecutive positions."""

    def settle(self, entries: Sequence[Entry]) -> None:
        """Record that stored messages, at least one, have left the queue for good."""

    def mark_delivered(self, position: int) -> None:
        """Record that a message was delivered: after a restart it is redelivered."""

    def mark_returned(self, entry: Entry) -> None:
        """Record that a message was returned by a consumer, and how many times so far."""
