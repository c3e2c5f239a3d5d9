"""Parser from bytes to commands: finds frames and assembles contents.

Responsible for the reading half of a connection, on either side. Not for the meaning of a command (see
``router/amqp`` and ``router/client``). A broker mostly reads publishes that arrive whole: ``publish_reader``
parses them. Everything else takes the generic path in this module. Both return the same messages.

Sources: AMQP 0-9-1 2.3 (framing) and 4.2; RabbitMQ for the limits and for the error of each fault.
"""

from enum import Enum, auto
from struct import Struct

from leveret.protocol.amqp.ack_reader import ACK, ACK_HEAD, read_acks
from leveret.protocol.amqp.codec import decode_method
from leveret.protocol.amqp.command import Command, Heartbeat
from leveret.protocol.amqp.constants import (
    FRAME_BODY,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_OVERHEAD,
    SHORTSTR_MAX,
)
from leveret.protocol.amqp.content_frames import FRAME
from leveret.protocol.amqp.incomplete_content import HEAD, LARGE, IncompleteContent
from leveret.protocol.amqp.large_body import LargeBody
from leveret.protocol.amqp.methods import BasicAck
from leveret.protocol.amqp.publish_reader import PUBLISH, PublishReader
from leveret.protocol.errors import (
    AmqpError,
    FrameError,
    NotAllowed,
    ResourceError,
    UnexpectedFrame,
)

END = 0xCE
CLOSES = (b"\x00\x0a\x00\x32", b"\x00\x0a\x00\x33")  # connection.close and connection.close-ok
ACK_ARGUMENTS = Struct(">QB")
PAYLOADS = {  # the smallest and the largest payload by frame type, in bytes
    FRAME_METHOD: (4, 0xFFFFFFFF),
    FRAME_HEADER: (12, 0xFFFFFFFF),
    FRAME_BODY: (0, 0xFFFFFFFF),
    FRAME_HEARTBEAT: (0, 0),
}
NO_PAYLOAD = (1, 0)  # of an unknown frame type
UNBOUNDED = 1 << 62
BEGUN = 8  # most bytes of all incomplete bodies of a connection, as a multiple of ``body_max``
HEADS_MAX = 1 << 23  # bytes of memory for the headers of a connection's incomplete contents
HEAD_COPIES = 2  # of a content header: as a frame and as raw properties
HEAD_COST = 1200  # bytes of memory of an incomplete content besides its header and its body


class Scope(Enum):
    """The part of a connection's bytes that is read."""

    CONTROL = auto()  # channel 0 alone, one command at a time: each may change how the next is read
    CHANNELS = auto()  # everything
    CLOSES = auto()  # connection.close and its answer; all else is skipped


