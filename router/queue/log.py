"""What a durable queue tells whoever keeps it on disk."""

from collections.abc import Sequence
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.values.notes import Notes


class QueueLog(Protocol):
    """The log of one queue. Only entries that are ``stored`` are its business after they were enqueued."""

    @property
    def notes(self) -> Notes: ...

    def enqueue(self, entry: Entry, message: Message) -> None:
        """Keep a message. It becomes ``stored``."""

    def enqueue_all(self, entries: Sequence[Entry], messages: Sequence[Message]) -> None:
        """The same for messages that arrived one behind the other."""

    def settle(self, entries: Sequence[Entry]) -> None:
        """Stored messages, one at least, have left the queue for good."""

    def deliver(self, position: int) -> None:
        """A message was delivered: should it come back after a restart, it comes as redelivered."""

    def give_back(self, entry: Entry) -> None:
        """A message came back from a consumer, and how often that was is counted."""
