"""Messages that a queue or an exchange takes once: a window of what came lately, by the value of a header.

Owns the window and its form as notes. A value is forgotten when its time is over, or when there are too many
newer ones; what has become of the message meanwhile is not asked.

Source: LavinMQ, "Message deduplication" (``x-message-deduplication`` and its arguments), which keeps the
window in memory only.
"""

from collections import OrderedDict
from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

from leveret.protocol.amqp.table import Timestamp
from leveret.router.values.notes import NoteKind, Notes

HEADER = "x-deduplication-header"  # of messages, unless the argument of this name tells another
SIZE = 128  # values that are remembered, unless the queue says otherwise
BYTES = 64 << 20  # of memory that a window takes up at the most, however many values it may have
COST = 350  # bytes that a value takes up besides its own
POSITION_MAX = 1 << 62

_VALUE = Struct(">QQ")
_SIMPLE = (str, bytes, int)


class Known(NamedTuple):
    """When a value is forgotten (ms since the epoch; 0: never), and the place of its message among all."""

    until: int
    position: int


class Deduplication:
    """The window of a queue or an exchange: ``size`` values, each for ``ttl`` ms (0: while there is room).

    ``arriving`` has the values of messages of which it is not known yet whether they are taken.
    """

    __slots__ = ("_bytes", "_known", "_name", "_size", "_ttl", "arriving")

    def __init__(self, header: str, size: int, ttl: int) -> None:
        self._name = header
        self._size = size
        self._ttl = ttl
        self._bytes = 0
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self.arriving: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._known)

    @property
    def newest(self) -> int:
        """The position of the last one; -1 when there is none."""
        return next(reversed(self._known.values())).position if self._known else -1

    def key(self, headers: Mapping[str, Any] | None) -> bytes | None:
        """What a message is known by; None when it has no such header, or one that holds no single value."""
        value = None if headers is None else headers.get(self._name)
        if not isinstance(value, _SIMPLE) or isinstance(value, bool | Timestamp):
            return None
        kind = type(value).__name__[:1].encode()
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        key = NoteKind.MESSAGE_ID.key(kind + (data if isinstance(data, bytes) else b"%d" % data))
        return key if len(key) < 1 << 16 else None

    def known(self, key: bytes, wall: int) -> Known | None:
        """What is known of a message's value at a time in ms since the epoch; None when it is new."""
        found = self._known.get(key)
        return None if found is None or 0 < found.until <= wall else found

    def add(self, key: bytes, position: int, wall: int, notes: Notes | None) -> None:
        """A message with a new value came."""
        known = Known(wall + self._ttl if self._ttl else 0, position)
        if key not in self._known:
            self._bytes += COST + len(key)
        self._known[key] = known
        self._known.move_to_end(key)
        if notes is not None:
            notes.put(key, _VALUE.pack(*known))
        while len(self._known) > self._size or self._bytes > BYTES:
            forgotten, _ = self._known.popitem(last=False)
            self._bytes -= COST + len(forgotten)
            if notes is not None:
                notes.forget(forgotten)

    def forget(self, headers: Mapping[str, Any] | None, notes: Notes | None) -> None:
        """Take a message with these headers again: the one that came was not kept."""
        key = self.key(headers)
        if key is not None and self._known.pop(key, None) is not None and notes is not None:
            notes.forget(key)

    def again(self, key: bytes) -> bytes:
        """The note of a value, to be kept once more."""
        return _VALUE.pack(*self._known[key])

    def recall(self, notes: Mapping[bytes, bytes]) -> None:
        """Its notes come back, the oldest first. Raises ValueError and struct.error for what is no note."""
        notes = NoteKind.MESSAGE_ID.select(notes)
        found = [(Known(*_VALUE.unpack(value)), key) for key, value in notes.items()]
        if any(known.position > POSITION_MAX for known, _ in found):
            raise ValueError("no message has such a position")
        found.sort(key=lambda each: each[0].position)
        self._known = OrderedDict((key, known) for known, key in found)
        self._bytes = sum(COST + len(key) for key in self._known)
