"""Bytes that wait to be sent to one connection, with flow control.

The core writes to an outbox synchronously. One task of the connection sends the bytes in large pieces;
another reads from the client while the outbox is open. A few bytes, such as a confirm or a message, are sent
directly at the end of the batch, because waking a task takes longer than sending. Large bodies are sent
directly too, because they need not be joined with others. The sending task is started when it has something
to send: many connections never need it.
"""

from collections.abc import Callable, Iterator, Sequence

import trio
from msgspec import Struct, field

from leveret.protocol.buffers import Part
from leveret.router.values.counters import Traffic

SMALL_BATCH = 1 << 12  # bytes; a larger batch waits for further bytes to the same client
LARGE_BATCH = 1 << 16  # bytes; a batch of this size is sent at once if its chunks are large
LARGE_CHUNK = 1 << 10  # bytes of a chunk, on average, from which chunks are sent without a copy
CHUNKS_PER_CALL = 1024  # chunks that a system takes in one call
OVERFULL = 16  # direct replies are dropped from this many times ``high`` unsent bytes on
PIECE = 1 << 18  # bytes joined for one send: copying more delays other tasks, and counts as sent too late


class Outboxes(Struct):
    """State shared by the outboxes of one broker: those written to in this batch, perhaps more than once, and
    those that are full.
    """

    due: "list[BufferedOutbox]" = field(default_factory=list)
    full: "set[BufferedOutbox]" = field(default_factory=set)


