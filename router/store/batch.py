"""What a batch of the store has gathered, until it is committed together."""

from leveret.router.store.exchange_log import StoredExchangeLog
from leveret.router.store.metadata.statements import Statement
from leveret.router.store.notes import StoredNotes
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.unpackable_files import Aside
from leveret.router.store.writer import Job
from leveret.router.values.outcome import CommitBarrier

Log = StoredQueueLog | StoredStreamLog | StoredExchangeLog
Touched = StoredQueueLog | StoredNotes  # with changes to be written beside messages


class CommitBatch:
    """What is committed together."""

    __slots__ = ("aside", "barrier", "fresh", "held", "number", "parts", "statements", "then")

    def __init__(self, number: int) -> None:
        self.number = number
        self.held = False  # a reply waits for it
        self.barrier: CommitBarrier | None = None  # confirms of duplicates wait for it, even if it is empty
        self.statements: list[Statement] = []
        self.parts: list[bytes] = []
        self.fresh: dict[Log, int] = {}  # with a position that all their publishes are below
        self.then: list[Job] = []  # to be done once it is committed
        self.aside: list[Aside] = []  # what could not be packed, on disk before the rest is

    def __bool__(self) -> bool:
        return bool(self.parts or self.statements or self.aside or self.barrier is not None)

    @property
    def urgent(self) -> bool:
        """Whether somebody may be waiting for it: it says more than what was settled or delivered."""
        return bool(self.fresh or self.statements or self.held or self.aside)
