"""The routing keys of a BCC header, as they are stored with their message (see ``message.BlindCopied``).

No client sends or receives such a frame: only the broker writes and reads it.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

from leveret.protocol.amqp.constants import FRAME_END

FRAME_BLIND = 66  # type of the first and of the last frame of such a message; never on the wire
FRAME = Struct(">BHI")  # type, channel, payload size
LONG = Struct(">I")


def pack_keys(keys: Sequence[str]) -> bytes:
    """Pack routing keys of any length into a frame, as long strings."""
    packed = [key.encode("utf-8", "surrogateescape") for key in keys]
    payload = b"".join([LONG.pack(len(key)) + key for key in packed])
    return b"%b%b%c" % (FRAME.pack(FRAME_BLIND, 0, len(payload)), payload, FRAME_END)


def unpack_keys(payload: bytes) -> Iterator[str]:
    """Yield the routing keys of a frame's payload."""
    offset = 0
    while offset < len(payload):
        start = offset + LONG.size
        offset = start + LONG.unpack_from(payload, offset)[0]
        yield payload[start:offset].decode("utf-8", "surrogateescape")
