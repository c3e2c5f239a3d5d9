"""How far who reads a stream is behind its end: those who read now, and those who are away."""

from collections.abc import Iterator
from typing import NamedTuple

from leveret.router.stream.reader import Reader
from leveret.router.stream.stream import Stream


class Lag(NamedTuple):
    """A consumer's name (None for one without) and tag (None for one that is away), its position, and how
    many messages and seconds it is behind. The seconds are the age of what it has acknowledged, or reads.
    """

    name: str | None
    tag: str | None
    active: bool
    offset: int
    messages: int
    seconds: int


def lags(stream: Stream) -> Iterator[Lag]:
    """Of all readers, then of the named consumers that are away."""
    reading = set()
    for reader in stream.consumers:
        if isinstance(reader, Reader):
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
    """How many messages and seconds it is from an offset, and what came at that time, to the end."""
    messages = max(0, stream.committed - max(offset, stream.first))
    if not messages:
        return 0, 0
    since = timestamp or stream.segments[0].created
    return messages, max(0, stream.host.wall - since // 1000)
