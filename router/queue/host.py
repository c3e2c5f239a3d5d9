"""What a queue asks of the virtual host it stands in, and why a message becomes a dead letter."""

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
    """What a queue asks of the virtual host it stands in."""

    @property
    def now(self) -> int:
        """The time of this batch, in ms of the broker's clock."""

    @property
    def wall(self) -> int:
        """The same in seconds since the epoch."""

    def touch(self, queue: "AnyQueue") -> None:
        """Call ``deliver`` at the end of this batch."""

    def suspect(self, queue: "AnyQueue") -> None:
        """An exception was raised in this queue's code: call ``repair`` at the end of this batch."""

    def catch_up(self) -> None:
        """Do now what was put off to the end of this batch, deliveries and dead letters."""

    def deliver_touched(self) -> None:
        """Do the deliveries now that were put off to the end of this batch."""

    def carry_on(self, what: str, slices: Slices) -> None:
        """Do work, what takes long of it in later turns. It fails nobody."""

    def schedule(self, when: int, queue: Timed) -> None:
        """Call ``on_timer`` at ``when`` ms."""

    def dead_letter(self, queue: "QueueContents", messages: Sequence[Entry], reason: Reason) -> None:
        """Publish these to the queue's dead-letter exchange at the end of this batch."""

    def forget_published(self, message: Message) -> None:
        """The message was not kept: its exchange takes one like it again."""

    def refused(self, queue: "Queue") -> None:
        """The queue was full and has refused a message."""

    def drop_queue(self, queue: "AnyQueue") -> None:
        """Delete the queue: its last consumer left."""

    def expire_queue(self, queue: "Queue") -> None:
        """Delete the queue: nobody has used it for as long as it may be unused."""
