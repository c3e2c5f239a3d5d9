"""The published rows of one outbox, so that no row is published twice.

A row is remembered in the same commit as its message. It is needed until the row is deleted, and somewhat
longer: a crash of the server, or a fail-over to a replica that lags behind, may undo the deletion.
"""

from collections import deque
from collections.abc import Sequence
from struct import Struct

import structlog

from leveret.router.turns.backlog import Slices
from leveret.router.values.notes import BrokerNotes, Key, NoteKind

KNOWN = 20_000  # rows that are remembered
SIZE = 24  # bytes of a row's identity
SLICE = 1000  # notes and rows that are restored in one slice

_SEQUENCE = Struct(">Q")


class PublishedRows:
    """Remembers the last rows of the outbox ``outbox`` (16 bytes), by identities of ``SIZE`` bytes.

    Rows that were published in one turn share a note. Without ``notes`` nothing is stored. ``restore`` is
    called once, before all others.
    """

    def __init__(self, outbox: bytes, notes: BrokerNotes | None) -> None:
        self._prefix = NoteKind.OUTBOX.key(outbox)
        self._notes = notes
        self._known: set[bytes] = set()
        self._groups: deque[tuple[Key, Sequence[bytes]]] = deque()  # the oldest first
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._known

    def remember(self, identities: Sequence[bytes]) -> None:
        """Remember rows whose messages were enqueued in this turn."""
        self._sequence += 1
        key = self._prefix + _SEQUENCE.pack(self._sequence)
        self._known.update(identities)
        self._groups.append((key, identities))
        if self._notes is not None:
            self._notes.put(key, b"".join(identities))
        while len(self._known) - len(self._groups[0][1]) >= KNOWN:
            oldest, rows = self._groups.popleft()
            self._known.difference_update(rows)
            if self._notes is not None:
                self._notes.forget(oldest)

    def forget(self, identity: bytes) -> None:
        """Forget a row whose message could not be stored, so that it is published again."""
        for index in range(len(self._groups) - 1, -1, -1):
            key, rows = self._groups[index]
            if identity in rows:
                left = [each for each in rows if each != identity]
                self._groups[index] = key, left
                self._known.discard(identity)
                if self._notes is not None and left:
                    self._notes.put(key, b"".join(left))
                elif self._notes is not None:
                    self._notes.forget(key)
                return

    def restore(self) -> Slices:
        """Restore the rows from their notes, in slices; one that cannot be decoded is logged and removed."""
        if self._notes is None:
            return
        notes = list(self._notes.kept.items())
        found: list[tuple[Key, bytes]] = []
        for start in range(0, len(notes), SLICE):
            found += [each for each in notes[start : start + SLICE] if each[0].startswith(self._prefix)]
            yield
        found.sort()  # by sequence number; they are nearly in order
        left = SLICE
        for key, value in found:
            if len(key) != len(self._prefix) + _SEQUENCE.size or len(value) % SIZE:
                structlog.get_logger().error(
                    "published rows of an outbox cannot be decoded", key=key.hex(), value=value.hex()
                )
                self._notes.forget(key)
                continue
            rows = [value[start : start + SIZE] for start in range(0, len(value), SIZE)]
            self._groups.append((key, rows))
            self._known.update(rows)
            self._sequence = _SEQUENCE.unpack_from(key, len(self._prefix))[0]
            left -= 1 + len(rows)
            if left <= 0:
                left = SLICE
                yield
