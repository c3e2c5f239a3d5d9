"""The stored log of one exchange, or of the broker itself: its notes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from leveret.router.store.notes import StoredNotes
from leveret.router.store.segments.pages import StoredPage

if TYPE_CHECKING:
    from leveret.router.store.store import Store
    from leveret.router.store.writer import Job


class StoredExchangeLog:
    """The ``ExchangeLog`` of one exchange, which has only notes; also the log of the broker itself.

    An exchange that is deleted and declared again gets another ``id``. The broker's is ``BROKER_LOG``.
    """

    next_position = delivered = 0
    pages: Mapping[StoredPage, None] = {}

    __slots__ = ("_store", "id", "notes")

    def __init__(self, store: "Store", number: int) -> None:
        self.id = number
        self.notes = StoredNotes(store, number)
        self._store = store

    def commit(self, below: int) -> None:
        """Do nothing: the log has no messages."""

    def flush(self, below: int) -> bool:
        """Return False: no messages have to be written to files."""
        return False

    def drop(self) -> "Sequence[Job]":
        """Return the jobs that follow the deletion of the exchange: none."""
        return ()
