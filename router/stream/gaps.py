"""Notes of the offsets of a stream that a repair has found to be lost, so that they are reported only once.

A repair writes these notes, and the broker keeps them. Missing offsets without a note are reported.
"""

from collections.abc import Iterable, Mapping
from struct import Struct

from leveret.router.values.notes import NoteKind

Gap = tuple[int, int]  # first offset, count

_OFFSET = Struct(">Q")


def pack_gap(lost: Gap) -> tuple[bytes, bytes]:
    """Return the note of lost offsets: its key holds the first of them, its value their number."""
    first, count = lost
    return NoteKind.GAP.key(_OFFSET.pack(first)), _OFFSET.pack(count)


def known_gaps(notes: Mapping[bytes, bytes]) -> list[Gap]:
    """Return the offsets that are known to be lost, in their order."""
    named = ((NoteKind.GAP.name_in(key), value) for key, value in NoteKind.GAP.select(notes).items())
    return sorted(
        (_OFFSET.unpack(name)[0], _OFFSET.unpack(value)[0])
        for name, value in named
        if len(name) == len(value) == _OFFSET.size
    )


def offsets(lost: Gap) -> str:
    """Return these offsets in words."""
    first, count = lost
    return f"offset {first}" if count == 1 else f"offsets {first} to {first + count - 1}"


def without(first: int, below: int, taken: Iterable[Gap]) -> list[Gap]:
    """Return the offsets from ``first`` to under ``below`` without the ascending ones in ``taken``."""
    left: list[Gap] = []
    for start, count in taken:
        if start >= below:
            break
        if start > first:
            left.append((first, start - first))
        first = max(first, start + count)
    if first < below:
        left.append((first, below - first))
    return left
