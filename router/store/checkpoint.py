"""The checkpoint: what is in the segments, at the moment a journal file is given up.

Owns the form of that one file. A broker comes back from the checkpoint and the journal files from ``journal``
on; nothing before them is needed. It is written beside the old one and takes its place at once.

    checkpoint  >8sI    magic "LVRTCHK2", CRC-32 of all behind it
                ...     MessagePack of ``Checkpoint``: arrays in the order of the fields below
"""

from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from zlib import crc32

import msgspec

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal import DamageError, FormatError, is_other_format
from leveret.router.store.records import Range

MAGIC = b"LVRTCHK2"
NAME = "checkpoint"
_HEAD = Struct(">8sI")


class PageState(msgspec.Struct, array_like=True, frozen=True):
    """One page: where it is, what it holds, and what of that is settled. Sizes and offsets in bytes."""

    segment: int
    offset: int
    length: int
    first: int
    last: int
    positions: bytes  # 8 bytes each, big-endian; empty when every position from first to last is there
    size: int  # of all bodies
    earliest: int  # the first deadline, ms since the epoch; 0: none
    priority: int  # of all its messages, in a queue that has priorities
    settled: Sequence[Range]
    returns: dict[int, int]  # how often messages were returned, where that is more than the page says


class QueueState(msgspec.Struct, array_like=True, frozen=True):
    """What has an id: a queue, a stream, or an exchange with a deduplication window, which has notes alone.

    Positions below ``delivered`` were delivered at least once. ``notes`` are what deduplication remembers,
    and of a stream the positions of named consumers, publishers' numbers, and gaps that are known.
    """

    id: int
    next_position: int
    delivered: int
    pages: Sequence[PageState]
    notes: dict[bytes, bytes] = {}


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """Where reading the journal begins, with which sequence at the least, and the queues at that place."""

    journal: int = 1
    sequence: int = 1
    queues: Sequence[QueueState] = ()


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The whole file."""
    payload = msgspec.msgpack.encode(checkpoint)
    return _HEAD.pack(MAGIC, crc32(payload)) + payload


def read_checkpoint(files: Files, directory: Path) -> Checkpoint:
    """The checkpoint of a data directory; an empty one where there is none yet.

    Raises DamageError, and FormatError when another version wrote it.

    It is on disk then, whatever became of the process that put it there, and what only the one before it
    needed may go.
    """
    path = directory / NAME
    files.sync_directory(directory)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return Checkpoint()
    try:
        data = read_whole(files, descriptor)
    finally:
        files.close(descriptor)
    if len(data) < _HEAD.size:
        raise DamageError(path, 0, "the file is too short")
    magic, crc = _HEAD.unpack_from(data)
    payload = data[_HEAD.size :]
    if is_other_format(magic, MAGIC):
        raise FormatError(path, magic, MAGIC)
    if magic != MAGIC:
        raise DamageError(path, 0, "it is no checkpoint of a format that is known")
    if crc32(payload) != crc:
        raise DamageError(path, 0, "the checksum is wrong")
    try:
        return msgspec.msgpack.decode(payload, type=Checkpoint)
    except msgspec.DecodeError as error:
        raise DamageError(path, 0, f"it does not say what a checkpoint says: {error}") from None
