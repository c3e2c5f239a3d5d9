"""What a stream and whoever keeps it on disk ask of each other: the seam to the store.

Owns the words of that seam: segments, places in them, what is asked to be read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.stream.chunk import Chunk
from leveret.router.values.notes import Notes

SEGMENT_HEAD = 40  # bytes before the first chunk of a segment


@dataclass(slots=True)
class Segment:
    """A piece of a stream that goes as a whole: its first offset, the time of its first chunk in ms since the
    epoch, and its bytes. One that is ``sealed`` does not grow, however small it is.
    """

    first: int
    created: int
    size: int = SEGMENT_HEAD
    sealed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What is to be read of a segment: from the chunk that holds ``offset`` on, or from the first one that is
    not older than ``time`` (ms since the epoch; 0: the offset counts).

    ``place`` is where in the segment to begin, 0 when that has to be found.
    """

    segment: int
    offset: int
    time: int
    place: int


class StreamLog(Protocol):
    """The log of one stream. What it is told of it tells of when it has happened, by the methods of the
    stream and its ``Serving``.
    """

    @property
    def notes(self) -> Notes: ...

    def store(self, entry: Entry, message: Message) -> None:
        """Keep a message; then ``Stream.commit``."""

    def store_all(self, entries: Sequence[Entry], messages: Sequence[Message]) -> None: ...

    def append(self, segment: Segment, chunk: Chunk) -> None:
        """Committed messages are a chunk now; in time it stands in the segment: then ``Stream.written``.

        The segment's size is that before the chunk.
        """

    def read(self, wish: Wish) -> None:
        """Read some chunks; then ``Serving.landed``, or ``Serving.unreadable``."""

    def remove(self, segments: Sequence[Segment]) -> None:
        """These segments are not needed any more."""
