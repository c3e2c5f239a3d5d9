"""The positions of named consumers of a stream, which outlive the consumers, and their notes.

A position is the offset of the first message that is not acknowledged: the next consumer of the same name
begins there.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from leveret.router.values.notes import Key, NoteKind, Notes

KNOWN = 10_000  # maximum number of positions; beyond it the ones unchanged for longest are dropped
LARGEST = (1 << 63) - 1  # the largest possible offset of a message

_VALUE = Struct(">QQ")


class Position(NamedTuple):
    """An offset, and the time of the last acknowledged message before it (ms since the epoch; 0: none)."""

    offset: int
    timestamp: int


class Positions:
    """The positions of one stream, by the names of the consumers."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: OrderedDict[str, Position] = OrderedDict()  # the last changed last

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[tuple[str, Position]]:
        return iter(sorted(self._all.items()))

    def get(self, name: str) -> Position | None:
        return self._all.get(name)

    def recall(self, notes: Mapping[Key, bytes]) -> None:
        """Restore positions from the notes of a stream; those at the oldest messages are forgotten first.

        Raises ValueError and struct.error for a note that cannot be decoded.
        """
        found = [
            (_name(key), Position(*_VALUE.unpack(value)))
            for key, value in NoteKind.POSITION.select(notes).items()
        ]
        if any(position.offset > LARGEST for _, position in found):
            raise ValueError("the offset of a position is too large")
        self._all = OrderedDict(sorted(found, key=lambda each: each[1].timestamp))

    def put(self, name: str, offset: int, timestamp: int, notes: Notes | None) -> None:
        """Store a position, which may be before the previous one. ``offset`` is at most ``LARGEST``."""
        position = Position(offset, timestamp)
        value = _VALUE.pack(*position)
        self._all[name] = position
        self._all.move_to_end(name)
        if notes is not None:
            notes.put(_key(name), value)
        while len(self._all) > KNOWN:
            self.forget(next(iter(self._all)), notes)

    def forget(self, name: str, notes: Notes | None) -> bool:
        """Remove a position; return False if there was none."""
        if self._all.pop(name, None) is None:
            return False
        if notes is not None:
            notes.forget(_key(name))
        return True


def _key(name: str) -> bytes:
    return NoteKind.POSITION.key(name.encode("utf-8", "surrogateescape"))


def _name(key: bytes) -> str:
    return NoteKind.POSITION.name_in(key).decode("utf-8", "surrogateescape")
