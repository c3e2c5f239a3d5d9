"""Publishers that number their messages, so that what they send twice is stored once.

Owns the last number of each publisher, and its form as a note. Numbers of one publisher only grow; one at or
below the last that was stored has been stored.
"""

from collections import OrderedDict
from collections.abc import Mapping
from struct import Struct
from typing import Any

from leveret.router.values.field_values import is_integer
from leveret.router.values.notes import NoteKind, Notes

NAME, NUMBER = "x-publisher-name", "x-publishing-id"  # headers of a message
LONGEST = 255  # bytes of a name, as of a consumer's
KNOWN = 10_000  # publishers that are known; past that those are forgotten that were silent the longest
UNUSABLE = b"", 0
USABLE = f"{NAME} is a text of at most {LONGEST} bytes, and {NUMBER} an integer of 64 bits"

_VALUE = Struct(">Qq")  # when it was last heard of, by a count; its last number


class Publishers:
    """The numbered publishers of one stream."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def recall(self, notes: Mapping[bytes, bytes]) -> None:
        """The notes of a stream come back."""
        notes = NoteKind.PUBLISHER.select(notes)
        found = sorted((*_VALUE.unpack(value), key) for key, value in notes.items())
        self._last = OrderedDict((key, number) for _, number, key in found)

    def is_known(self, key: bytes, number: int) -> bool:
        """Whether a publisher's message of this number has come before."""
        return number <= self._last.get(key, -(1 << 63) - 1)

    def came(self, key: bytes, number: int, offset: int, notes: Notes | None) -> None:
        """A publisher's message is stored at an offset."""
        self._last[key] = number
        self._last.move_to_end(key)
        if notes is not None:
            notes.put(key, _VALUE.pack(offset, number))
        if len(self._last) > KNOWN:
            forgotten, _ = self._last.popitem(last=False)
            if notes is not None:
                notes.forget(forgotten)

    def again(self, key: bytes, offset: int) -> bytes:
        """The note of a publisher, to be kept once more."""
        return _VALUE.pack(offset, self._last[key])


def identity(headers: Mapping[str, Any]) -> tuple[bytes, int] | None:
    """A message's publisher, as the key of its note, and its number; None when it has no such headers, and
    ``UNUSABLE`` when they say neither, or a name that is longer: what was known of it would have to be kept.
    """
    name, number = headers.get(NAME), headers.get(NUMBER)
    if name is None and number is None:
        return None
    if not isinstance(name, str) or not is_integer(number) or not -(1 << 63) <= number < 1 << 63:
        return UNUSABLE
    encoded = name.encode("utf-8", "surrogateescape")
    return (NoteKind.PUBLISHER.key(encoded), number) if len(encoded) <= LONGEST else UNUSABLE
