"""Interfaces of queues of any type: publishing, delivery, settling, administration and statistics.

Contains no behaviour. Methods of one type only are called by the storage of that type; other code does not
depend on a queue's type.
"""

from collections.abc import Collection, Container, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.arguments.queue import QueueArguments
from leveret.router.queue.consumers import Consumer, Consumers, DeliverySink
from leveret.router.queue.entry import Entry
from leveret.router.queue.log import QueueLog
from leveret.router.queue.paged_run import Pager
from leveret.router.values.counters import DeliveryCounters
from leveret.router.values.notes import Key
from leveret.router.values.outcome import Awaited, Outcome

if TYPE_CHECKING:
    from leveret.router.queue.queue import Queue


class QueueLike(Protocol):
    """A queue, or a proxy of one, in which deliveries are settled."""

    @property
    def deleted(self) -> bool: ...
    @property
    def settings(self) -> QueueArguments: ...

    def ack(self, entries: Collection[Entry]) -> None:
        """Settle delivered messages that the client has acknowledged."""

    def requeue(self, consumed: Collection[Entry], now: int) -> None:
        """Make delivered messages ready again, at the request of a client."""

    def reject(self, entries: Sequence[Entry]) -> None:
        """Dead-letter or drop delivered messages that the client has rejected without requeue."""

    def give_back(self, consumed: Collection[Entry], now: int) -> None:
        """Make delivered messages ready again: their session has ended without settling them."""

    def reclaim(self, entries: Collection[Entry]) -> None:
        """Requeue the messages that neither a session nor a dead letter holds, at the end of this batch.

        Called after an exception in code that was moving or settling them.
        """

    def pause_deliveries(self) -> None:
        """Deliver nothing until ``resume_deliveries``: a session requeues messages in several turns."""

    def resume_deliveries(self) -> None:
        """Deliver again. Called once for each ``pause_deliveries``, when all messages are requeued."""


class AnyQueue(QueueLike, Protocol):
    """A queue of any type.

    ``len(ready)`` is the number of messages that may be delivered, ``unacked`` of those delivered and not
    settled; ``bytes`` is the size of the ready ones. ``counted``: deliveries carry the number of earlier
    deliveries. ``owner`` and ``arguments`` are as declared. ``log`` is None if the queue is not stored.
    """

    name: str
    vhost: str
    durable: bool
    auto_delete: bool
    owner: object | None
    arguments: Mapping[str, Any]
    declared: QueueArguments
    last_used: int

    @property
    def consumers(self) -> Consumers: ...
    @property
    def ready(self) -> Sized: ...
    @property
    def unacked(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def counted(self) -> bool: ...
    @property
    def log(self) -> object | None: ...
    @property
    def finished(self) -> bool: ...
    @property
    def counts(self) -> DeliveryCounters: ...
    @property
    def published(self) -> int:
        """Number of messages enqueued since the broker's start."""

    @property
    def acknowledged(self) -> int:
        """Number of deliveries acknowledged since the broker's start."""

    def keep(self, storage: "QueueStorage") -> None:
        """Store a newly declared queue, if it is durable and not exclusive."""

    def recall(self, notes: Mapping[Key, Key]) -> None:
        """Restore the deduplication state from its notes. Raises ValueError and struct.error."""

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Apply changed settings."""

    def touch(self) -> None:
        """Schedule ``run_deliveries`` for the end of this batch."""

    def enqueue(self, message: Message, now: int) -> Outcome:
        """Enqueue or refuse a message; see ``routing.Target``."""

    def enqueue_all(self, messages: Sequence[Message], size: int, now: int) -> Sequence[Awaited] | None:
        """Enqueue messages that are handled alike; see ``routing.Target``."""

    def run_deliveries(self, now: int) -> bool:
        """Deliver ready messages to ready consumers; return True if more could be delivered now."""

    def repair(self, held: tuple[Sequence[Entry], int], dying: Container[int], now: int) -> None:
        """Restore the queue's counts and order after an exception in its code.

        ``held`` has the messages that sessions hold, and the number of sessions that pause deliveries.
        ``dying`` has the ids of the entries that are being dead-lettered.
        """

    def awaits_disk(self) -> bool:
        """Return True if the next message has to be read from disk before ``get`` can return it."""

    def count(self, now: int) -> int:
        """Return the number of ready messages."""

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        """Take one message for basic.get; None if none is ready. Exceptions depend on the type."""

    def purge(self) -> int:
        """Drop all ready messages; return their number. Exceptions depend on the type."""

    def consumer(
        self,
        sink: DeliverySink,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        arguments: Mapping[str, Any],
    ) -> Consumer:
        """Return a consumer for ``add_consumer``.

        Raises NotImplemented_, PreconditionFailed or AccessRefused if the queue does not allow it.
        """

    def add_consumer(self, consumer: Consumer, now: int) -> None: ...
    def remove_consumer(self, consumer: Consumer, now: int) -> None: ...

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """Raise PreconditionFailed if the queue must be unused, or empty, and is not."""

    def close(self) -> list[Consumer]:
        """Drop all messages of a queue that is being deleted; return its consumers, to be notified."""

    def on_timer(self, now: int) -> None:
        """Handle a timer that was set with ``QueueHost.schedule``; ``now`` is in ms."""


class QueueStorage(Protocol):
    """Interface of the storage, as a new queue sees it."""

    @property
    def pager(self) -> Pager | None: ...
    def keep_queue(self, queue: "Queue") -> QueueLog | None: ...
    def keep_stream(self, stream: Any) -> Any:
        """Return the log of a new stream. Both types belong to a higher layer, hence Any."""
