"""A queue of any type as it was declared: its identity, its settings, and whether it is in use.

Responsible for state that does not depend on how messages are stored. Messages of classic and quorum queues
are in ``contents`` and ``queue``, those of streams in ``stream/stream``.
"""

from collections.abc import Mapping, Sized
from typing import Any, TypedDict, Unpack

from leveret.protocol.amqp.packed_table import pack_if_large
from leveret.protocol.errors import PreconditionFailed
from leveret.router.arguments.queue import QueueArguments
from leveret.router.queue.consumers import Consumers
from leveret.router.queue.host import QueueHost
from leveret.router.values.counters import DeliveryCounters


class Declaration(TypedDict):
    """Parameters of a new queue.

    ``arguments`` are as received from the client, ``declared`` is their parsed form, ``settings`` combines
    that with policies. ``owner`` is the connection that an exclusive queue belongs to. ``now`` is in ms.
    """

    durable: bool
    auto_delete: bool
    owner: object | None
    arguments: Mapping[str, Any]
    declared: QueueArguments
    settings: QueueArguments
    now: int


class DeclaredQueue:
    """The part of a queue that all types share; see ``Declaration``. ``last_used`` is in ms."""

    __slots__ = (
        "_touched",
        "arguments",
        "auto_delete",
        "consumers",
        "counts",
        "declared",
        "deleted",
        "durable",
        "host",
        "last_used",
        "name",
        "owner",
        "settings",
        "vhost",
    )

    consumers: Consumers
    counts: DeliveryCounters

    def __init__(
        self,
        name: str,
        vhost: str,
        host: QueueHost,
        **declaration: Unpack[Declaration],
    ) -> None:
        self.name = name
        self.vhost = vhost
        self.host = host
        self.durable = declaration["durable"]
        self.auto_delete = declaration["auto_delete"]
        self.owner = declaration["owner"]
        self.arguments = pack_if_large(declaration["arguments"])
        self.declared = declaration["declared"]
        self.settings = declaration["settings"]
        self.last_used = declaration["now"]
        self.deleted = False
        self._touched = False  # True if ``run_deliveries`` is scheduled

    @property
    def ready(self) -> Sized:
        """The messages that may be delivered."""
        raise NotImplementedError

    @property
    def unacked(self) -> int:
        """Number of messages that are delivered and not settled."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """True once the queue is deleted: its timers are then ignored."""
        return self.deleted

    @property
    def what(self) -> str:
        """Description of the queue in replies, as ``queue 'q' in vhost '/'``."""
        return f"queue '{self.name}' in vhost '{self.vhost}'"

    @property
    def acknowledged(self) -> int:
        """Number of deliveries acknowledged since the broker's start."""
        return self.counts.acknowledged(self.unacked)

    def touch(self) -> None:
        """Schedule ``run_deliveries`` for the end of this batch."""
        if not self._touched:
            self._touched = True
            self.host.touch(self)  # type: ignore[arg-type]  # each type is an AnyQueue, this base is not

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """Raise PreconditionFailed if the queue must be unused, or empty, to be deleted, and is not.

        RabbitMQ deletes a stream in any case; leveret does not.
        """
        if if_unused and len(self.consumers):
            raise PreconditionFailed(f"{self.what} in use")
        if if_empty and len(self.ready):
            raise PreconditionFailed(f"{self.what} not empty")
