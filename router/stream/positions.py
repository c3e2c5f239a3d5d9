"""How far named consumers have come in a stream, kept while they are away.

Owns the positions and their form as notes. A position is the offset of the first message that is not
acknowledged: a consumer that comes back under its name goes on there.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple

PREFIX = b"p"  # of the keys of notes

_VALUE = Struct(">QQ")

Key = bytes  # of a note
Note = Callable[[Key, bytes], None]


class Position(NamedTuple):
    """An offset, and the time of what was acknowledged before it (ms since the epoch; 0: nothing was)."""

    offset: int
    timestamp: int


class Positions:
    """The positions of one stream, by the names of the consumers."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[str, Position] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[tuple[str, Position]]:
        return iter(sorted(self._all.items()))

    def get(self, name: str) -> Position | None:
        return self._all.get(name)

    def recall(self, key: bytes, value: bytes) -> None:
        """A note of one comes back."""
        self._all[_name(key)] = Position(*_VALUE.unpack(value))

    def put(self, name: str, offset: int, timestamp: int, note: Note | None) -> None:
        """Keep a position, wherever the last one was."""
        position = self._all[name] = Position(offset, timestamp)
        if note is not None:
            note(_key(name), _VALUE.pack(*position))

    def advance(self, name: str, offset: int, timestamp: int, note: Note | None) -> None:
        """Keep a position if it is further on."""
        known = self._all.get(name)
        if known is None or offset > known.offset:
            self.put(name, offset, timestamp, note)

    def forget(self, name: str, note: Note | None) -> bool:
        """Keep none; False when there was none."""
        if self._all.pop(name, None) is None:
            return False
        if note is not None:
            note(_key(name), b"")
        return True


def _key(name: str) -> bytes:
    return PREFIX + name.encode("utf-8", "surrogateescape")


def _name(key: bytes) -> str:
    return key[len(PREFIX) :].decode("utf-8", "surrogateescape")
