"""Packing of a stream's uncommitted messages into chunks.

Responsible for the entry of each message, and the mask of its filter value, until the commit. Not for their
bytes (see ``entries``, ``chunk`` and ``filters``).
"""

from collections.abc import Iterator, Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.stream.chunk import Chunk, pack_chunk, split
from leveret.router.stream.entries import encode_entries, encode_entry
from leveret.router.stream.filters import SIZE, pack_masks, value_mask, value_of


class Packer:
    """Packs messages in the order of their offsets, which have no gap.

    ``filter_size`` is the size of the chunks' filters in bytes. The value of a message, which may be long, is
    hashed when the message is added: a chunk is packed at once.
    """

    __slots__ = ("_entries", "_filter_size", "_masks")

    def __init__(self, filter_size: int = SIZE) -> None:
        self._filter_size = filter_size
        self._entries: list[bytes] = []
        self._masks: dict[int, int] = {}  # of the values of messages that have one, by offset

    def add(self, message: Message, offset: int) -> bytes:
        """Add a message, and return its entry."""
        if (value := value_of(message)) is not None:
            self._masks[offset] = value_mask(value, self._filter_size)
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

    def chunks(self, first: int, below: int, timestamp: int) -> Iterator[Chunk]:
        """Remove and return the messages from the offset ``first`` to under ``below``, as chunks."""
        count = below - first
        entries, self._entries = self._entries[:count], self._entries[count:]
        for part in split(entries):
            bloom = b""
            if self._masks:
                masks = [self._masks.pop(offset, None) for offset in range(first, first + len(part))]
                bloom = pack_masks(masks, self._filter_size)
            yield pack_chunk(first, part, timestamp, bloom)
            first += len(part)

    def cut(self, count: int) -> None:
        """Drop the messages after the first ``count``: adding them was interrupted."""
        del self._entries[count:]

    def clear(self) -> None:
        self._entries.clear()
        self._masks.clear()