class CommandReader:
    """A parser from a byte stream to ``(channel, command)`` pairs.

    With ``together`` consecutive publishes with the same route are one command, ``Publishes``, and
    consecutive acknowledgements are one ``Acks`` for each channel. ``frame_max`` is the largest frame in
    bytes (0: no limit), ``body_max`` the largest body in bytes. ``contents_max`` is the number of contents
    that may be incomplete at a time.

    A fault is kept in ``error`` until the commands before it are handled. Nothing is read as long as
    ``error`` is set; after a caller has reset it, reading continues after the faulty frame.

    One call of ``receive`` parses at most ``at_once`` frames or runs of publishes in scope CHANNELS: 256 KiB
    of tiny frames take 40 ms. If ``more`` is True, the caller must call it again, in a later turn.
    """

    def __init__(
        self,
        frame_max: int,
        body_max: int,
        *,
        scope: Scope = Scope.CHANNELS,
        contents_max: int = 65535,
        together: bool = False,
        at_once: int = UNBOUNDED,
    ) -> None:
        self.more = False
        self._at_once = at_once
        self.frame_max = frame_max
        self.body_max = body_max
        self.contents_max = contents_max
        self.scope = scope
        self.error: AmqpError | None = None
        self.held = 0  # bytes of memory that incomplete frames and contents take up
        self._together = together
        self._large: LargeBody | None = None  # the body that is read into its message's buffer
        self._completed: list[tuple[int, Command]] = []  # of a complete ``_large``, for the next ``receive``
        self._waiting: list[bytes] = []  # bytes that were not parsed, in pieces
        self._have = 0
        self._need = 0
        # Incomplete contents by channel. The entry of channel 0, which has none, excludes it from the fast
        # path.
        self._partial: dict[int, IncompleteContent | None] = {0: None}
        self._begun = 0  # bytes of their bodies that have arrived
        self._heads = 0  # bytes of memory that their methods and headers take up
        self._publishes = PublishReader(together=together)

    def receive(self, data: bytes) -> list[tuple[int, Command]]:
        """Return all commands that ``data`` completes, in order.

        In scope CONTROL at most one is returned; ``b""`` continues with the next.
        """
        if self.error is not None:
            return []
        commands, self._completed = self._completed, []
        position = 0
        if self._waiting:
            missing = self._need - self._have
            if missing > len(data):
                self._waiting.append(data)
                self._have += len(data)
                self.held += len(data)
                return commands
            if self._need >= LARGE and missing >= 0 and self.scope is Scope.CHANNELS:
                # Only the missing bytes are joined to the ones before: the rest need not be copied.
                first = b"".join([*self._waiting, memoryview(data)[:missing]])
                read = self._read(first, commands)
                data, position = (first[read:] + data[missing:], 0) if read < len(first) else (data, missing)
            else:
                data = b"".join([*self._waiting, data])
            self._waiting.clear()
        if self.error is None:
            position = self._read(data, commands, position)
        self.held = self._begun + self._heads + len(data) - position
        if position < len(data):
            self._keep(data[position:] if position else data)
        return commands

    def body_room(self) -> memoryview | None:
        """Return the place in a large message for the next bytes; None if they are for ``receive``."""
        if self._large is None and (len(self._partial) != 2 or not self._begin_large()):
            return None
        assert self._large is not None
        return self._large.room()

    def _begin_large(self) -> bool:
        """Make a buffer for the incomplete content if it is large; return False if it gets none."""
        partial = next(reversed(self._partial.values()))
        if partial is None or self.error is not None or self.more or self.scope is not Scope.CHANNELS:
            return False
        waiting = self._waiting
        first, arrived = (waiting[0], self._have) if waiting else (b"", 0)
        large = partial.large_body(self.frame_max, first, arrived)
        if large is None:
            return False
        for part in waiting:
            large.append(part)
        waiting.clear()
        self._large = large
        self._begun += len(large.frames)
        self.held = self._begun + self._heads
        return True

    def body_arrived(self, count: int) -> bytes:
        """Count bytes that were read into ``body_room``; return the bytes to pass to ``receive``.

        These are none while the frames are those of the large message. After the last frame, ``receive(b"")``
        returns its command. After any other frame, ``receive`` parses that frame and the rest of the message.
        """
        large = self._large
        assert large is not None
        regular = large.arrived(count)
        if regular and not large.complete:
            return b""
        self._large = None
        self._begun -= len(large.frames)
        channel, partial = self._partial.popitem()
        assert partial is not None
        self._begun -= partial.begun
        if not regular:
            rest = partial.parse_frames()
            self._begun += partial.begun
            self._partial[channel] = partial
            return rest
        self._heads -= partial.head
        self._completed.append((channel, partial.command(self.frame_max)))
        return b""

    def incomplete(self) -> bool:
        """Return True if a method still waits for its content."""
        return len(self._partial) > 1

    def drop_contents(self) -> None:
        """Drop contents that are not complete: in scope CLOSES they are skipped."""
        self._partial = {0: None}
        self._begun = self._heads = self.held = 0
        self._completed.clear()
        if self._large is not None:  # skip the rest of its frame
            large, self._large = self._large, None
            if rest := large.take_rest():
                self._keep(rest)

    def forget(self) -> None:
        """Free the memory of incomplete frames and contents: no more bytes will arrive."""
        self._waiting.clear()
        self.more = False
        self._large = None
        self._completed.clear()
        self._partial.clear()
        self._begun = self._heads = self.held = 0

    def _keep(self, rest: bytes) -> None:
        """Keep bytes that cannot be parsed yet.

        They are joined once a whole frame has arrived, or a whole publish if they begin as the last one did.
        """
        self._waiting.append(rest)
        self._have = len(rest)
        self._need = HEAD
        if self.more:
            self._need = 0
        elif whole := self._publishes.whole(rest):
            self._need = whole
        elif len(rest) >= HEAD:
            self._need += FRAME.unpack_from(rest)[2] + 1

    def _read(self, data: bytes, commands: list[tuple[int, Command]], position: int = 0) -> int:  # noqa: PLR0912 - no calls
        """Append the commands of all whole frames; return the offset of the first frame that was not read."""
        frame, append, publishes = FRAME.unpack_from, commands.append, self._publishes.read
        partial, together = self._partial, self._together
        publish: bytes | tuple[()] = PUBLISH
        ack: bytes | tuple[()] = ACK
        if self.scope is not Scope.CHANNELS:
            publish = ack = ()  # nothing starts with ()
        limit = self.frame_max or 0xFFFFFFFF  # of the payload, as in RabbitMQ: 8 bytes more than specified
        after = position
        length = len(data)
        left = self._at_once if self.scope is Scope.CHANNELS else UNBOUNDED
        self.more = False
        try:
            while left and length - position >= HEAD:
                left -= 1
                kind, channel, size = frame(data, position)
                if size > limit:
                    after = length
                    raise _too_large(kind, size, limit)
                last = position + 7 + size
                if last >= length:
                    break
                after = last + 1
                if data[last] != END:
                    raise _bad_end(data, position, last)
                if kind == FRAME_METHOD and channel not in partial:
                    start = position + 7
                    if data.startswith(publish, start):
                        end = publishes(data, position, channel, limit, self.body_max, commands)
                        if end != position:
                            position = end
                            continue
                    elif size == 13 and data.startswith(ack, start):
                        tag, bit = ACK_ARGUMENTS.unpack_from(data, start + 4)
                        if together and not bit and data.startswith(ACK_HEAD, after + 3):
                            position = read_acks(data, position, partial, commands)
                        else:
                            append((channel, BasicAck(tag, bool(bit & 1))))
                            position = after
                        continue
                command = self._frame(data, kind, channel, position, last)
                position = after
                if command is not None:
                    append((channel, command))
                    if self.scope is Scope.CONTROL and not isinstance(command, Heartbeat):
                        break
            else:
                self.more = not left
        except AmqpError as error:
            self.error = error
            return after
        return position

    def _frame(self, data: bytes, kind: int, channel: int, position: int, last: int) -> Command | None:
        """Parse one frame on the generic path; return the command that it completes, or None."""
        start = position + HEAD
        if self.scope is Scope.CLOSES:
            wanted = kind == FRAME_METHOD and not channel and data.startswith(CLOSES, start)
            return decode_method(data, start, last) if wanted else None
        smallest, largest = PAYLOADS.get(kind, NO_PAYLOAD)
        if not smallest <= last - start <= largest:
            raise FrameError(f"type {kind}, all octets = {_octets(data[start:last])}: unknown_frame")
        if channel:
            misplaced = kind == FRAME_HEARTBEAT or self.scope is Scope.CONTROL
        else:
            misplaced = kind in (FRAME_HEADER, FRAME_BODY)
        if misplaced:
            raise UnexpectedFrame(f"type {kind}, all octets = {_octets(data[start:last])}")
        if kind == FRAME_HEARTBEAT:
            return Heartbeat()
        partial = self._partial.get(channel)
        if kind != FRAME_METHOD:
            return self._content(partial, data, kind, position, last)
        if partial is not None:
            raise partial.unexpected()
        method = decode_method(data, start, last)
        if not method.CONTENT or not channel:
            return method
        if len(self._partial) > self.contents_max:
            raise too_many_channels(self.contents_max)
        self._partial[channel] = IncompleteContent(channel, method)
        return None

    def _content(
        self, partial: IncompleteContent | None, data: bytes, kind: int, position: int, last: int
    ) -> Command | None:
        """Parse a content header or body frame; return the command that it completes, or None."""
        if partial is None:
            raise UnexpectedFrame("expected method frame, got non method frame instead")
        if kind == FRAME_HEADER:
            done = partial.header(data, position, last, self.body_max)
            partial.head = HEAD_COST + HEAD_COPIES * (last - position)
            self._heads += partial.head
            if self._heads > HEADS_MAX and not done:
                raise ResourceError(f"incomplete messages have more than {HEADS_MAX} bytes of headers")
        else:
            done = partial.body(data, position, last, self.frame_max)
            if partial.kept:
                self._begun += last - position - HEAD
                if self._begun > BEGUN * self.body_max:
                    most = BEGUN * self.body_max
                    raise ResourceError(f"incomplete bodies of messages have more than {most} bytes")
        if not done:
            return None
        del self._partial[partial.channel]
        self._heads -= partial.head
        if partial.kept:
            self._begun -= partial.size
        return partial.command(self.frame_max)


def too_many_channels(channel_max: int) -> NotAllowed:
    """Return the error for one channel more than was negotiated."""
    return NotAllowed(
        f"number of channels opened ({channel_max}) has reached the negotiated channel_max ({channel_max})"
    )


def _octets(data: bytes) -> str:
    """Return bytes as RabbitMQ prints them, cut to the size of a reply text."""
    shown = data[:SHORTSTR_MAX]
    if shown and shown.isascii() and (text := shown.decode()).isprintable():
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'<<"{text}">>'
    return f"<<{','.join(map(str, shown))}>>"


def _too_large(kind: int, size: int, limit: int) -> FrameError:
    return FrameError(f"type {kind}, all octets = <<>>: {{frame_too_large,{size},{limit - FRAME_OVERHEAD}}}")


def _bad_end(data: bytes, position: int, last: int) -> FrameError:
    shown = _octets(data[position + HEAD : last])
    return FrameError(
        f"type {data[position]}, all octets = {shown}: {{invalid_frame_end_marker,{data[last]}}}"
    )
