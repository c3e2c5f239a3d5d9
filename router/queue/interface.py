"""What every type of queue is to the rest of the broker: how it is found, filled, consumed and described.

Owns no behaviour. Whatever more a type can do is between it and whoever keeps it; nobody else asks what type
a queue is.
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
    """Whom delivered messages are settled with."""

    @property
    def deleted(self) -> bool: ...
    @property
    def settings(self) -> QueueArguments: ...

    def settle(self, entries: Collection[Entry]) -> None:
        """Delivered messages were acknowledged."""

    def requeue(self, consumed: Collection[Entry], now: int) -> None:
        """A client wants delivered messages to be delivered again."""

    def reject(self, entries: Sequence[Entry]) -> None:
        """A client refuses delivered messages for good."""

    def give_back(self, consumed: Collection[Entry], now: int) -> None:
        """Nobody settles these delivered messages any more: their session is over."""

    def reclaim(self, entries: Collection[Entry]) -> None:
        """An exception interrupted who had these delivered messages in hand: put those back, at the end of
        this batch, that nobody holds.
        """

    def pause_deliveries(self) -> None:
        """Deliver nothing until ``resume_deliveries``: of messages that are given back more are to come."""

    def resume_deliveries(self) -> None:
        """All of them are back. Called once for each ``pause_deliveries``."""


class AnyQueue(QueueLike, Protocol):
    """A queue of any type.

    ``ready`` are the messages that may be delivered, by their number; ``unacked`` how many are delivered and
    not settled; ``bytes`` the size of what is ready. ``counted``: clients are told how often a message was
    delivered before. ``owner`` and ``arguments`` as declared, ``log`` is whoever keeps it on disk.
    """

    name: str
    vhost: str
    durable: bool
    auto_delete: bool
    owner: object | None
    arguments: dict[str, Any]
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
        """How many messages it has taken in since the broker's start."""

    @property
    def acknowledged(self) -> int:
        """How many were acknowledged since then."""

    def keep(self, keeper: "QueueKeeper") -> None:
        """Have it kept, as far as it outlives the broker: it was declared just now."""

    def recall(self, notes: Mapping[Key, Key]) -> None:
        """Restore what the queue remembers from its notes. Raises ValueError and struct.error."""

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Take on changed settings."""

    def touch(self) -> None:
        """Have ``deliver`` called at the end of this batch."""

    def enqueue(self, message: Message, now: int) -> Outcome:
        """Take or refuse a message; see ``routing.Target``."""

    def enqueue_all(self, messages: Sequence[Message], now: int) -> Sequence[Awaited] | None:
        """Take messages that differ in their bodies only; see ``routing.Target``."""

    def deliver(self, now: int) -> bool:
        """Give ready messages to ready consumers; True when there is more to give at once."""

    def repair(self, held: tuple[Sequence[Entry], int], dying: Container[int], now: int) -> None:
        """Put the queue right after an exception in its code.

        ``held`` are its messages that sessions hold, and by how many of them it is paused; ``dying`` the ids
        of entries that are on their way as dead letters.
        """

    def awaits_disk(self) -> bool:
        """Whether the next message has to be read before it can be taken."""

    def count(self, now: int) -> int:
        """How many messages are ready."""

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        """Take one message; None when none is ready. Raises what its type says to that."""

    def purge(self) -> int:
        """Drop all ready messages; return how many. Raises what its type says to that."""

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
        """A consumer that may be added. Raises NotImplemented_, PreconditionFailed or AccessRefused for one
        that may not.
        """

    def add_consumer(self, consumer: Consumer, now: int) -> None: ...
    def remove_consumer(self, consumer: Consumer, now: int) -> None: ...

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """PreconditionFailed when it may not be deleted under these conditions."""

    def close(self) -> list[Consumer]:
        """It is being deleted; return its consumers so that they are told."""

    def on_timer(self, now: int) -> None:
        """A moment that was asked for has come."""


class QueueKeeper(Protocol):
    """What a new queue asks of whoever keeps it."""

    @property
    def pager(self) -> Pager | None: ...
    def keep_queue(self, queue: "Queue") -> QueueLog | None: ...
    def keep_stream(self, stream: Any) -> Any:
        """Any: of types that queues know nothing of."""
