"""Messages of a stream that came and are not committed yet, and the chunks that are made of them then.

Owns what has to be remembered of each until then: its entry and its filter value. How those look in a chunk
is the business of ``chunk`` and ``filters``.
"""

from collections.abc import Iterator, Sequence

from leveret.protocol.amqp.message import Message
from leveret.router.stream.chunk import Chunk, Encoder, pack_chunk, split
from leveret.router.stream.filters import pack_filter, value_of


class Packer:
    """Takes messages in the order of their offsets, which have no gap."""

    __slots__ = ("_encoder", "_entries", "_values")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._entries: list[bytes] = []
        self._values: dict[int, str] = {}  # filter values of those that have one, by offset

    def add(self, message: Message, offset: int) -> None:
        headers = message.properties.headers
        if headers is not None and (value := value_of(headers)) is not None:
            self._values[offset] = value
        self._entries.append(self._encoder.entry(message, offset))

    def add_all(self, messages: Sequence[Message], first: int) -> None:
        """The same for messages that differ in their bodies alone, from the offset ``first`` on."""
        if (value := value_of(messages[0].properties.headers)) is not None:
            self._values.update((offset, value) for offset in range(first, first + len(messages)))
        self._entries += self._encoder.entries(messages, first)

    def chunks(self, first: int, below: int, timestamp: int, filter_size: int) -> Iterator[Chunk]:
        """What came from the offset ``first`` on, up to ``below``, as chunks; it is here no longer."""
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
        """Forget what came behind the first ``count`` messages: it was not finished."""
        del self._entries[count:]

    def clear(self) -> None:
        self._entries.clear()
        self._values.clear()
