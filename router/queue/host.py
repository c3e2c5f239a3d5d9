"""Interface of a virtual host, as its queues see it, and the reasons for dead letters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.turns.backlog import Slices
from leveret.router.turns.timers import Timed

if TYPE_CHECKING:
    from leveret.router.queue.contents import QueueContents
    from leveret.router.queue.interface import AnyQueue
    from leveret.router.queue.queue import Queue

Reason = Literal["rejected", "expired", "maxlen", "delivery_limit"]


class QueueHost(Protocol):
    """The virtual host of a queue: time, scheduling, dead letters and deletion."""

    @property
    def now(self) -> int:
        """The time of this batch, in ms of the broker's clock."""

    @property
    def wall(self) -> int:
        """The time of this batch, in seconds since the epoch."""

    def touch(self, queue: "AnyQueue") -> None:
        """Call ``run_deliveries`` at the end of this batch."""

    def schedule_repair(self, queue: "AnyQueue") -> None:
        """An exception was raised in this queue's code: call ``repair`` at the end of this batch."""

    def catch_up(self) -> None:
        """Run the deliveries and dead letters that wait for the end of this batch now."""

    def deliver_touched(self) -> None:
        """Run the deliveries that wait for the end of this batch now."""

    def carry_on(self, what: str, slices: Slices) -> None:
        """Run work in slices, the first in this turn. An exception in it affects no client."""

    def schedule(self, when: int, queue: Timed) -> None:
        """Call the queue's ``on_timer`` at ``when``, in ms of the broker's clock."""

    def dead_letter(self, queue: "QueueContents", messages: Sequence[Entry], reason: Reason) -> None:
        """Publish messages to the queue's dead-letter exchange at the end of this batch."""

    def forget_published(self, message: Message) -> None:
        """Remove a message that was not stored from the deduplication cache of its exchange."""

    def refused(self, queue: "Queue") -> None:
        """Count a message that the full queue has refused."""

    def drop_queue(self, queue: "AnyQueue") -> None:
        """Delete an auto-delete queue after its last consumer has left."""

    def expire_queue(self, queue: "Queue") -> None:
        """Delete a queue that was unused for the time of ``x-expires``."""
