"""The patterns of LIKE: ``%`` matches any characters, ``_`` one.

Patterns come from clients, so matching never backtracks, and no Python loop runs over the characters of a
text. A pattern is cut at each ``%`` into segments. The outer two are anchored, and each of the others is
matched at its first occurrence after the previous segment; a later one could not match more texts. A segment
without ``_`` is found by ``str.find``, one with ``_`` by a few operations on integers that have a bit for
each character of the text (``Occurrences``).
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TypeAlias

Matcher: TypeAlias = Callable[[str], bool]

ANY_ONE = None  # an unescaped _ among the characters of a segment
SEARCH_COST = 4  # cost of searching a text for a segment
TEXTS = 8  # texts with cached occurrences: all bindings of an exchange check the headers of one message


class Occurrences:
    """The positions of each character in a text: bit i of an integer is set if it is character i."""

    __slots__ = ("_found", "_lanes")

    def __init__(self, text: str) -> None:
        self._found: dict[str, int] = {}
        # From the last character to the first: the first digit of a number is its highest bit.
        try:
            self._lanes = [text.encode("latin-1")[::-1]]
        except UnicodeEncodeError:
            encoded = text.encode("utf-32-be", "surrogatepass")[::-1]
            self._lanes = [encoded[lane::4] for lane in range(3)]  # no code point has a fourth byte

    def of(self, character: str) -> int:
        found = self._found.get(character)
        if found is None:
            found = self._found[character] = self._find(ord(character))
        return found

    def _find(self, code: int) -> int:
        if code >> 8 * len(self._lanes):
            return 0
        found = -1
        for lane in self._lanes:
            byte = code & 255
            digits = lane.translate(b"0" * byte + b"1" + b"0" * (255 - byte))
            found &= int(digits, 2)
            code >>= 8
        return found


occurrences = lru_cache(TEXTS)(Occurrences)


class LikeSegment:
    """The part between two ``%``: characters, and positions where any character matches."""

    __slots__ = ("_pieces", "_places", "length")

    def __init__(self, characters: list[str | None]) -> None:
        self.length = len(characters)
        self._pieces = list(_pieces(characters))
        self._places = []  # positions of the characters, if any other may be between them
        if ANY_ONE in characters:
            self._places = [(place, one) for place, one in enumerate(characters) if one is not ANY_ONE]

    @property
    def cost(self) -> int:
        """Return the longest time of ``find``, in the units of ``Expression.cost``."""
        return SEARCH_COST + len(self._places)

    def stands_at(self, text: str, position: int) -> bool:
        """Return True if the segment matches at ``position``, given that enough text follows."""
        for offset, piece in self._pieces:  # noqa: SIM110  # a generator costs more than most patterns
            if not text.startswith(piece, position + offset):
                return False
        return True

    def find(self, text: str, start: int, end: int) -> int:
        """Return the end of the segment's first occurrence within ``text[start:end]``, or -1."""
        if not self._pieces:
            return start + self.length if start + self.length <= end else -1
        offset, piece = self._pieces[0]
        found = text.find(piece, start + offset, end)
        if found < 0:
            return -1
        if not self._places:
            return found + self.length
        where = occurrences(text)
        possible = -1 << found - offset
        for place, one in self._places:
            possible &= where.of(one) >> place
            if not possible:
                return -1
        found = (possible & -possible).bit_length() - 1 + self.length
        return found if found <= end else -1


def compile_like(pattern: str, escape: str | None = None) -> tuple[Matcher, int]:
    """Compile a pattern to a predicate of the whole text.

    Returns the predicate and its longest time, in the units of ``Expression.cost``. Raises ValueError if
    ``escape`` is not one character, or is followed by anything but ``%``, ``_`` or itself (SQL-92 8.5).
    """
    segments = [LikeSegment(characters) for characters in _split(pattern, escape)]
    if len(segments) == 1:
        whole = segments[0]
        return (lambda text: len(text) == whole.length and whole.stands_at(text, 0)), 0
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

    return matches, sum(segment.cost for segment in middle)


def _split(pattern: str, escape: str | None) -> list[list[str | None]]:
    """Return the characters of each segment; there is one segment more than there are ``%``."""
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
    """Return the runs between positions where any character matches, with their offsets."""
    piece = ""
    for place, one in enumerate([*characters, ANY_ONE]):
        if one is not ANY_ONE:
            piece += one
        elif piece:
            yield place - len(piece), piece
            piece = ""