class BufferedOutbox:
    """The unsent bytes of one connection. From ``high`` bytes on the connection gets no deliveries and is not
    read from, until no more than ``low`` are left.

    ``size`` is the number of unsent bytes; ``paused`` is True if the client is not read from for another
    reason. ``open`` is the cancel scope of reading: ``close`` cancels it.
    """

    __slots__ = (
        "_chunks",
        "_full",
        "_high",
        "_low",
        "_readable",
        "_send",
        "_sent",
        "_shared",
        "_wake",
        "closed",
        "open",
        "paused",
        "size",
        "traffic",
        "writer_started",
    )

    def __init__(
        self,
        high: int,
        low: int,
        now: int,
        *,
        send: Callable[[list[Part]], int] = lambda parts: 0,
        shared: Outboxes | None = None,
    ) -> None:
        """Create an outbox. ``send`` sends what the socket takes at once, and returns the number of bytes.

        At the end of a batch ``end_batch`` must be called for each outbox in ``Outboxes``; it calls ``send``.
        """
        self.open = trio.CancelScope()
        self.closed = False
        self.paused = False
        self._shared = shared
        self._chunks: list[Part] = []
        self.traffic = Traffic()
        self.size = 0  # unsent bytes: in the chunks, and taken by the sending task
        self._high = high
        self._low = low
        self._full = False
        self._sent = now
        self._send = send
        self.writer_started = True  # unless ``start_writer_with`` is called
        self._wake: Callable[[], object] | None = None  # wakes the sending task; None while it sends
        self._readable: trio.Event | None = None

    def start_writer_with(self, start: Callable[[], object]) -> None:
        """Call ``start`` when there are bytes for the sending task, which is not running yet.

        If there are none until the outbox is closed, it is never called.
        """
        self.writer_started = False
        self._wake = start

    def write(self, data: Part) -> None:
        self._chunks.append(data)
        self._grow(len(data))

    def extend(self, parts: Sequence[Part]) -> None:
        self._chunks += parts
        self._grow(sum(map(len, parts)))

    def _grow(self, size: int) -> None:
        self.size += size
        if self._shared is None:
            self._full = self.size > self._high or self._full
            self._wake_writer()
            return
        if self.size > self._high and not self._full:
            self._full = True
            self._shared.full.add(self)
        due = self._shared.due
        if self._wake is not None and not (due and due[-1] is self):
            due.append(self)

    def end_batch(self, now: int) -> None:
        """Send the bytes of this batch if they are few, or large chunks; the writer task sends the rest."""
        if self._wake is None:
            return
        size, chunks = self.size, self._chunks
        at_once = size <= SMALL_BATCH or size >= max(LARGE_BATCH, LARGE_CHUNK * len(chunks))
        if at_once and not self._full and (count := self._send(chunks)):
            self.sent(count, now)
            self._chunks = chunks = unsent(chunks, count) if count < size else []
        if chunks or self.closed:
            self._wake_writer()

    def _wake_writer(self) -> None:
        """Have the task send what waits, or end if the outbox is closed."""
        wake, self._wake = self._wake, None
        if wake is not None and (self._chunks or self.writer_started):
            self.writer_started = True
            wake()

    def writable(self) -> bool:
        """Return True if deliveries may be written."""
        return not self._full

    def overfull(self) -> bool:
        """Return True if so many bytes are unsent that direct replies have to be dropped."""
        return self.size > OVERFULL * self._high

    def readable(self) -> bool:
        """Return True if the client may be read from."""
        return not (self._full or self.paused)

    def pause(self) -> None:
        """Stop reading from the client until ``resume``; writing goes on."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._read_on()

    def _read_on(self) -> None:
        if self._readable is not None and self.readable():
            self._readable.set()
            self._readable = None

    def last_sent(self) -> int:
        """Return when bytes were last sent, in ms."""
        return self._sent

    def close(self) -> None:
        """Close the outbox: nothing more is written or read, and ``take`` ends once it is empty."""
        self.closed = True
        self.open.cancel()
        if self._shared is not None:
            self._shared.full.discard(self)
            if self._chunks:
                return  # they are sent at the end of the batch, or by the task
        self._wake_writer()

    async def take(self) -> list[Part]:
        """Wait for bytes and return them: large chunks as they are, others joined to a piece.

        Returns an empty list once the outbox is closed and empty.
        """
        while not self._chunks:
            if self.closed:
                return []
            woken = trio.Event()
            self._wake = woken.set
            await woken.wait()
        chunks = self._chunks
        large = self.size >= LARGE_CHUNK * len(chunks)
        count = CHUNKS_PER_CALL if large else len(chunks) if self.size <= PIECE else self._fitting()
        self._chunks = chunks[count:]
        del chunks[count:]
        return chunks if large or len(chunks) == 1 else [b"".join(chunks)]

    def _fitting(self) -> int:
        """Return the number of chunks that make a piece: one at least."""
        size = 0
        for count, chunk in enumerate(self._chunks):
            size += len(chunk)
            if size > PIECE:
                return count or 1
        return len(self._chunks)

    def sent(self, size: int, now: int) -> bool:
        """Count bytes as sent. Returns True if there is room again after there was none."""
        self._sent = now
        self.traffic.wrote(size)
        self.size -= size
        if self._full and self.size <= self._low:
            self._full = False
            if self._shared is not None:
                self._shared.full.discard(self)
            self._read_on()
            return True
        return False

    async def wait_readable(self) -> None:
        """Wait until the client may be read from again."""
        while not self.readable():
            if self._readable is None:
                self._readable = trio.Event()
            await self._readable.wait()


def pieces(chunks: list[Part]) -> Iterator[Part]:
    """Yield chunks for a call that takes one at a time: small ones joined up to a piece, larger ones as they
    are.
    """
    start = size = 0
    for index, chunk in enumerate(chunks):
        if size and size + len(chunk) > PIECE:
            yield b"".join(chunks[start:index]) if index - start > 1 else chunks[start]
            start, size = index, 0
        size += len(chunk)
    if size:
        yield b"".join(chunks[start:]) if len(chunks) - start > 1 else chunks[start]


def unsent(chunks: list[Part], count: int) -> list[Part]:
    """Return the bytes after the first ``count`` of these chunks."""
    for index, chunk in enumerate(chunks):
        if count < len(chunk):
            return [memoryview(chunk)[count:], *chunks[index + 1 :]]
        count -= len(chunk)
    return []
