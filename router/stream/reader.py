"""A consumer of a stream: its offset in the log, and its deliveries.

Responsible for one reader's place. Not for getting messages (see ``serving``).
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from leveret.protocol.errors import NotImplemented_
from leveret.router.arguments.queue import QueueArguments
from leveret.router.queue.consumers import Consumer, DeliverySink
from leveret.router.queue.entry import Entry
from leveret.router.stream.chunk import Chunk
from leveret.router.stream.filters import ReaderFilter, reader_filter
from leveret.router.stream.offsets import Start
from leveret.router.turns.backlog import Slicing

if TYPE_CHECKING:
    from leveret.router.stream.pieces import Piece
    from leveret.router.stream.stream import Stream

STEPS = 5000  # steps of selectors in one visit, about a millisecond; reading a byte of headers is one step


class StreamReader(Consumer):
    """A consumer of a stream. An acknowledgement allows more deliveries, and deletes nothing.

    ``offset`` is the next one to read; ``chunk`` and ``entries`` are the messages around it, if they are in
    memory, and ``piece`` are the chunks that were read with them. ``blocked``: the reader waits for messages
    or the disk, not for room. ``checking`` is the rest of the check of a message with very many headers
    against the filter. The stream keeps the position of its ``name``; ``single``: of the readers with
    this name only one is active.
    """

    __slots__ = (
        "_time",
        "blocked",
        "checking",
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
        name: str | None,
        single: bool,
    ) -> None:
        super().__init__(stream, sink, tag, prefetch=prefetch, arguments=arguments)
        self.stream = stream
        self.start = start
        self.wanted: ReaderFilter | None = None  # see ``prepare``
        self.offset = 0
        self.chunk: Chunk | None = None
        self.entries: list[Entry] = []  # of the chunk
        self.piece: Piece | None = None
        self._time = 0  # of the chunk that was released, in ms since the epoch
        self.blocked = False
        self.checking: Slicing[bool] | None = None
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
        """The time of the chunk being read, in ms since the epoch; 0 if nothing was read."""
        return self._time if self.chunk is None else self.chunk.timestamp

    def release(self) -> None:
        """Drop the messages in memory; the reader continues at its offset with a read."""
        self._time = self.timestamp
        self.piece = self.chunk = None
        self.entries = []

    def prepare(self) -> Slicing[None]:
        """Compile the filter in the arguments. Raises PreconditionFailed for an invalid selector."""
        self.wanted = yield from reader_filter(self.arguments, self.stream.what)

    def take(self, count: int) -> tuple[list[Entry], int]:
        """Return up to ``count`` matching messages of the chunk, and the number of messages passed.

        The number passed is bounded by the time to filter them in one visit.
        """
        chunk = self.chunk
        assert chunk is not None
        at = self.offset - chunk.first
        if self.wanted is None:
            entries = self.entries[at : at + count]
            self.offset += len(entries)
            return entries, len(entries)
        found: list[Entry] = []
        looked, left, cost = 0, STEPS, self.wanted.cost
        for entry in islice(self.entries, at, None):
            message = entry.message
            checking = self.checking or self.wanted.check(message)
            try:
                next(checking)
            except StopIteration as result:
                self.checking = None
                if result.value:
                    found.append(entry)
            else:
                self.checking = checking
                break
            looked += 1
            left -= cost + len(message.frames) - message.size
            if left <= 0 or len(found) == count:
                break
        self.offset += looked
        return found, looked

    def wake(self) -> None:
        """Mark the reader as ready, unless it is ``blocked``."""
        if not self.blocked:
            super().wake()

    # -- QueueLike: settlement of deliveries
    # --------------------------------------------------------------------

    @property
    def source(self) -> "StreamReader":
        return self

    @property
    def deleted(self) -> bool:
        return self.stream.deleted

    @property
    def settings(self) -> QueueArguments:
        return self.stream.settings

    def ack(self, entries: Collection[Entry]) -> None:
        """Acknowledge deliveries; the messages stay in the stream."""
        if self.name is not None:
            for entry in entries:
                self.held.pop(entry.position, None)
            self.stream.serving.advance(self)

    def requeue(self, consumed: Collection[Entry], now: int) -> None:
        """Refuse basic.nack and basic.reject, as RabbitMQ does."""
        raise self._unsettled()

    def reject(self, entries: Sequence[Entry]) -> None:
        raise self._unsettled()

    def give_back(self, consumed: Collection[Entry], now: int) -> None:
        """Update the counters for the deliveries of a closed session; the messages stay in the stream."""
        self.stream.counts.back += len(consumed)

    def reclaim(self, entries: Collection[Entry]) -> None:
        """Do nothing: messages of a stream stay in it."""

    def pause_deliveries(self) -> None:
        """Do nothing: nothing is requeued to a stream."""

    def resume_deliveries(self) -> None:
        """Do nothing: nothing is requeued to a stream."""

    def _unsettled(self) -> NotImplemented_:
        what = self.stream.what
        return NotImplemented_(f"basic.nack and basic.reject not supported by stream queues {what}")
