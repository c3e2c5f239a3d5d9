"""Packing of a stream's uncommitted messages into chunks.

Responsible for the entry and the filter value of each message until the commit. Not for their bytes (see
``entries``, ``chunk`` and ``filters``).
"""

from collections.abc import Iterator, Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.stream.chunk import Chunk, pack_chunk, split
from leveret.router.stream.entries import encode_entries, encode_entry
from leveret.router.stream.filters import pack_filter, value_of


class Packer:
    """Packs messages in the order of their offsets, which have no gap."""

    __slots__ = ("_entries", "_values")

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._values: dict[int, str] = {}  # the filter values of messages that have one, by offset

    def add(self, message: Message, offset: int) -> bytes:
        """Add a message, and return its entry."""
        if (value := value_of(message)) is not None:
            self._values[offset] = value
        entry = encode_entry(message, offset)
        self._entries.append(entry)
        return entry

    def add_all(self, messages: Sequence[Message], first: int) -> list[bytes]:
        """Add messages with the same route, which name no stream header, from the offset ``first`` on.

        Returns their entries.
        """
        entries = encode_entries(messages, first)
        self._entries += entries
        return entries

    def chunks(self, first: int, below: int, timestamp: int, filter_size: int) -> Iterator[Chunk]:
        """Remove and return the messages from the offset ``first`` to under ``below``, as chunks."""
        count = below - first
        entries, self._entries = self._entries[:count], self._entries[count:]
        for part in split(entries):
            bloom = b""
            if self._values:
                values = [self._values.pop(offset, None) for offset in range(first, first + len(part))]
                bloom = pack_filter(values, filter_size)
            yield pack_chunk(first, part, timestamp, bloom)
            first += len(part)

    def cut(self, count: int) -> None:
        """Drop the messages after the first ``count``: adding them was interrupted."""
        del self._entries[count:]

    def clear(self) -> None:
        self._entries.clear()
        self._values.clear()
