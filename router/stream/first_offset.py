"""The note of a stream's first offset, written before retention removes the segments below it.

All segments of a stream may be removed while its newest messages are in the journal only. Without the note, a
start could not distinguish this stream from one that has lost its files.
"""

from collections.abc import Mapping
from struct import Struct

from leveret.router.values.notes import NoteKind

FIRST_OFFSET = NoteKind.FIRST_OFFSET.key(b"")

_OFFSET = Struct(">Q")


def pack_first_offset(first: int) -> bytes:
    """Return the value of the note."""
    return _OFFSET.pack(first)


def first_offset(notes: Mapping[bytes, bytes]) -> int:
    """Return the offset below which retention has removed everything; 0 if it has removed nothing."""
    value = notes.get(FIRST_OFFSET, b"")
    return int(_OFFSET.unpack(value)[0]) if len(value) == _OFFSET.size else 0
