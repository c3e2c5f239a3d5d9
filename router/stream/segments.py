"""The segments of a stream: growth and retention.

Responsible for retention by size and by age. Not for files (see ``store/streams``).

Source: RabbitMQ, "Streams" (Retention).
"""

from bisect import bisect_right
from operator import attrgetter

from leveret.router.arguments.queue import QueueArguments
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.log import StreamSegment

SEGMENT_SIZE = 500_000_000  # bytes, as in RabbitMQ, unless the stream's arguments set another size
FIRST, CREATED = attrgetter("first"), attrgetter("created")


class StreamSegments(list[StreamSegment]):
    """The segments in their order; the last is being written."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Return the bytes of all segments."""
        return sum(segment.size for segment in self)

    def place(self, chunk: Chunk, largest: int | None) -> StreamSegment:
        """Return the segment for a chunk: the last segment, or a new one if the last has ``largest``
        bytes.
        """
        if not self or self[-1].sealed or self[-1].size >= (SEGMENT_SIZE if largest is None else largest):
            self.append(StreamSegment(chunk.first, chunk.timestamp))
        return self[-1]

    def apply_retention(self, settings: QueueArguments, wall: int) -> list[StreamSegment]:
        """Remove and return whole segments beyond the limits, the oldest first, never the last.

        ``wall`` is in ms since the epoch.
        """
        total = self.size
        count = 0
        while count < len(self) - 1:
            too_large = settings.max_length_bytes is not None and total > settings.max_length_bytes
            newest = self[count + 1].created
            if not too_large and (settings.max_age is None or newest > wall - settings.max_age):
                break
            total -= self[count].size
            count += 1
        gone = self[:count]
        del self[:count]
        return gone

    def ages(self, settings: QueueArguments) -> int | None:
        """Return the time when the first segment exceeds the maximum age, in ms since the epoch; None if
        unknown.
        """
        if settings.max_age is None or len(self) < 2:
            return None
        return self[1].created + settings.max_age

    def holding(self, offset: int) -> StreamSegment:
        """Return the segment that holds an offset; the first segment for earlier offsets."""
        return self[max(0, bisect_right(self, offset, key=FIRST) - 1)]

    def after(self, first: int) -> StreamSegment | None:
        """Return the segment after the one whose first offset is, or was, ``first``."""
        index = bisect_right(self, first, key=FIRST)
        return self[index] if index < len(self) else None

    def at(self, time: int) -> StreamSegment:
        """Return the segment that was being written at a time."""
        return self[bisect_right(self, time, key=CREATED) - 1]
