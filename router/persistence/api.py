"""Interface of the core to its storage, and the implementation that stores nothing.

Changes are committed in numbered batches: a change is on disk when ``committed_batch`` has reached the
number that ``batch`` had when the change was made.
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
from leveret.router.values.notes import BrokerNotes


class Storage(Protocol):
    """Stores durable objects and persistent messages; the core passes only these, after each change.

    ``batch`` is the number of the batch that takes new changes, ``committed_batch`` of the last one on disk.
    """

    batch: int
    committed_batch: int
    unstorable: int  # messages that could not be stored, since the start
    changes: int  # number of changes of metadata, since the start
    changed: int  # number of the batch with the last of these changes

    @property
    def unpackable(self) -> Mapping[str, int]:
        """Numbers of records that could not be stored since the start, by kind."""

    @property
    def pager(self) -> Pager | None:
        """The pager, which moves messages out of memory; None if all messages stay in memory."""

    def hold(self) -> int:
        """Commit the changes so far without delay, because a client waits for them.

        Return the number of their batch, or 0 if there is nothing to write.
        """

    def behind(self, taken: int, *, small: bool = False) -> bool:
        """Return True if the broker should stop reading from clients until the disk has caught up.

        True if too many bytes have arrived since the last commit (``taken`` is the number of bytes received
        so far), or too many journal files are still needed; more of them for a client whose reads are
        ``small``. False if the disk fails.
        """

    def end_turn(self) -> bool:
        """End the turn, whose changes are committed together. Return True if stored messages were settled
        before their commit, so that their confirms need not wait for it.
        """

    def failed(self, error: BaseException) -> bool:
        """Examine an exception of this turn. Return True, and commit nothing more, if the exception left the
        storage in an unknown state.
        """

    def break_off(self, error: Exception) -> None:
        """Commit nothing more, because the broker's state may be wrong; the broker stops."""

    def begin_whole(self) -> None:
        """Commit all changes until ``end_whole`` together, although they take several turns."""

    def end_whole(self) -> None: ...

    @property
    def broker_notes(self) -> BrokerNotes | None:
        """The notes of the broker itself; None if nothing is stored."""

    def keep_queue(self, queue: Queue) -> QueueLog | None: ...
    def keep_stream(self, stream: Stream) -> StreamLog | None: ...
    def forget_queue(self, queue: AnyQueue) -> None: ...
    def keep_exchange(self, vhost: str, exchange: Exchange) -> ExchangeLog | None: ...
    def forget_exchange(self, vhost: str, exchange: Exchange) -> None: ...
    def keep_binding(self, vhost: str, binding: Binding) -> None: ...
    def forget_binding(self, vhost: str, binding: Binding) -> None: ...
    def keep(self, row: Row) -> None:
        """Store a row, replacing the row of the same key."""

    def forget(self, row: Row) -> None:
        """Delete a row and its dependents: the objects of a virtual host, the permissions of a user."""


class NoStorage:
    """Storage that stores nothing and counts every change as committed at once."""

    batch = 0
    committed_batch = 0
    unstorable = 0
    unpackable: Mapping[str, int] = {}
    changes = 0
    changed = 0
    pager = None
    broker_notes = None

    def hold(self) -> int:
        return 0

    def behind(self, taken: int, *, small: bool = False) -> bool:
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
