"""Large bodies: bytes that are read from the socket into the message's own buffer.

The content frames of a message are kept as they arrive, so the frames of a large message can be read straight
into their final place: no pieces are joined or sliced. This requires body frames of one size, as all clients
send them, without heartbeats or frames of other channels between them; each read is checked for that. If the
check fails, ``reader`` parses the rest of the message frame by frame, and adds the bodies of its frames.

A small buffer is filled with zeros, and each counts as a whole. So a buffer is made only after a share of the
body has arrived: a header alone costs no memory.
"""

from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_OVERHEAD
from leveret.protocol.amqp.content_frames import FRAME
from leveret.protocol.buffers import MAPPED, make_buffer

SMALLEST = 1 << 18  # bytes of a body that is worth it
SHARE = 16  # size of a buffer, at most, divided by the bytes that have arrived
PIECE = 1 << 20  # bytes of one read
HEAD = FRAME.size


def is_worth_it(size: int, arrived: int) -> bool:
    """Return True if a body of ``size`` bytes gets a buffer after ``arrived`` bytes of it have arrived."""
    return SMALLEST <= size <= SHARE * arrived


def is_too_large_to_join(size: int, arrived: int) -> bool:
    """Return True if a body of ``size`` bytes needs a buffer after ``arrived`` bytes of it have arrived,
    because joining its parts at the end would take long.
    """
    return size >= MAPPED and arrived >= min(size // SHARE, PIECE)


def begins(data: bytes, channel: int, size: int) -> bool:
    """Return True if these bytes begin a body frame of ``size`` bytes, or if there are none."""
    return not data or (len(data) >= HEAD and FRAME.unpack_from(data) == (FRAME_BODY, channel, size))


class LargeBody:
    """The frames of one content from its header on, in the buffer ``frames``.

    ``left`` is the number of bytes of the body that are not in whole frames yet.
    """

    __slots__ = ("_channel", "_filled", "_next", "_open", "_piece", "frames", "left")

    def __init__(self, channel: int, header: bytes, size: int, piece: int) -> None:
        """Make the buffer for a body of ``size`` bytes in frames with ``piece`` bytes each."""
        self.frames = make_buffer(len(header) + size + FRAME_OVERHEAD * -(-size // piece))
        self.frames[: len(header)] = header
        self.left = size
        self._next = self._filled = len(header)  # the end of the last whole frame, and of the bytes
        self._open = 0  # bytes of the body in a frame that ``add`` has begun
        self._channel = channel
        self._piece = piece

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes of the body, and make frames of them."""
        rest, frames = memoryview(data), memoryview(self.frames)
        while rest:
            size = min(self._piece, self.left)
            part = rest[: size - self._open]
            rest = rest[len(part) :]
            if not self._open:
                FRAME.pack_into(frames, self._next, FRAME_BODY, self._channel, size)
            start = self._next + HEAD + self._open
            end = start + len(part)
            frames[start:end] = part
            self._open += len(part)
            if self._open == size:
                frames[end] = FRAME_END
                self._next = self._filled = end + 1
                self._open = 0
                self.left -= size

    def append(self, data: bytes) -> None:
        """Copy bytes of an incomplete frame, which ``begins`` has checked, behind the whole frames."""
        end = self._filled + len(data)
        memoryview(self.frames)[self._filled : end] = data
        self._filled = end

    def room(self) -> memoryview:
        """Return the place in the buffer for the next bytes, at most ``PIECE`` of them."""
        return memoryview(self.frames)[self._filled : self._filled + PIECE]

    def arrived(self, count: int) -> bool:
        """Count ``count`` more bytes; return False if they do not continue the expected frames."""
        self._filled += count
        frames, filled = self.frames, self._filled
        while filled - self._next >= HEAD:
            kind, channel, size = FRAME.unpack_from(frames, self._next)
            end = self._next + HEAD + size
            if kind != FRAME_BODY or channel != self._channel or size != min(self._piece, self.left):
                return False
            if end >= filled:
                break
            if frames[end] != FRAME_END:
                return False
            self._next = end + 1
            self.left -= size
        return True

    def body(self) -> memoryview:
        """Return the complete body, if it is in one frame."""
        return memoryview(self.frames)[-1 - self._piece : -1]

    @property
    def complete(self) -> bool:
        """True if all frames have arrived."""
        return not self.left

    def take_rest(self) -> bytes:
        """Remove the bytes after the last whole frame and return them."""
        rest = bytes(memoryview(self.frames)[self._next : self._filled])
        self._filled = self._next
        return rest
