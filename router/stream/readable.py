"""The part of a stream that its readers use: the committed messages, in segments and in memory."""

from typing import Protocol

from leveret.router.stream.log import StreamLog
from leveret.router.stream.segments import StreamSegments
from leveret.router.stream.tail import Tail
from leveret.router.values.notes import Notes


class Readable(Protocol):
    """The messages that can be read, from the offset ``first`` to under ``committed``.

    All are in the segments, and the latest are also in the tail. ``newest`` is the time of the last message
    (ms since the epoch).
    """

    name: str
    vhost: str
    first: int
    committed: int
    newest: int
    segments: StreamSegments
    tail: Tail

    def touch(self) -> None: ...
    @property
    def log(self) -> StreamLog | None: ...
    @property
    def notes(self) -> Notes | None: ...
