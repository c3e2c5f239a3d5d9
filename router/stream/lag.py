"""The lag of a stream's consumers, both connected and absent ones."""

from collections.abc import Iterator
from typing import NamedTuple

from leveret.router.stream.reader import StreamReader
from leveret.router.stream.stream import Stream


class Lag(NamedTuple):
    """The lag of one consumer in messages and seconds.

    ``name`` is None for a consumer without a name, ``tag`` is None for an absent one. ``seconds`` is the age
    of the chunk that the consumer reads, for an absent one the age of the last message that it acknowledged.
    """

    name: str | None
    tag: str | None
    active: bool
    offset: int
    messages: int
    seconds: int


def lags(stream: Stream) -> Iterator[Lag]:
    """Yield the lags of all readers, then of the named consumers that are absent."""
    reading = set()
    for reader in stream.consumers:
        if isinstance(reader, StreamReader):
            known = stream.positions.get(reader.name) if reader.name is not None else None
            waits = not reader.active and known is not None
            offset = known.offset if waits and known is not None else reader.position
            messages, seconds = _behind(stream, offset, reader.timestamp)
            yield Lag(reader.name, reader.tag, reader.active, offset, messages, seconds)
            reading.add(reader.name)
    for name, (offset, timestamp) in stream.positions:
        if name not in reading:
            yield Lag(name, None, False, offset, *_behind(stream, offset, timestamp))


def _behind(stream: Stream, offset: int, timestamp: int) -> tuple[int, int]:
    """Return the number of messages, and the seconds, from an offset and its time to the end of the
    stream.
    """
    messages = max(0, stream.committed - max(offset, stream.first))
    if not messages:
        return 0, 0
    since = timestamp or stream.segments[0].created
    return messages, max(0, stream.host.wall - since // 1000)
