"""A consumer of a stream: where it is in the log, and what it was given.

Owns one reader's place. Where the messages come from is the stream's business.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from leveret.protocol.errors import NotImplemented_
from leveret.router.arguments.queue import QueueArguments
from leveret.router.queue.consumers import Consumer, DeliverySink
from leveret.router.queue.entry import Entry
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.filters import Wanted
from leveret.router.stream.offsets import Start

if TYPE_CHECKING:
    from leveret.router.stream.pieces import Piece
    from leveret.router.stream.stream import Stream

LOOK = 4096  # messages that are looked at in a turn for the few that are wanted


class Reader(Consumer):
    """A consumer of a stream. Acknowledging gives it room for more, and deletes nothing.

    ``offset`` is the next one that it looks at; ``chunk`` and ``entries`` the messages around that, if they
    are at hand, and ``piece`` what was read with them. ``blocked``: it waits for messages or the disk, not
    for room. Under its ``name`` the stream keeps its position; ``single``: of those with this name one is
    active.
    """

    __slots__ = (
        "blocked",
        "chunk",
        "entries",
        "held",
        "name",
        "offset",
        "piece",
        "single",
        "start",
        "stream",
        "wanted",
    )

    def __init__(
        self,
        stream: "Stream",
        sink: DeliverySink,
        tag: str,
        *,
        prefetch: int,
        arguments: Mapping[str, Any],
        start: Start | None,
        wanted: Wanted | None,
        name: str | None,
        single: bool,
    ) -> None:
        super().__init__(stream, sink, tag, prefetch=prefetch, arguments=arguments)
        self.stream = stream
        self.start = start
        self.wanted = wanted
        self.offset = 0
        self.chunk: Chunk | None = None
        self.entries: list[Entry] = []  # of the chunk
        self.piece: Piece | None = None
        self.blocked = False
        self.name = name
        self.single = single
        self.held: OrderedDict[int, None] = (
            OrderedDict()
        )  # offsets that are not acknowledged, if it has a name

    @property
    def position(self) -> int:
        """The first offset that is not acknowledged."""
        return next(iter(self.held), self.offset)

    @property
    def timestamp(self) -> int:
        """The time of what it reads, ms since the epoch; 0 when it has read nothing."""
        return 0 if self.chunk is None else self.chunk.timestamp

    def take(self, count: int) -> tuple[list[Entry], int]:
        """Up to ``count`` messages of its chunk that it wants, and how many it has passed."""
        chunk = self.chunk
        assert chunk is not None
        at = self.offset - chunk.first
        if self.wanted is None:
            entries = self.entries[at : at + count]
            self.offset += len(entries)
            return entries, len(entries)
        found: list[Entry] = []
        looked = 0
        for entry in self.entries[at : at + LOOK]:
            looked += 1
            if self.wanted.matches(entry):
                found.append(entry)
                if len(found) == count:
                    break
        self.offset += looked
        return found, looked

    def wake(self) -> None:
        """Something was settled or written out."""
        if not self.blocked:
            super().wake()

    # -- Source: whom its deliveries are settled with --------------------------------------------------------

    @property
    def source(self) -> "Reader":
        return self

    @property
    def deleted(self) -> bool:
        return self.stream.deleted

    @property
    def settings(self) -> QueueArguments:
        return self.stream.settings

    def settle(self, entries: Collection[Entry]) -> None:
        """Delivered messages were acknowledged; they stay where they are."""
        if self.name is not None:
            for entry in entries:
                self.held.pop(entry.position, None)
            self.stream.serving.advance(self)

    def requeue(self, consumed: Collection[Entry], now: int) -> None:
        """As RabbitMQ refuses basic.nack and basic.reject."""
        raise self._unsettled()

    def reject(self, entries: Sequence[Entry]) -> None:
        raise self._unsettled()

    def give_back(self, consumed: Collection[Entry], now: int) -> None:
        """The session is over. Whoever comes next starts where it wants to."""
        self.stream.counts.back += len(consumed)

    def reclaim(self, entries: Collection[Entry]) -> None:
        """Messages of a stream stay in it."""

    def pause_deliveries(self) -> None:
        """Nothing comes back to a stream."""

    def resume_deliveries(self) -> None:
        """Nothing comes back to a stream."""

    def _unsettled(self) -> NotImplemented_:
        what = self.stream.what
        return NotImplemented_(f"basic.nack and basic.reject not supported by stream queues {what}")
