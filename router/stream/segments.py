"""The segments of a stream: which one grows, and which ones go.

Owns retention, by size and by age. A segment's file is the store's business.

Source: RabbitMQ, "Streams" (Retention).
"""

from bisect import bisect_right
from operator import attrgetter

from leveret.router.arguments.queue import QueueArguments
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.log import Segment

SEGMENT_SIZE = 500_000_000  # bytes, as in RabbitMQ, unless the stream says otherwise
FIRST, CREATED = attrgetter("first"), attrgetter("created")


class Segments(list[Segment]):
    """In their order; the last is being written."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes that they take up."""
        return sum(segment.size for segment in self)

    def place(self, chunk: Chunk, largest: int | None) -> Segment:
        """The segment that a chunk goes to: the last, or a new one when that has ``largest`` bytes."""
        if not self or self[-1].sealed or self[-1].size >= (SEGMENT_SIZE if largest is None else largest):
            self.append(Segment(chunk.first, chunk.timestamp))
        return self[-1]

    def give_up(self, settings: QueueArguments, wall: int) -> list[Segment]:
        """Take out whole segments, the oldest first, that are beyond the limits; never the last one. ``wall``
        in ms since the epoch.
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
        """When the first one will be too old, in ms since the epoch; None when that is not known."""
        if settings.max_age is None or len(self) < 2:
            return None
        return self[1].created + settings.max_age

    def holding(self, offset: int) -> Segment:
        """The one in which an offset is; the first for what is before that."""
        return self[max(0, bisect_right(self, offset, key=FIRST) - 1)]

    def behind(self, first: int) -> Segment | None:
        """The one that follows the segment which begins, or began, with this offset."""
        index = bisect_right(self, first, key=FIRST)
        return self[index] if index < len(self) else None

    def at(self, time: int) -> Segment:
        """The one that was being written at a time."""
        return self[bisect_right(self, time, key=CREATED) - 1]
