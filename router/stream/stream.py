"""A stream: a queue type whose messages stay in a log that many consumers read, each from its own offset.

Responsible for the ends of the log, and for the operations of clients. Messages get their offsets when they
are published, and readers see them when they are committed, so that no visible offset can belong to another
message after a crash. Not for uncommitted messages (see ``packer``), retention (see ``segments`` and
``tail``), delivery (see ``serving``) or files (see ``log``).

Source: RabbitMQ, "Streams". The refusals are those of 3.10.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, Unpack

import structlog

from leveret.protocol.amqp.message import Message
from leveret.protocol.errors import NotImplemented_, PreconditionFailed
from leveret.router.arguments.queue import QueueArguments
from leveret.router.deduplication.deduplicator import Admission, Duplicate, Identity
from leveret.router.deduplication.publishers import Publishers
from leveret.router.queue.consumers import Consumer, DeliverySink
from leveret.router.queue.entry import Entry
from leveret.router.queue.host import QueueHost
from leveret.router.queue.interface import QueueStorage
from leveret.router.queue.lifecycle import Declaration
from leveret.router.stream.chunk import Chunk, UncommittedEntry
from leveret.router.stream.entries import may_name_stream_header
from leveret.router.stream.filters import SIZE, check_filter
from leveret.router.stream.first_offset import FIRST_OFFSET, pack_first_offset
from leveret.router.stream.gaps import known_gaps, without
from leveret.router.stream.log import StreamLog, StreamSegment
from leveret.router.stream.offsets import group_of, start_of
from leveret.router.stream.packer import Packer
from leveret.router.stream.reader import StreamReader
from leveret.router.stream.segments import StreamSegments
from leveret.router.stream.serving import Serving
from leveret.router.stream.tail import Tail
from leveret.router.stream.unsettled import UnsettledQueue
from leveret.router.values.notes import Key, Notes
from leveret.router.values.outcome import Awaited, CommitBarrier, Outcome


class Stream(UnsettledQueue):
    """One stream.

    ``first`` is the offset of the oldest message, ``committed`` the offset that will be visible to readers
    next, ``next`` the offset of the next message that is published.
    """

    __slots__ = (
        "__weakref__",
        "_ages",
        "_begun",
        "_log",
        "_packer",
        "committed",
        "first",
        "log",
        "newest",
        "next",
        "positions",
        "publishers",
        "segments",
        "serving",
        "tail",
    )

    def __init__(self, name: str, vhost: str, host: QueueHost, **declaration: Unpack[Declaration]) -> None:
        super().__init__(name, vhost, host, **declaration)
        self.log: StreamLog | None = None
        self.first = self.committed = self.next = 0
        self.newest = 0  # the time of the last chunk, ms since the epoch
        self.segments = StreamSegments()
        self.tail = Tail()
        self.publishers = Publishers(vhost, name)
        self._begun = 0  # the first offset that was assigned since the broker's start
        self._packer = Packer(self.settings.stream_filter_size or SIZE)
        self.serving = Serving(self)
        self.consumers = self.serving.readers
        self.counts = self.serving.counts
        self.positions = self.serving.positions
        self._ages = 0  # when ``on_timer`` must be called, ms; 0: not scheduled
        self._log = structlog.get_logger()

    # -- the interface of every queue ------------------------------------------------------------------------

    @property
    def ready(self) -> range:
        """The offsets that may be read."""
        return range(self.first, self.committed)

    @property
    def published(self) -> int:
        """The number of messages that were published since the broker's start."""
        return self.next - self._begun

    @property
    def unacked(self) -> int:
        return sum(consumer.unacked for consumer in self.consumers)

    @property
    def bytes(self) -> int:
        """The bytes of its segments."""
        return self.segments.size

    @property
    def notes(self) -> Notes | None:
        """The persisted notes of the stream; None if it is not stored."""
        return None if self.log is None else self.log.notes

    def keep(self, storage: QueueStorage) -> None:
        """Store a new stream."""
        self.attach(storage.keep_stream(self))

    def attach(self, log: StreamLog | None) -> None:
        """Set the log of a new or restored stream."""
        self.log = log
        self.publishers.notes = self.notes

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Apply changed settings; retention follows at once."""
        self.settings = settings
        self.retain(now)

    def count(self, now: int) -> int:
        return self.committed - self.first

    def repair(self, held: tuple[Sequence[Entry], int], dying: Container[int], now: int) -> None:
        """Repair the stream after an exception: remove readers of ended sessions and schedule deliveries."""
        self._packer.cut(self.next - self.committed)
        self._ages = 0
        self.retain(now)
        for reader in list(self.consumers):
            if reader.sink.finished:  # which an exception has left here
                self.remove_consumer(reader, now)
            else:
                reader.wake()
        self._touched = False
        self.touch()

    # -- messages in -----------------------------------------------------------------------------------------

    def enqueue(self, message: Message, now: int) -> Outcome:
        """Give a message the next offset. Readers see it when it is committed."""
        identity: Admission = None
        if message.traits.has_headers:
            identity = self.publishers.admit(message, now)
            if isinstance(identity, Duplicate):
                return identity.barrier
        offset = self.next
        try:
            self._packer.add(message, offset)
        except Exception:
            self._packer.cut(offset - self.committed)
            raise
        self.next = offset + 1
        entry: Entry | None = None
        if self.log is not None:
            entry = UncommittedEntry(message, offset)
            self.log.store(entry, message)
        else:
            self.touch()
        if isinstance(identity, Identity):
            self.publishers.remember(identity, now)
        return entry

    def enqueue_all(self, messages: Sequence[Message], size: int, now: int) -> Sequence[Awaited] | None:
        """Give the next offsets to messages with the same route; None if any of them may be a duplicate."""
        named = may_name_stream_header(messages)
        if named and any(each.traits.has_headers and self.publishers.identify(each) for each in messages):
            return None
        first = self.next
        try:
            if named:
                entries = [
                    self._packer.add(message, offset) for offset, message in enumerate(messages, first)
                ]
            else:
                entries = self._packer.add_all(messages, first)
        except Exception:
            self._packer.cut(first - self.committed)
            raise
        self.next = first + len(messages)
        if self.log is None:
            self.touch()
            return ()
        self.log.store_run(first, entries)
        return (CommitBarrier(),) * len(messages)

    def commit(self, below: int, timestamp: int = 0) -> None:
        """Make messages below the offset ``below`` visible to readers.

        ``timestamp`` (ms since the epoch) is their time of arrival; 0: now.
        """
        if self.deleted or below <= self.committed:
            return  # the stream may be deleted while its last messages are being written
        self.newest = max(self.newest, timestamp or self.host.wall * 1000)
        for chunk in self._packer.chunks(self.committed, below, self.newest):
            self._append(chunk)
            self.committed = chunk.end
        self.serving.committed()

    def _append(self, chunk: Chunk) -> None:
        segment = self.segments.place(chunk, self.settings.stream_segment_size)
        if self.log is not None:
            self.log.append(segment, chunk)
        segment.size += chunk.size
        self.tail.append(chunk)
        if segment.first == chunk.first:
            self.retain(self.host.now)

    # -- retention -------------------------------------------------------------------------------------------

    def retain(self, now: int) -> None:
        """Remove segments beyond the limits, and schedule the next removal by age."""
        wall = self.host.wall * 1000
        if gone := self.segments.apply_retention(self.settings, wall):
            self.first = self.segments[0].first
            self.tail.trim(self.first)
            if self.log is not None:
                self.log.notes.put(FIRST_OFFSET, pack_first_offset(self.first))
                self.log.remove(gone)
        ages = self.segments.ages(self.settings)
        if ages is not None:
            when = now + max(1000, ages - wall)
            if not self._ages or when < self._ages:
                self._ages = when
                self.host.schedule(when, self)

    def on_timer(self, now: int) -> None:
        if not self.deleted and self._ages and now >= self._ages:
            self._ages = 0
            self.retain(now)

    # -- results of StreamLog --------------------------------------------------------------------------------

    def begin(self, first: int) -> None:
        """Begin at the offset ``first``: retention has removed all messages before it."""
        self.first = self.committed = self.next = self._begun = first

    def restore(self, segments: list[StreamSegment], last: Chunk) -> None:
        """Restore the stream with these segments, of which ``last`` is the last chunk."""
        self.segments += segments
        self.first = segments[0].first
        self.committed = self.next = self._begun = last.end
        self.newest = last.timestamp
        self.tail.append(last)
        self.tail.written(last.end, idle=True)

    def recall(self, notes: Mapping[Key, Key]) -> None:
        """Restore positions, gaps and publishers from the notes. Raises ValueError and struct.error."""
        self.positions.recall(notes)
        self.publishers.recall(notes)
        self.serving.gaps = known_gaps(notes)

    def recover(self, message: Message, offset: int, timestamp: int) -> None:
        """Restore a message that is in no segment yet; ``timestamp`` is in ms since the epoch."""
        self.skip(offset)
        self._packer.add(message, offset)
        self.next = self._begun = offset + 1
        self.commit(self.next, timestamp)

    def skip(self, offset: int) -> None:
        """Give new messages offsets from this one on: earlier ones belong to stored or lost messages."""
        if offset > self.next:
            for first, count in without(self.next, offset, self.serving.gaps):
                last = first + count - 1
                self._log.error(
                    "offsets are missing", vhost=self.vhost, stream=self.name, first=first, last=last
                )
            self.next = self.committed = self._begun = offset
            if not self.segments:
                self.first = offset

    def written(self, below: int) -> None:
        """Free memory: messages below this offset are in the segments' files."""
        self.tail.written(below, idle=not self.consumers)

    # -- readers ---------------------------------------------------------------------------------------------

    def run_deliveries(self, now: int) -> bool:
        """Deliver to every reader with room, in turn; return True if more can be delivered."""
        self._touched = False
        if self.deleted:
            return False
        if self.log is None:
            self.commit(self.next)
        more = self.serving.serve_readers()
        self._touched = self._touched or more  # the caller continues later
        return more

    def consumer(
        self,
        sink: DeliverySink,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: int,
        arguments: Mapping[str, Any],
    ) -> Consumer:
        """Make a reader, to be added with ``add_consumer``. As in RabbitMQ it is never ``exclusive``."""
        if "x-priority" in arguments:
            raise PreconditionFailed(
                f"invalid arg 'x-priority' for {self.what} of queue type rabbit_stream_queue"
            )
        start = start_of(arguments, self.what, self.host.wall * 1000)
        check_filter(arguments, self.what)
        name, single = group_of(arguments, self.what)
        if not prefetch:
            raise PreconditionFailed(f"consumer prefetch count is not set for '{self.what}'")
        if no_ack:
            raise NotImplemented_(f"automatic acknowledgement not supported by stream queues {self.what}")
        if sink.prefetch:
            raise NotImplemented_(f"{self.what} does not support global qos")
        return StreamReader(
            self,
            sink,
            tag,
            prefetch=prefetch,
            arguments=arguments,
            start=start,
            name=name,
            single=single,
        )

    def add_consumer(self, consumer: Consumer, now: int) -> None:
        assert isinstance(consumer, StreamReader)
        self.last_used = now
        self.serving.add(consumer)

    def remove_consumer(self, consumer: Consumer, now: int) -> None:
        assert isinstance(consumer, StreamReader)
        self.last_used = now
        self.serving.remove(consumer)
        if not self.consumers:
            self.tail.shorten(idle=True)

    def close(self) -> list[Consumer]:
        """Drop the contents of a stream that is being deleted; return its consumers, to be cancelled."""
        self.deleted = True
        self.log = None
        self.tail.clear()
        self.segments.clear()
        self._packer.clear()
        return self.serving.close()
