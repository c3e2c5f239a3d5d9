"""A stream: a log that many consumers read, each from where it wants to; long, for they share its ends.

Owns the log's ends, what of it is in memory, and its readers' turns. Messages get their offsets when they
come, and readers see them when they are committed, so that no offset is ever told of that a crash could give
to another message. What stands in which file is between the segments here and the ``StreamLog``.

Source: RabbitMQ, "Streams". The refusals are those of 3.10.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import structlog

from protocol.amqp.message import Message
from protocol.errors import NotImplemented_, PreconditionFailed
from router.counts import Given
from router.queue.arguments import QueueArguments
from router.queue.consumers import Consumer, DeliverySink
from router.queue.entry import Entry
from router.queue.host import QueueHost
from router.queue.kind import QueueKeeper
from router.queue.turns import DRAIN
from router.stream.chunk import Chunk, Encoder, pack_chunk, split
from router.stream.filters import SIZE, pack_filter, value_of, wanted
from router.stream.log import Segment, StreamLog, Wish
from router.stream.offsets import NEXT, Start, group_of, start_of
from router.stream.pieces import Piece, Pieces, find
from router.stream.positions import LARGEST, Key, Note, Positions
from router.stream.publishers import Publishers, identity
from router.stream.reader import Reader
from router.stream.readers import Readers

SEGMENT_SIZE = 500_000_000  # bytes, as in RabbitMQ, unless the stream says otherwise
TAIL = 1 << 20  # bytes of the newest chunks that stay in memory while somebody reads,
IDLE_TAIL = 1 << 16  # and while nobody does
DECODED = 16  # chunks whose messages are kept, for the next reader
NOTED = 1000  # messages that a named reader passes over until its position is kept
CREATED, TIMESTAMP = attrgetter("created"), attrgetter("timestamp")
FIRST = attrgetter("first")


class Stream:
    """One stream. ``first`` is the offset of its oldest message, ``committed`` that of the next one that
    readers will see, ``next`` that of the next message that comes.
    """

    __slots__ = (
        "_ages",
        "_begun",
        "_decoded",
        "_encoder",
        "_fresh",
        "_log",
        "_newest",
        "_pieces",
        "_tail",
        "_tail_size",
        "_touched",
        "_values",
        "_written",
        "arguments",
        "auto_delete",
        "committed",
        "consumers",
        "counts",
        "declared",
        "deleted",
        "durable",
        "first",
        "host",
        "last_used",
        "log",
        "moved",
        "name",
        "next",
        "owner",
        "positions",
        "publishers",
        "segments",
        "settings",
        "vhost",
    )

    def __init__(
        self,
        name: str,
        vhost: str,
        host: QueueHost,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: dict[str, Any],
        declared: QueueArguments,
        settings: QueueArguments,
        now: int,
    ) -> None:
        self.name = name
        self.vhost = vhost
        self.host = host
        self.durable = durable
        self.auto_delete = auto_delete
        self.owner = owner
        self.arguments = arguments
        self.declared = declared
        self.settings = settings
        self.last_used = now
        self.deleted = False
        self.consumers = Readers()
        self.positions = Positions()
        self.publishers = Publishers()
        self.counts = Given()
        self._begun = 0  # the first offset that was given since the broker's start
        self.log: StreamLog | None = None
        self.first = self.committed = self.next = 0
        self.segments: list[Segment] = []  # the last is being written
        self.moved = 0  # messages that readers have missed since they were not there any more
        self._encoder = Encoder()
        self._fresh: list[bytes] = []  # entries from ``committed`` to ``next``
        self._values: dict[int, str] = {}  # filter values of those that have one, by offset
        self._tail: list[Chunk] = []  # the newest chunks, without a gap: those not written yet, and some more
        self._tail_size = 0
        self._written = 0  # what is below this offset is in the segments' files
        self._newest = 0  # the time of the last chunk
        self._pieces = Pieces()
        self._decoded: deque[Chunk] = deque()  # those whose messages are at hand
        self._touched = False
        self._ages = 0  # when ``on_timer`` is to be called
        self._log = structlog.get_logger()

    # -- what every queue has --------------------------------------------------------------------------------

    @property
    def counted(self) -> bool:
        return False

    @property
    def finished(self) -> bool:
        return self.deleted

    @property
    def what(self) -> str:
        """What it is called in replies."""
        return f"queue '{self.name}' in vhost '{self.vhost}'"

    @property
    def ready(self) -> range:
        """The offsets that may be read."""
        return range(self.first, self.committed)

    @property
    def published(self) -> int:
        """How many messages it has taken in since the broker's start."""
        return self.next - self._begun

    @property
    def acknowledged(self) -> int:
        """How many deliveries were acknowledged since then."""
        return self.counts.acknowledged(self.unacked)

    @property
    def unacked(self) -> int:
        return sum(consumer.unacked for consumer in self.consumers)

    @property
    def bytes(self) -> int:
        """What its segments take up."""
        return sum(segment.size for segment in self.segments)

    def keep(self, keeper: QueueKeeper) -> None:
        self.log = keeper.keep_stream(self)

    def configure(self, settings: QueueArguments, now: int) -> None:
        """Take on changed settings; what is kept no longer goes now."""
        self.settings = settings
        self.retain(now)

    def touch(self) -> None:
        if not self._touched:
            self._touched = True
            self.host.touch(self)

    def awaits_disk(self) -> bool:
        return False

    def count(self, now: int) -> int:
        return self.committed - self.first

    def get(self, now: int, *, no_ack: bool) -> Entry | None:
        raise NotImplemented_(f"basic.get not supported by stream queues {self.what}")

    def purge(self) -> int:
        raise NotImplemented_(f"queue.purge not supported by stream queues {self.what}")

    def check_deletion(self, *, if_unused: bool, if_empty: bool) -> None:
        """Unlike RabbitMQ, which deletes a stream whatever was asked."""
        if if_unused and len(self.consumers):
            raise PreconditionFailed(f"{self.what} in use")
        if if_empty and self.committed > self.first:
            raise PreconditionFailed(f"{self.what} not empty")

    def settle(self, entries: Collection[Entry]) -> None:
        """Nothing is ever held of the stream itself, see ``Reader``."""

    def requeue(self, consumed: Collection[Entry], now: int) -> None: ...
    def reject(self, entries: Sequence[Entry]) -> None: ...
    def give_back(self, consumed: Collection[Entry], now: int) -> None: ...

    # -- messages in -----------------------------------------------------------------------------------------

    def enqueue(self, message: Message, now: int) -> bool:
        """Give a message the next offset. Readers see it when it is committed."""
        offset = self.next
        headers = message.properties.headers
        if headers is not None:
            if (value := value_of(headers)) is not None:
                self._values[offset] = value
            if (publisher := identity(headers)) is not None and self._has(*publisher, message):
                self._values.pop(offset, None)
                return True
        self.next += 1
        self._fresh.append(self._encoder.entry(message, offset))
        if self.log is not None:
            self.log.enqueue(Entry(message, offset, now), message)
        else:
            self.touch()
        return True

    def _has(self, key: Key, number: int, message: Message) -> bool:
        """Whether a publisher's message has been stored. Who sent it again is told so when the first one is
        on disk.
        """
        if not self.publishers.is_known(key, number):
            self.publishers.came(key, number, self.next, self._note)
            return False
        if self.log is not None and self.next > self.committed:
            self.log.await_commit(message, key, self.publishers.again(key, self.next))
        return True

    def enqueue_all(self, messages: Sequence[Message], now: int) -> bool:
        """The same for messages that differ in their bodies alone; False when each has to be looked at."""
        headers = messages[0].properties.headers
        if headers is not None and identity(headers) is not None:
            return False
        first = self.next
        self.next += len(messages)
        self._fresh += self._encoder.entries(messages, first)
        if headers is not None and (value := value_of(headers)) is not None:
            self._values.update((offset, value) for offset in range(first, self.next))
        if self.log is not None:
            entries = [Entry(each, offset, now) for offset, each in enumerate(messages, first)]
            self.log.enqueue_all(entries, messages)
        else:
            self.touch()
        return True

    def commit(self, below: int, timestamp: int = 0) -> None:
        """What came before the offset ``below`` is committed; ``timestamp`` (ms since the epoch) is when it
        came if that was not now.
        """
        count = below - self.committed
        if count <= 0:
            return
        entries, self._fresh = self._fresh[:count], self._fresh[count:]
        self._newest = max(self._newest, timestamp or self.host.wall * 1000)
        for part in split(entries):
            end = self.committed + len(part)
            bloom = b""
            if self._values:
                values = [self._values.pop(offset, None) for offset in range(self.committed, end)]
                bloom = pack_filter(values, self.settings.stream_filter_size or SIZE)
            self._append(pack_chunk(self.committed, part, self._newest, bloom))
            self.committed = end
        for reader in self.consumers:
            if isinstance(reader, Reader) and reader.blocked and reader.offset >= self._tail[0].first:
                self._unblock(reader)

    def _append(self, chunk: Chunk) -> None:
        largest = self.settings.stream_segment_size
        segment = self.segments[-1] if self.segments else None
        if (
            segment is None
            or segment.sealed
            or segment.size >= (SEGMENT_SIZE if largest is None else largest)
        ):
            segment = Segment(chunk.first, chunk.timestamp)
            self.segments.append(segment)
        if self.log is not None:
            self.log.append(segment, chunk)
        segment.size += chunk.size
        self._tail.append(chunk)
        self._tail_size += chunk.size
        if segment.first == chunk.first:
            self.retain(self.host.now)

    # -- retention -------------------------------------------------------------------------------------------

    def retain(self, now: int) -> None:
        """Give up whole segments, the oldest first, that are beyond the limits; never the last one."""
        settings, wall = self.settings, self.host.wall * 1000
        total = self.bytes
        count = 0
        while count < len(self.segments) - 1:
            too_large = settings.max_length_bytes is not None and total > settings.max_length_bytes
            newest = self.segments[count + 1].created
            if not too_large and (settings.max_age is None or newest > wall - settings.max_age):
                break
            total -= self.segments[count].size
            count += 1
        if count:
            gone, self.segments = self.segments[:count], self.segments[count:]
            self.first = self.segments[0].first
            self._trim(self.first)
            if self.log is not None:
                self.log.remove(gone)
        if settings.max_age is not None and len(self.segments) > 1:
            when = now + max(1000, self.segments[1].created + settings.max_age - wall)
            if not self._ages or when < self._ages:
                self._ages = when
                self.host.schedule(when, self)

    def on_timer(self, now: int) -> None:
        if not self.deleted and self._ages and now >= self._ages:
            self._ages = 0
            self.retain(now)

    def _trim(self, below: int, keep: int = 0) -> None:
        """Let go of chunks in memory that end below an offset, as long as ``keep`` bytes stay."""
        size, count = self._tail_size, 0
        for chunk in self._tail[:-1]:
            if chunk.end > below or size - chunk.size < keep:
                break
            size -= chunk.size
            count += 1
        if count:
            del self._tail[:count]
            self._tail_size = size

    # -- StreamLog's answers ---------------------------------------------------------------------------------

    def restore(self, segments: list[Segment], last: Chunk) -> None:
        """It comes back with these segments, of which ``last`` is the last chunk."""
        self.segments = segments
        self.first = segments[0].first
        self.committed = self.next = self._written = self._begun = last.end
        self._newest = last.timestamp
        self._tail = [last]
        self._tail_size = last.size

    def recall(self, notes: Mapping[Key, Key]) -> None:
        """Its notes come back."""
        self.positions.recall(notes)
        self.publishers.recall(notes)

    def recover(self, message: Message, offset: int, timestamp: int) -> None:
        """A message comes back that is in no segment yet; ``timestamp`` in ms since the epoch."""
        self.skip(offset)
        self._fresh.append(self._encoder.entry(message, offset))
        if (value := value_of(message.properties.headers)) is not None:
            self._values[offset] = value
        self.next = self._begun = offset + 1
        self.commit(self.next, timestamp)

    def skip(self, offset: int) -> None:
        """What came before this offset is there, or is lost by damage: it is never given again."""
        if offset > self.next:
            self._log.error(
                "offsets are missing", vhost=self.vhost, stream=self.name, first=self.next, last=offset - 1
            )
            self.next = self.committed = self._begun = offset
            if not self.segments:
                self.first = offset

    def written(self, below: int) -> None:
        """What is below this offset is in the segments' files, and need not stay in memory."""
        self._written = max(self._written, below)
        self._trim(self._written, TAIL if len(self.consumers) else IDLE_TAIL)

    def landed(self, wish: Wish, chunks: Sequence[Chunk], place: int) -> None:
        """Chunks were read, up to a place in their segment; none when there is nothing more in it."""
        if self.deleted:
            return
        piece = Piece(wish.segment, chunks, place) if chunks else None
        for reader in self._pieces.landed(wish, piece):
            if not reader.blocked:
                continue
            reader.piece = piece
            if piece is None:
                reader.offset = max(reader.offset, self._behind(wish.segment))
            elif wish.time:
                reader.offset = piece.first
                self._note_start(reader)
            self._unblock(reader)

    def unreadable(self, wish: Wish, damage: str, *, passing: bool) -> bool:
        """A piece cannot be read; True when it is to be tried again, since that may pass. If
        it was given up meanwhile that is as it should be; its readers stand still otherwise, skipping none.
        """
        if passing and wish.segment >= self.first and (waiting := self._pieces.waiting(wish)):
            self._stand_still(waiting, damage)
            return True
        readers = self._pieces.landed(wish, None)
        if wish.segment < self.first:
            for reader in readers:
                self._unblock(reader)
        elif readers:
            self._stand_still(readers, damage)
        return False

    def _stand_still(self, readers: Sequence[Reader], damage: str) -> None:
        tags = [reader.tag for reader in readers]
        self._log.error("readers stand still", stream=self.name, consumers=tags, error=damage)

    def _behind(self, segment: int) -> int:
        """The first offset behind what is read of a segment."""
        index = bisect_right(self.segments, segment, key=FIRST)
        return self.segments[index].first if index < len(self.segments) else self._tail[0].first

    # -- messages out ----------------------------------------------------------------------------------------

    def deliver(self, now: int) -> bool:
        """Give every reader that has room what comes next, in turn; True when there is more to give."""
        self._touched = False
        if self.log is None:
            self.commit(self.next)
        left = DRAIN
        while left > 0:
            line = self.consumers.line()
            if line is None:
                return False
            reader = next(iter(line))
            assert isinstance(reader, Reader)
            left -= self._serve(reader)
            if reader.ready:
                line.move_to_end(reader)
        self._touched = True  # the caller comes back
        return True

    def _serve(self, reader: Reader) -> int:
        """Give one reader some messages; return how many it has passed, 1 at least."""
        room = reader.room()
        if room <= 0:
            self.consumers.leave(reader)
            return 1
        chunk = reader.chunk
        if chunk is None or not chunk.first <= reader.offset < chunk.end:
            reader.chunk = chunk = self._find(reader)
            if chunk is None:
                reader.blocked = True
                reader.entries = []
                self.consumers.leave(reader)
                return 1
            if reader.wanted is not None and not reader.wanted.may_be_in(chunk):
                reader.offset = chunk.end
                return 1
            reader.entries = self._decode(chunk)
        entries, passed = reader.take(room)
        if reader.name is not None:
            reader.held.update((entry.position, None) for entry in entries)
            if passed and not reader.held:
                self.advance(reader, NOTED)
        if entries:
            self.counts.deliver += len(entries)
            reader.sink.deliver(reader, entries)
            if len(entries) == room and reader.ready and reader.room() <= 0:
                self.consumers.leave(reader)
        return max(1, passed)

    def _decode(self, chunk: Chunk) -> list[Entry]:
        """The messages of a chunk, made once for all readers that come by in time."""
        entries = chunk.entries
        if entries is None:
            entries = chunk.entries = chunk.decode()
            self._decoded.append(chunk)
            if len(self._decoded) > DECODED:
                self._decoded.popleft().entries = None
        return entries

    def _find(self, reader: Reader) -> Chunk | None:
        """The chunk that a reader goes on with; None when it has to wait for that."""
        if reader.offset < self.first:
            self._move(reader)
        offset = reader.offset
        if offset >= self.committed:
            reader.piece = None
            return None
        if offset >= self._tail[0].first:
            reader.piece = None
            return self._enter(reader, self._tail)
        piece = reader.piece
        if piece is None or not piece.first <= offset < piece.end:
            before, piece = piece, self._pieces.at(offset)
            if piece is None:
                self._read(offset, before, reader)
                return None
            reader.piece = piece
        chunk = self._enter(reader, piece.chunks)
        if chunk is piece.chunks[0]:
            self._read_ahead(piece)
        return chunk

    def _enter(self, reader: Reader, chunks: Sequence[Chunk]) -> Chunk | None:
        """The chunk of these that holds a reader's offset, which stands behind a gap then."""
        chunk = find(chunks, reader.offset)
        if chunk is not None:
            reader.offset = max(reader.offset, chunk.first)
        return chunk

    def _read(self, offset: int, before: Piece | None, reader: Reader | None) -> None:
        segment = self.segments[max(0, bisect_right(self.segments, offset, key=FIRST) - 1)].first
        place = 0
        if before is not None and before.end == offset and before.segment == segment:
            place = before.place
        wish = self._pieces.wish(segment, offset, 0, place, reader)
        if wish is not None and self.log is not None:
            self.log.read(wish)

    def _read_ahead(self, piece: Piece) -> None:
        """Somebody begins with a piece: have the next one read."""
        if piece.end < self._tail[0].first and self._pieces.at(piece.end) is None:
            self._read(piece.end, piece, None)

    def _move(self, reader: Reader) -> None:
        """A reader was so slow that what it would read is gone."""
        missed = self.first - reader.offset
        self.moved += missed
        self._log.warning(
            "reader moved to the first offset there is",
            stream=self.name,
            vhost=self.vhost,
            consumer=reader.tag,
            offset=self.first,
            missed=missed,
        )
        reader.offset = self.first

    # -- readers ---------------------------------------------------------------------------------------------

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
        """A reader that may be added. As in RabbitMQ, which reads a stream for as many as want to, it is
        never ``exclusive``.
        """
        if "x-priority" in arguments:
            raise PreconditionFailed(
                f"invalid arg 'x-priority' for {self.what} of queue type rabbit_stream_queue"
            )
        start = start_of(arguments, self.what, self.host.wall * 1000)
        only = wanted(arguments, self.what)
        name, single = group_of(arguments, self.what)
        if not prefetch:
            raise PreconditionFailed(f"consumer prefetch count is not set for '{self.what}'")
        if no_ack:
            raise NotImplemented_(f"automatic acknowledgement not supported by stream queues {self.what}")
        if sink.prefetch:
            raise NotImplemented_(f"{self.what} does not support global qos")
        return Reader(
            self,
            sink,
            tag,
            prefetch=prefetch,
            arguments=arguments,
            start=start,
            wanted=only,
            name=name,
            single=single,
        )

    def add_consumer(self, consumer: Consumer, now: int) -> None:
        assert isinstance(consumer, Reader)
        self.last_used = now
        self.consumers.add(consumer)
        if consumer.active:
            self._begin(consumer, consumer.start)

    def remove_consumer(self, consumer: Consumer, now: int) -> None:
        self.last_used = now
        was_active = consumer.active
        self.consumers.remove(consumer)
        assert isinstance(consumer, Reader)
        consumer.piece = consumer.chunk = None
        self._pieces.leave(consumer)
        successor = self.consumers.follow(consumer) if was_active else None
        if successor is not None:
            self._begin(successor, None if self.positions.get(successor.name or "") else successor.start)
        consumer.entries = []
        if not self.consumers:
            self._pieces.forget()
            self._forget_decoded()
            self._trim(self._written, IDLE_TAIL)

    def _begin(self, reader: Reader, start: Start | None) -> None:
        """Bring a reader to where it starts: where it says, else where it was, else to the end."""
        known = self.positions.get(reader.name) if reader.name is not None and start is None else None
        kind, value = start or NEXT
        if known is not None:
            reader.offset = known.offset  # if that is gone it is told so
        elif kind == "first":
            reader.offset = self.first
        elif kind == "last":
            reader.offset = self._last()
        elif kind == "offset":
            reader.offset = min(max(value, self.first), LARGEST)
        elif kind == "time":
            self._seek(reader, value)
        else:
            reader.offset = self.committed
        if reader.blocked:
            self.consumers.leave(reader)
        else:
            self._note_start(reader)
        self.touch()

    # -- positions -------------------------------------------------------------------------------------------

    def _note_start(self, reader: Reader) -> None:
        """A reader that nobody knew keeps its place from now on."""
        if reader.name is not None and self.positions.get(reader.name) is None:
            self.positions.put(reader.name, reader.offset, 0, self._note)

    def advance(self, reader: Reader, least: int = 1) -> None:
        """Keep a named reader's position if it has come so much further."""
        assert reader.name is not None
        known = self.positions.get(reader.name)
        position = reader.position
        if known is None or position >= known.offset + least:
            self.positions.put(reader.name, position, reader.timestamp or self._newest, self._note)

    def set_position(self, name: str, offset: int) -> None:
        """Have the consumer of this name begin at an offset when it comes back. PreconditionFailed while one
        of that name reads, and for an offset that no message can have.
        """
        if offset > LARGEST:
            raise PreconditionFailed(
                f"offset {offset} is over {LARGEST}, the largest that {self.what} can have"
            )
        self._check_unused(name)
        self.positions.put(name, max(0, offset), 0, self._note)

    def forget_position(self, name: str) -> bool:
        """Know a consumer no longer; False when nobody did. PreconditionFailed as before."""
        self._check_unused(name)
        return self.positions.forget(name, self._note)

    def _check_unused(self, name: str) -> None:
        if any(isinstance(reader, Reader) and reader.name == name for reader in self.consumers):
            raise PreconditionFailed(f"consumer '{name}' of {self.what} is reading; stop it first")

    @property
    def _note(self) -> Note | None:
        return None if self.log is None else self.log.note

    def _last(self) -> int:
        """The first offset of the last chunk."""
        return self._tail[-1].first if self._tail else self.committed

    def _seek(self, reader: Reader, time: int) -> None:
        """Bring a reader to the first chunk that is not older than ``time``."""
        tail = self._tail
        reader.offset = self.committed
        if time > self._newest or self.committed == self.first:
            return
        if time <= self.segments[0].created:
            reader.offset = self.first
            return
        segment = self.segments[bisect_right(self.segments, time, key=CREATED) - 1]
        start = tail[0]
        if start.first <= max(self.first, segment.first) or start.timestamp < time:
            reader.offset = tail[bisect_left(tail, time, key=TIMESTAMP)].first
            return
        reader.offset = segment.first
        reader.blocked = True
        wish = self._pieces.wish(segment.first, segment.first, time, 0, reader)
        if wish is not None and self.log is not None:
            self.log.read(wish)

    def _unblock(self, reader: Reader) -> None:
        reader.blocked = False
        reader.wake()

    def close(self) -> list[Consumer]:
        """It is being deleted: return its consumers so that they are told."""
        self.deleted = True
        self.log = None
        consumers = list(self.consumers)
        for consumer in consumers:
            self.consumers.leave(consumer)
            consumer.active = False
        self.consumers.all.clear()
        self._tail, self._fresh, self.segments = [], [], []
        self._pieces.forget()
        self._forget_decoded()
        return consumers

    def _forget_decoded(self) -> None:
        """Nobody reads."""
        for chunk in self._decoded:
            chunk.entries = None
        self._decoded.clear()
