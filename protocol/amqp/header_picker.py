"""Reading of chosen headers from the raw bytes of a message, without decoding the others.

Responsible for the names that exchanges and selectors need (``HeaderNames``) and for the walk over the raw
headers that decodes these alone. Not for whole tables (see ``table``) or other properties (see
``properties``). The message was accepted before, so the bytes are not checked again.
"""

from collections.abc import Generator, Sequence
from decimal import Decimal
from struct import Struct
from typing import TypeAlias

from leveret.protocol.amqp.message import Message, headers_at
from leveret.protocol.amqp.table import KEPT, Bounds, Table, Value, decode_value
from leveret.protocol.errors import SyntaxError_

STEPS = 2000  # entries that one slice passes, in less than a millisecond
SMALL = 4000  # bytes; shorter headers have fewer entries than two slices
# Bounds of tables and arrays that are decoded as wholes: no argument of a binding can have more values.
WHOLE = Bounds(KEPT.depth, 1024)
LARGER = Decimal("NaN")  # equal to no value of a binding

_LENGTH = Struct(">I").unpack_from
_TABLE, _ARRAY, _TEXT = b"FAS"
# Bytes of a value of a fixed size, with its type character.
_SIZES = {
    kind: 1 + size
    for kinds, size in ((b"tbB", 1), (b"su", 2), (b"Iif", 4), (b"D", 5), (b"lLdT", 8), (b"V", 0))
    for kind in kinds
}

Nested: TypeAlias = "list[tuple[int, int, HeaderNames, Table]]"  # begin and end of a table, and its result


class HeaderNames:
    """Names of headers, and of entries of tables in headers, each with the number of its users.

    ``children`` are the nodes of the next names, by the bytes of the name. ``users`` counts the paths that
    end at this node, ``whole`` those of them that need a whole table or array.
    """

    __slots__ = ("children", "users", "whole")

    def __init__(self) -> None:
        self.children: dict[bytes, HeaderNames] = {}
        self.users = self.whole = 0

    def add(self, path: Sequence[str], *, whole: bool = False) -> None:
        """Add a user of a header (a path of one name) or of an entry of a table in a header."""
        node = self
        for name in path:
            node = node.children.setdefault(name.encode("utf-8", "surrogateescape"), HeaderNames())
        node.users += 1
        node.whole += whole

    def remove(self, path: Sequence[str], *, whole: bool = False) -> None:
        """Remove a user that was added with the same arguments."""
        node, above = self, []
        for name in path:
            key = name.encode("utf-8", "surrogateescape")
            above.append((node, key))
            node = node.children[key]
        node.users -= 1
        node.whole -= whole
        while above and not (node.users or node.children):
            node, key = above.pop()
            del node.children[key]

    def pick(self, message: Message) -> Table:
        """Return the headers of a message that have these names.

        Of a table only the entries with these names are in the result, and arrays are empty, unless they are
        needed as wholes.
        """
        data = message.header_bytes
        at, end = headers_at(data)
        found: Table = {}
        if at < end and self.children:
            nested: Nested = [(at, end, self, found)]
            for at, end, names, table in nested:  # the list grows meanwhile
                _pick(data, at, end, names, table, nested, end)
        return found

    def pick_in_slices(self, message: Message) -> Generator[None, None, Table]:
        """Do the same as ``pick`` in slices, for headers of any size."""
        data = message.header_bytes
        start, stop = headers_at(data)
        found: Table = {}
        nested: Nested = [(start, stop, self, found)]
        for at, end, names, table in nested:
            while at < end:
                at = _pick(data, at, end, names, table, nested, STEPS)  # noqa: PLW2901
                yield
        return found


def value_end(data: bytes, at: int) -> int:
    """Return the offset after the value of a header whose type character stands at ``at``."""
    size = _SIZES.get(data[at])
    end: int = at + (5 + _LENGTH(data, at + 1)[0] if size is None else size)
    return end


def is_small(message: Message) -> bool:
    """Return True if ``HeaderNames.pick`` takes less than a millisecond."""
    return len(message.frames) - message.size <= SMALL


def _pick(  # noqa: PLR0917 - called once a message
    data: bytes, at: int, end: int, names: HeaderNames, found: Table, nested: Nested, steps: int
) -> int:
    """Add the entries of a table with these names to ``found``.

    Nested tables of which single entries are needed are added to ``nested``. Passes at most ``steps``
    entries; returns the offset of the next one.
    """
    wanted = names.children
    while at < end and steps:
        steps -= 1
        name_end = at + 1 + data[at]
        kind = data[name_end]
        size = _SIZES.get(kind)
        after = name_end + (5 + _LENGTH(data, name_end + 1)[0] if size is None else size)
        child = wanted.get(data[at + 1 : name_end])
        if child is not None:
            name = data[at + 1 : name_end].decode("utf-8", "surrogateescape")
            if name not in found:  # of entries with the same name the first counts
                if kind == _TEXT:
                    found[name] = data[name_end + 5 : after].decode("utf-8", "surrogateescape")
                elif kind not in (_TABLE, _ARRAY):
                    found[name] = decode_value(data, name_end, after, WHOLE)[0]
                elif child.whole:
                    found[name] = _whole(data, name_end, after)
                elif kind == _ARRAY:
                    found[name] = []
                else:
                    table: Table = {}
                    found[name] = table
                    if child.children:
                        nested.append((name_end + 5, after, child, table))
                if len(found) == len(wanted):
                    return end
        at = after
    return at


def _whole(data: bytes, at: int, end: int) -> Value:
    """Decode a table or an array."""
    try:
        return decode_value(data, at, end, WHOLE)[0]
    except SyntaxError_:
        return [LARGER]
