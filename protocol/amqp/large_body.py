"""Large bodies: bytes that are read from the socket into the message's own buffer.

The content frames of a message are kept as they arrive, so the frames of a large message can be read straight
into their final place: no pieces are joined or sliced. This requires body frames of one size, as all clients
send them, without heartbeats or frames of other channels between them; each read is checked for that. If the
check fails, ``reader`` parses the bytes so far and the rest of the message frame by frame.

A new buffer is filled with zeros, which takes time and memory. So a buffer is made only for bodies up to
``LARGEST`` bytes, and only after a share of the body has arrived: a header alone costs no memory.
"""

from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_OVERHEAD
from leveret.protocol.amqp.message import FRAME

SMALLEST = 1 << 18  # bytes of a body that is worth it
LARGEST = 1 << 23  # bytes of a body; making a buffer for it takes 2 ms
SHARE = 16  # size of a buffer, at most, divided by the bytes that have arrived
PIECE = 1 << 20  # bytes of one read
HEAD = FRAME.size


def is_worth_it(size: int, arrived: int) -> bool:
    """Return True if a body of ``size`` bytes gets a buffer after ``arrived`` bytes of it have arrived."""
    return SMALLEST <= size <= LARGEST and size <= SHARE * arrived


def begins(data: bytes, channel: int, size: int) -> bool:
    """Return True if these bytes begin a body frame of ``size`` bytes, or if there are none."""
    return not data or (len(data) >= HEAD and FRAME.unpack_from(data) == (FRAME_BODY, channel, size))


class LargeBody:
    """The frames of one content from its header on.

    ``frames`` is the buffer. Its first ``filled`` bytes have arrived; those from ``start`` on were not parsed
    when it was made.
    """

    __slots__ = ("_channel", "_left", "_next", "_piece", "filled", "frames", "start")

    def __init__(self, channel: int, parsed: list[bytes | memoryview], left: int, piece: int) -> None:
        """Make the buffer. ``parsed`` are the header frame and the first body frames; ``left`` bytes of the
        body follow, in frames with ``piece`` bytes each.
        """
        before = sum(map(len, parsed))
        self.frames = bytearray(before + left + FRAME_OVERHEAD * -(-left // piece))
        self.filled = 0
        for part in parsed:
            self.put(part)
        self.start = self._next = before
        self._channel = channel
        self._left = left
        self._piece = piece

    def put(self, data: bytes | memoryview) -> None:
        """Copy bytes of an incomplete frame, which ``begins`` has checked, to the end of the filled part."""
        end = self.filled + len(data)
        self.frames[self.filled : end] = data
        self.filled = end

    def room(self) -> memoryview:
        """Return the place in the buffer for the next bytes, at most ``PIECE`` of them."""
        return memoryview(self.frames)[self.filled : self.filled + PIECE]

    def arrived(self, count: int) -> bool:
        """Count ``count`` more bytes; return False if they do not continue the expected frames."""
        self.filled += count
        frames, filled = self.frames, self.filled
        while filled - self._next >= HEAD:
            kind, channel, size = FRAME.unpack_from(frames, self._next)
            end = self._next + HEAD + size
            if kind != FRAME_BODY or channel != self._channel or size != min(self._piece, self._left):
                return False
            if end >= filled:
                break
            if frames[end] != FRAME_END:
                return False
            self._next = end + 1
            self._left -= size
        return True

    @property
    def complete(self) -> bool:
        """True if all frames have arrived."""
        return not self._left

    def unparsed(self) -> bytes:
        """Return the bytes that have arrived, without those that were parsed before the buffer was made."""
        return bytes(memoryview(self.frames)[self.start : self.filled])

    def rest(self) -> bytes:
        """Return the bytes of the frame that is incomplete."""
        return bytes(memoryview(self.frames)[self._next : self.filled])
