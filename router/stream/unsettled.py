"""A queue whose messages are not settled: what clients cannot do with a stream, and what has no effect.

Source: RabbitMQ, "Streams". The refusals are those of 3.10.
"""

from collections.abc import Collection, Sequence

from leveret.protocol.errors import NotImplemented_
from leveret.router.queue.entry import Entry
from leveret.router.queue.lifecycle import DeclaredQueue


class UnsettledQueue(DeclaredQueue):
    """The operations of other queue types on single messages. Deliveries belong to their ``StreamReader``."""

    __slots__ = ()

    @property
    def counted(self) -> bool:
        return False

    def awaits_disk(self) -> bool:
        return False

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        raise NotImplemented_(f"basic.get not supported by stream queues {self.what}")

    def purge(self) -> int:
        raise NotImplemented_(f"queue.purge not supported by stream queues {self.what}")

    def ack(self, entries: Collection[Entry]) -> None:
        """Do nothing: deliveries are settled with their ``StreamReader``."""

    def requeue(self, consumed: Collection[Entry], now: int) -> None: ...
    def reject(self, entries: Sequence[Entry]) -> None: ...
    def reclaim(self, entries: Collection[Entry]) -> None: ...
    def give_back(self, consumed: Collection[Entry], now: int) -> None: ...
    def pause_deliveries(self) -> None: ...
    def resume_deliveries(self) -> None: ...
