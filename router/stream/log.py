"""The persistence interface of a stream.

Responsible for its types: segments, places in them, requests to read. Not for files (see ``store/streams``).
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from leveret.protocol.amqp.message import Message
from leveret.router.queue.entry import Entry
from leveret.router.stream.chunk import Chunk
from leveret.router.values.notes import Notes

SEGMENT_HEAD = 40  # bytes before the first chunk of a segment


class StreamSegment(Struct):
    """A piece of a stream that retention removes as a whole.

    ``first`` is its first offset, ``created`` the time of its first chunk in ms since the epoch, ``size`` its
    bytes. A ``sealed`` segment does not grow, however small it is.
    """

    first: int
    created: int
    size: int = SEGMENT_HEAD
    sealed: bool = False


class ReadRequest(Struct, frozen=True, eq=False):
    """A request to read a segment.

    The result begins with the chunk that holds ``offset``, or, if ``time`` is not 0, with the first chunk
    that is not older than ``time`` (ms since the epoch). ``place`` is the place in the segment to begin at, 0
    if it must be searched.
    """

    segment: int
    offset: int
    time: int
    place: int


class StreamLog(Protocol):
    """The log of one stream.

    It reports results to the stream and its ``Serving``, by the methods named below.
    """

    @property
    def notes(self) -> Notes: ...

    def store(self, entry: Entry, message: Message) -> None:
        """Store a message; calls ``Stream.commit`` when it is on disk."""

    def store_run(self, first: int, entries: Sequence[bytes]) -> None:
        """Store messages with consecutive offsets, given as their entries (see ``entries``)."""

    def append(self, segment: StreamSegment, chunk: Chunk) -> None:
        """Write committed messages, as a chunk, to a segment; ``Stream.written`` is called later.

        The size of the segment is that before the chunk.
        """

    def read(self, request: ReadRequest) -> None:
        """Read some chunks; ``Serving.landed`` or ``Serving.unreadable`` is called with the result."""

    def remove(self, segments: Sequence[StreamSegment]) -> None:
        """Remove segments once all notes so far are on disk."""
