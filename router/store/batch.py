"""The content of one commit batch of the store, from its first change until it is on disk."""

from collections.abc import Mapping

from leveret.protocol.amqp.message import Frames
from leveret.router.store.exchange_log import StoredExchangeLog
from leveret.router.store.metadata.statements import Statement
from leveret.router.store.notes import StoredNotes
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.unpackable_files import Aside
from leveret.router.store.writer import Job
from leveret.router.values.outcome import CommitBarrier

Log = StoredQueueLog | StoredStreamLog | StoredExchangeLog
Touched = StoredQueueLog | StoredNotes  # with changes other than new messages


class CommitBatch:
    """Changes that are committed together."""

    __slots__ = ("aside", "barrier", "fresh", "held", "number", "parts", "statements", "then")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = False  # a reply waits for the commit
        self.barrier: CommitBarrier | None = None  # of confirms of duplicates, even in an empty batch
        self.statements: list[Statement] = []
        self.parts: list[Frames] = []
        self.fresh: dict[Log, int] = {}  # logs with publishes, each with a position above all of these
        self.then: list[Job] = []  # run after the commit
        self.aside: list[Aside] = []  # records that could not be packed; written before the rest

    def __bool__(self) -> bool:
        return bool(self.parts or self.statements or self.aside or self.barrier is not None)

    def note_fresh(self, fresh: Mapping[Log, int]) -> None:
        """Note that the batch has publishes of these logs, below these positions."""
        for log, below in fresh.items():
            self.fresh[log] = max(below, self.fresh.get(log, 0))

    @property
    def urgent(self) -> bool:
        """True if a client may wait for the commit: the batch has more than settlements and deliveries."""
        return bool(self.fresh or self.statements or self.held or self.aside)
