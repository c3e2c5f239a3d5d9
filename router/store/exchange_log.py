"""What the store knows of an exchange that takes messages once: the notes of its window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.store.journal.records import pack_note
from leveret.router.store.segments.pages import Page

if TYPE_CHECKING:
    from leveret.router.store.store import Store
    from leveret.router.store.unpackable import Unpackable
    from leveret.router.store.writer import Job


class StoredWindowLog:
    """The ``ExchangeLog`` of one exchange; ``id`` is that of its incarnation. It has no messages."""

    next_position = delivered = 0
    pages: Mapping[Page, None] = {}

    __slots__ = ("_batch", "_store", "_touched", "id", "noted", "notes")

    def __init__(self, store: "Store", number: int) -> None:
        self.id = number
        self.notes: dict[bytes, bytes] = {}
        self._store = store
        self._batch = 0  # that of the last note
        self.noted: dict[bytes, bytes] = {}  # in this turn
        self._touched = False

    def await_commit(self, message: Message, key: bytes, value: bytes) -> None:
        if self._batch > self._store.committed:
            entry = Entry(message, 0)  # it is not stored itself, and never settled
            self._store.publishes.append((self, entry, message))
            self.note(key, value)
            self._store.hold()

    def note(self, key: bytes, value: bytes) -> None:
        """Keep a value; it is written at the end of the turn."""
        if value:
            self.notes[key] = value
        else:
            self.notes.pop(key, None)
        self.noted[key] = value
        self._batch = self._store.batch
        if not self._touched:
            self._touched = True
            self._store.touched.append(self)

    def records(self) -> list[bytes]:
        """The notes of this turn, as records; ``packed`` says that they are part of a batch."""
        return [pack_note(self.id, key, value) for key, value in self.noted.items()]

    def leave_out(self, unpackable: "Unpackable") -> None:
        """Write nothing of this in the next batch: it has no record."""
        key = unpackable.key
        if unpackable.kind == "note" and isinstance(key, bytes):
            del self.noted[key]
            self.notes.pop(key, None)

    def packed(self) -> None:
        """The records are part of a batch: what they tell is told."""
        self._touched = False
        self.noted = {}

    def commit(self, below: int) -> None:
        """It has no messages."""

    def flush(self, below: int) -> bool:
        """There is nothing that goes into files."""
        return False

    def drop(self) -> "Sequence[Job]":
        """The exchange is deleted; there is no more to be done."""
        return ()
