"""Changes of the stored positions of a stream by users, who may do so while no consumer of the name reads.

Not for the positions that consumers store when they acknowledge (see ``serving``).
"""

from leveret.protocol.errors import PreconditionFailed
from leveret.router.stream.reader import StreamReader
from leveret.router.stream.stream import Stream


def set_position(stream: Stream, name: str, offset: int) -> None:
    """Store a position for a consumer name.

    Raises PreconditionFailed while a consumer of that name exists, and for an offset beyond the end: from
    there a consumer would get nothing, as if the stream had no new messages.
    """
    if offset > stream.committed:
        raise PreconditionFailed(
            f"offset {offset} is beyond the end of {stream.what}: the next message gets {stream.committed}"
        )
    _check_unused(stream, name)
    stream.positions.put(name, max(0, offset), 0, stream.notes)


def forget_position(stream: Stream, name: str) -> bool:
    """Remove the position of a name; return False if there is none. Raises as ``set_position``."""
    _check_unused(stream, name)
    return stream.positions.forget(name, stream.notes)


def _check_unused(stream: Stream, name: str) -> None:
    if any(isinstance(reader, StreamReader) and reader.name == name for reader in stream.consumers):
        raise PreconditionFailed(f"consumer '{name}' of {stream.what} is reading; stop it first")
