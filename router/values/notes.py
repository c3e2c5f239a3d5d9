"""Notes: small values by key that queues, streams, exchanges and the broker persist beside messages.

Responsible for the kinds of notes, each with the prefix of its keys. The module that writes a note encodes
its value, and ``leveret.router.store.notes`` stores notes.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from leveret.router.values.outcome import CommitBarrier

Key = bytes


class NoteKind(Enum):
    """The prefix of the keys of a kind of note. Prefixes are part of the storage format."""

    MESSAGE_ID = b"d"  # of a message that its queue or exchange accepts once
    PUBLISHER = b"i"  # the last publishing id of a stream's publisher
    POSITION = b"p"  # of a named consumer of a stream
    GAP = b"g"  # offsets of a stream that are lost
    FIRST_OFFSET = b"f"  # of a stream, below which retention has removed everything
    OUTBOX = b"o"  # of the broker: published rows of transactional outboxes
    STORE_NAME = b"s"  # of the broker: a random name, different for each data directory

    def key(self, name: bytes) -> Key:
        """Return the key of the note of this kind with this name."""
        return self.value + name

    def name_in(self, key: Key) -> bytes:
        """Return the name in a key of this kind."""
        return key[len(self.value) :]

    def select(self, notes: Mapping[Key, bytes]) -> dict[Key, bytes]:
        """Return the notes of this kind."""
        return {key: value for key, value in notes.items() if key.startswith(self.value)}


class Notes(Protocol):
    """The notes of one queue, stream or exchange, or of the broker itself."""

    def put(self, key: Key, value: bytes) -> None:
        """Persist a value, which is not empty, in place of the previous one of this key."""

    def forget(self, key: Key) -> None:
        """Persist that the key has no value."""

    def barrier(self) -> CommitBarrier | None:
        """Return a barrier for the commit of all notes so far; None if all are on disk."""


class BrokerNotes(Notes, Protocol):
    """The notes of the broker itself, which belong to no queue; ``kept`` are the current ones."""

    @property
    def kept(self) -> Mapping[Key, bytes]: ...


def apply_note(notes: dict[Key, bytes], key: Key, value: bytes) -> None:
    """Set a note to the value of its record; an empty value removes the note."""
    if value:
        notes[key] = value
    else:
        notes.pop(key, None)
