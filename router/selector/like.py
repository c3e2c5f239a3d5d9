"""The patterns of LIKE: ``%`` stands for any characters, ``_`` for one.

Patterns come from clients, so matching never backtracks: a pattern is cut at each ``%`` into segments, the
outer two are anchored, and each of the others is taken at the first place where it occurs behind the one
before. The first place is always as good as any later one, so the text is walked once.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

Matcher: TypeAlias = Callable[[str], bool]

ANY_ONE = None  # an unescaped _ among the characters of a segment


class Segment:
    """What stands between two ``%``: characters, and places where any character will do."""

    __slots__ = ("_accept", "_anywhere", "_masks", "_pieces", "length")

    def __init__(self, characters: list[str | None]) -> None:
        self.length = len(characters)
        self._pieces = list(_pieces(characters))
        # For find(): bit i of a character's mask says that it may stand at place i of the segment.
        self._anywhere = sum(1 << place for place, one in enumerate(characters) if one is ANY_ONE)
        self._masks: dict[str, int] = {}
        for place, one in enumerate(characters):
            if one is not ANY_ONE:
                self._masks[one] = self._masks.get(one, self._anywhere) | 1 << place
        self._accept = 1 << self.length >> 1

    def stands_at(self, text: str, position: int) -> bool:
        """Whether the segment matches at ``position``, if there is enough text behind it."""
        for offset, piece in self._pieces:  # noqa: SIM110  # a generator costs more than most patterns
            if not text.startswith(piece, position + offset):
                return False
        return True

    def find(self, text: str, start: int, end: int) -> int:
        """The end of the segment's first occurrence within ``text[start:end]``, or -1."""
        if not self._anywhere:
            literal = self._pieces[0][1]
            found = text.find(literal, start, end)
            return found if found < 0 else found + self.length
        # Shift-And (Baeza-Yates and Gonnet, 1992): bit i says that places 0 to i match the text up to here.
        state = 0
        for position in range(start, end):
            state = (state << 1 | 1) & self._masks.get(text[position], self._anywhere)
            if state & self._accept:
                return position + 1
        return -1


def compile_like(pattern: str, escape: str | None = None) -> Matcher:
    """Compile a pattern to a function of the whole text.

    Raises ValueError when ``escape`` is not one character, or stands before anything but ``%``, ``_`` or
    itself (SQL-92 8.5).
    """
    segments = [Segment(characters) for characters in _split(pattern, escape)]
    if len(segments) == 1:
        whole = segments[0]
        return lambda text: len(text) == whole.length and whole.stands_at(text, 0)
    first, last = segments[0], segments[-1]
    middle = [segment for segment in segments[1:-1] if segment.length]

    def matches(text: str) -> bool:
        position, end = first.length, len(text) - last.length
        if end < position or not first.stands_at(text, 0) or not last.stands_at(text, end):
            return False
        for segment in middle:
            position = segment.find(text, position, end)
            if position < 0:
                return False
        return True

    return matches


def _split(pattern: str, escape: str | None) -> list[list[str | None]]:
    """The characters of each segment; one segment more than there are ``%``."""
    if escape is not None and len(escape) != 1:
        raise ValueError("ESCAPE takes a single character")
    segments: list[list[str | None]] = [[]]
    characters = iter(pattern)
    for one in characters:
        if one == escape:
            escaped = next(characters, "")
            if escaped not in ("%", "_", escape):
                raise ValueError("the escape character must stand before %, _ or itself")
            segments[-1].append(escaped)
        elif one == "%":
            segments.append([])
        else:
            segments[-1].append(ANY_ONE if one == "_" else one)
    return segments


def _pieces(characters: list[str | None]) -> Iterator[tuple[int, str]]:
    """The runs between the places where any character will do, with their offsets."""
    piece = ""
    for place, one in enumerate([*characters, ANY_ONE]):
        if one is not ANY_ONE:
            piece += one
        elif piece:
            yield place - len(piece), piece
            piece = ""
