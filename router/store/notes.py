"""The stored notes of one log: of a queue, a stream, an exchange or the broker.

``leveret.router.values.notes`` defines notes.
"""

from typing import TYPE_CHECKING

from leveret.router.store.journal.records import pack_note
from leveret.router.values.notes import Key
from leveret.router.values.outcome import CommitBarrier

if TYPE_CHECKING:
    from leveret.router.store.store import Store


class StoredNotes:
    """The ``Notes`` of the log with this id.

    ``kept`` are the current notes, for checkpoints. ``changed`` are the changes that no batch contains yet: a
    value, or ``b""`` for a note that was removed. ``batch`` is the number of the batch that the last change
    is part of.
    """

    __slots__ = ("_store", "_touched", "batch", "changed", "id", "kept")

    def __init__(self, store: "Store", number: int) -> None:
        self.id = number
        self.kept: dict[Key, bytes] = {}
        self.changed: dict[Key, bytes] = {}
        self.batch = 0
        self._store = store
        self._touched = False

    def put(self, key: Key, value: bytes) -> None:
        self.kept[key] = value
        self._change(key, value)

    def forget(self, key: Key) -> None:
        self.kept.pop(key, None)
        self._change(key, b"")

    def _change(self, key: Key, value: bytes) -> None:
        """Add a change to the batch of this turn."""
        self.changed[key] = value
        self.batch = self._store.batch
        if not self._touched:
            self._touched = True
            self._store.touched.append(self)

    def barrier(self) -> CommitBarrier | None:
        return self._store.barrier() if self.batch > self._store.committed_batch else None

    def records(self) -> list[bytes]:
        """Return a record for each change. The caller calls ``packed`` once a batch contains them."""
        return [pack_note(self.id, key, value) for key, value in self.changed.items()]

    def packed(self) -> None:
        """Start the changes of the next batch."""
        self._touched = False
        self.changed = {}

    def leave_out(self, key: Key) -> None:
        """Remove a note whose record cannot be packed."""
        del self.changed[key]
        self.kept.pop(key, None)

    def restore(self, notes: dict[Key, bytes]) -> None:
        """Set the notes that were read from the data directory."""
        self.kept = notes
