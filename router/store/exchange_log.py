"""The stored log of one deduplicating exchange: its notes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from leveret.router.store.notes import StoredNotes
from leveret.router.store.segments.pages import Page

if TYPE_CHECKING:
    from leveret.router.store.store import Store
    from leveret.router.store.writer import Job


class StoredWindowLog:
    """The ``ExchangeLog`` of one exchange; ``id`` is that of its incarnation. It has no messages."""

    next_position = delivered = 0
    pages: Mapping[Page, None] = {}

    __slots__ = ("_store", "id", "notes")

    def __init__(self, store: "Store", number: int) -> None:
        self.id = number
        self.notes = StoredNotes(store, number)
        self._store = store

    def commit(self, below: int) -> None:
        """It has no messages."""

    def flush(self, below: int) -> bool:
        """There is nothing that goes into files."""
        return False

    def drop(self) -> "Sequence[Job]":
        """The exchange is deleted; there is no more to be done."""
        return ()
