"""Interface of the core to its storage, and the implementation that stores nothing.

Positions count batches: what is done in a turn is on disk when ``committed`` has reached the ``batch`` it was
gathered in.
"""

from collections.abc import Mapping
from typing import Protocol

from leveret.router.exchange.base import Binding, Exchange
from leveret.router.exchange.log import ExchangeLog
from leveret.router.persistence.rows import Row
from leveret.router.queue.interface import AnyQueue
from leveret.router.queue.log import QueueLog
from leveret.router.queue.paged_run import Pager
from leveret.router.queue.queue import Queue
from leveret.router.stream.log import StreamLog
from leveret.router.stream.stream import Stream


class Storage(Protocol):
    """Keeps durable things. It is told of those only, and of each when it has happened."""

    batch: int
    committed: int
    refused: int  # messages that could not be kept, since the start
    changes: int  # of the topology, so far
    changed: int  # the batch that the last of them is part of

    @property
    def unpackable(self) -> Mapping[str, int]:
        """How many records of each kind could not be kept, since the start."""

    @property
    def pager(self) -> Pager | None:
        """Who moves messages out of memory; None when they have to stay."""

    def hold(self) -> int:
        """Have what was done until now committed without delay: somebody waits for it.

        The batch it is part of; 0 when nothing of it has still to be written.
        """

    def behind(self, taken: int) -> bool:
        """Whether so much has come since the last commit, in bytes that clients sent, or so many journal
        files are still needed, that more should wait for the disk. A disk that fails keeps nobody waiting.
        """

    def end_turn(self) -> bool:
        """End what is committed as one whole. Return True if stored messages were settled before their
        commit, so that their confirms need not wait for it.
        """

    def failed(self, error: BaseException) -> bool:
        """Examine an exception of this turn. Return True, and commit nothing more, if the exception left the
        storage in an unknown state.
        """

    def break_off(self, error: Exception) -> None:
        """Commit nothing more: the broker's state is not to be trusted, and it has to stop."""

    def begin_whole(self) -> None:
        """What is done until ``end_whole`` is one whole, though it takes several turns."""

    def end_whole(self) -> None: ...

    def keep_queue(self, queue: Queue) -> QueueLog | None: ...
    def keep_stream(self, stream: Stream) -> StreamLog | None: ...
    def forget_queue(self, queue: AnyQueue) -> None: ...
    def keep_exchange(self, vhost: str, exchange: Exchange) -> ExchangeLog | None: ...
    def forget_exchange(self, vhost: str, exchange: Exchange) -> None: ...
    def keep_binding(self, vhost: str, binding: Binding) -> None: ...
    def forget_binding(self, vhost: str, binding: Binding) -> None: ...
    def keep(self, row: Row) -> None:
        """Keep this, in place of what there is by that name."""

    def forget(self, row: Row) -> None:
        """Keep it no longer, nor what depends on it: all that is in a virtual host, all rights of a user."""


class NoStorage:
    """Keeps nothing: everything is committed at once."""

    batch = 0
    committed = 0
    refused = 0
    unpackable: Mapping[str, int] = {}
    changes = 0
    changed = 0
    pager = None

    def hold(self) -> int:
        return 0

    def behind(self, taken: int) -> bool:
        return False

    def end_turn(self) -> bool:
        return False

    def failed(self, error: BaseException) -> bool:
        return False

    def break_off(self, error: Exception) -> None: ...
    def begin_whole(self) -> None: ...
    def end_whole(self) -> None: ...
    def keep_queue(self, queue: Queue) -> QueueLog | None:
        return None

    def keep_stream(self, stream: Stream) -> StreamLog | None:
        return None

    def forget_queue(self, queue: AnyQueue) -> None: ...
    def keep_exchange(self, vhost: str, exchange: Exchange) -> ExchangeLog | None:
        return None

    def forget_exchange(self, vhost: str, exchange: Exchange) -> None: ...
    def keep_binding(self, vhost: str, binding: Binding) -> None: ...
    def forget_binding(self, vhost: str, binding: Binding) -> None: ...
    def keep(self, row: Row) -> None: ...
    def forget(self, row: Row) -> None: ...
