"""Content frames: packing the header frame and the body frames of a message (AMQP 0-9-1 4.2.6).

Not for finding frames in a stream (see ``reader``).
"""

from collections.abc import Iterable
from struct import Struct

from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from leveret.protocol.buffers import Part

FRAME = Struct(">BHI")  # type, channel, payload size
HEADER_FRAME = Struct(">BHIHHQ")  # type, channel, payload size, class id, weight, body size
FLAGS_OFFSET = HEADER_FRAME.size  # where the property flags begin in a content header frame
BASIC = 60
END = bytes((FRAME_END,))


def pack_frames(
    channel: int, properties: bytes, body: bytes | bytearray | memoryview, frame_max: int = 0
) -> bytes:
    """Build the content header frame and the body frames of raw properties and a body."""
    piece = frame_max - FRAME_OVERHEAD if frame_max else len(body)
    return b"".join([pack_header(channel, properties, len(body)), *body_frames(channel, body, piece)])


def pack_header(channel: int, properties: bytes, size: int) -> bytes:
    """Build the content header frame of raw properties for a body of ``size`` bytes."""
    header = HEADER_FRAME.pack(FRAME_HEADER, channel, 12 + len(properties), BASIC, 0, size)
    return header + properties + END


def body_frames(channel: int, body: bytes | bytearray | memoryview, piece: int) -> list[bytes | memoryview]:
    """Return the body frames in pieces, with at most ``piece`` bytes of the body each; none for an empty
    body.
    """
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    for start in range(0, len(body), piece or 1):
        part = view[start : start + piece]
        parts += (FRAME.pack(FRAME_BODY, channel, len(part)), part, END)
    return parts


def reframe(channel: int, pieces: Iterable[Part], most: int) -> list[bytes | memoryview]:
    """Return the body frames of a body in pieces, in parts that share the pieces' bytes.

    All frames but the last have ``most`` bytes of the body.
    """
    views = [memoryview(piece) for piece in pieces]
    left = sum(map(len, views))
    parts: list[bytes | memoryview] = []
    missing = 0  # bytes of the present frame
    for view in views:
        rest = view
        while rest:
            if not missing:
                missing = min(most, left)
                parts.append(FRAME.pack(FRAME_BODY, channel, missing))
            part, rest = rest[:missing], rest[missing:]
            parts.append(part)
            missing -= len(part)
            left -= len(part)
            if not missing:
                parts.append(END)
    return parts
