"""The checkpoint: the content of the segments at the moment when a journal file is removed.

Responsible for the format of that file. A broker recovers from the checkpoint and the journal files from
``journal`` on; nothing before them is needed. The file is replaced atomically.

    checkpoint  >8sI    magic "LVRTCHK2", CRC-32 of all bytes after it
                ...     MessagePack of ``Checkpoint``: arrays in the order of the fields below
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import Annotated, Any
from zlib import crc32

import msgspec

from leveret.router.store.files import Files, read_whole
from leveret.router.store.journal.journal import DamageError, FormatError
from leveret.router.store.journal.reading import is_other_format
from leveret.router.store.journal.records import ID_MAX, JUMP, POSITION_MAX, RETURNS_MAX
from leveret.router.store.segments.pages import ENTRY_LEAST, unpack_positions
from leveret.router.stream.first_offset import FIRST_OFFSET, first_offset

MAGIC = b"LVRTCHK2"
NAME = "checkpoint"
_HEAD = Struct(">8sI")
_THREE = b"\x93"  # the first byte of an array of three in MessagePack


SEGMENT_MAX = 10**10  # numbers of files have ten digits
PLACE_MAX = 1 << 40  # bytes of a file
LAST_MAX = POSITION_MAX >> 1  # leaves positions for new messages

Number = Annotated[int, msgspec.Meta(ge=0, le=SEGMENT_MAX)]
Place = Annotated[int, msgspec.Meta(ge=0, le=PLACE_MAX)]
Id = Annotated[int, msgspec.Meta(ge=0, le=ID_MAX)]
Position = Annotated[int, msgspec.Meta(ge=0, le=LAST_MAX)]
BatchNumber = Annotated[int, msgspec.Meta(ge=1, le=LAST_MAX)]
Returns = Annotated[int, msgspec.Meta(ge=0, le=RETURNS_MAX)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=255)]
Settled = tuple[Position, Position]


class PageState(msgspec.Struct, array_like=True, frozen=True):
    """One page: its place, its positions, and the settled positions. Sizes and offsets are in bytes."""

    segment: Number
    offset: Place
    length: Place
    first: Position
    last: Position
    positions: bytes  # 8 bytes each, big-endian; empty if no position from first to last is missing
    size: Place  # of all bodies
    earliest: Annotated[int, msgspec.Meta(ge=0)]  # the first deadline, ms since the epoch; 0: none
    priority: Priority  # of all its messages, in a queue with priorities
    settled: Sequence[Settled]
    returns: dict[Position, Returns]  # number of returns by position, if higher than in the page

    def every_position(self) -> Sequence[int]:
        """Return the positions of all its messages, ascending."""
        return unpack_positions(self.first, self.last, self.positions)

    def count(self) -> int:
        """Return the number of messages that the page was written with."""
        return len(self.positions) // 8 or self.last - self.first + 1

    def problem(self) -> str:
        """Return a description of impossible values; "" if there are none."""
        if len(self.positions) % 8 or not 0 < self.count() <= self.length // ENTRY_LEAST:
            return f"a page of {self.length} bytes with {len(self.positions)} bytes of positions"
        positions = self.every_position()
        if (positions[0], positions[-1]) != (self.first, self.last):
            return f"a page from position {self.first} to {self.last} with others"
        if any(one >= other for one, other in pairwise(positions)):
            return "a page whose positions do not ascend"
        return ""


class QueueState(msgspec.Struct, array_like=True, frozen=True):
    """The state of a queue or a stream, or the notes of an exchange.

    Positions below ``delivered`` were delivered at least once. ``notes`` are by key, see
    ``leveret.router.values.notes``.
    """

    id: Id
    next_position: Position
    delivered: Position
    pages: Sequence[PageState]
    notes: dict[bytes, bytes] = {}


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """The start of the journal to read, with its lowest sequence, and the queues at that point."""

    journal: Number = 1
    sequence: BatchNumber = 1
    queues: Sequence[QueueState] = ()


def pack_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return the content of the file."""
    payload = msgspec.msgpack.encode(checkpoint)
    return _HEAD.pack(MAGIC, crc32(payload)) + payload


def read_payload(files: Files, directory: Path) -> bytes | None:
    """Return the MessagePack value of a data directory's checkpoint; None if there is no checkpoint yet.

    The checkpoint is synced first, because the process that wrote it may have been killed before it did so.
    Files that only the previous checkpoint needed may be removed afterwards. Raises DamageError, and
    FormatError if another version wrote the checkpoint.
    """
    path = directory / NAME
    files.sync_directory(directory)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return None
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
        raise DamageError(path, 0, "the file is no checkpoint of a known format")
    if crc32(payload) != crc:
        raise DamageError(path, 0, "the checksum is wrong")
    return payload


Wrong = dict[int, str]  # descriptions of faults, by the id of a queue or one of these keys:
NO_START = -1  # the start of the journal to read
NO_QUEUE = -2  # a queue whose id is unknown


def decode_parts(payload: bytes) -> tuple[Checkpoint, Wrong]:
    """Decode a checkpoint; return the usable part, and the faults of the rest."""
    wrong: Wrong = {}
    if payload[:1] != _THREE:  # missing fields would get their defaults
        return Checkpoint(), {NO_START: "the checkpoint is no array of three fields"}
    try:
        checkpoint = msgspec.msgpack.decode(payload, type=Checkpoint)
    except msgspec.DecodeError:
        try:
            checkpoint = _decode_each(payload, wrong)
        except (msgspec.DecodeError, ValueError) as error:
            return Checkpoint(), {NO_START: str(error)}
    queues: dict[int, QueueState] = {}
    for each in checkpoint.queues:
        state = each
        for page in state.pages:
            if what := page.problem():
                wrong[state.id] = what
        if state.delivered > state.next_position + JUMP:
            wrong[state.id] = (
                f"delivered position {state.delivered} is beyond the next position, {state.next_position}"
            )
            state = msgspec.structs.replace(state, delivered=state.next_position)
        if (first := first_offset(state.notes)) > state.next_position:
            wrong[state.id] = f"first offset {first} is beyond the next position, {state.next_position}"
            notes = {key: value for key, value in state.notes.items() if key != FIRST_OFFSET}
            state = msgspec.structs.replace(state, notes=notes)
        if state.id in queues:
            wrong[state.id] = "the queue is listed twice"
        if state.id in wrong:
            pages = [page for page in state.pages if not page.problem()]
            state = msgspec.structs.replace(state, pages=pages)
        queues[state.id] = state
    return msgspec.structs.replace(checkpoint, queues=list(queues.values())), wrong


def _decode_each(payload: bytes, wrong: Wrong) -> Checkpoint:
    """Decode the parts of a checkpoint one by one. Raises msgspec.DecodeError and ValueError."""
    journal, sequence, parts = msgspec.msgpack.decode(payload, type=tuple[Any, Any, list[Any]])
    start = Checkpoint()
    try:
        start = msgspec.convert([journal, sequence, []], Checkpoint)
    except msgspec.ValidationError as error:
        wrong[NO_START] = str(error)
    queues = [state for part in parts if (state := _decode_queue(part, wrong)) is not None]
    return msgspec.structs.replace(start, queues=queues)


def _decode_queue(part: Any, wrong: Wrong) -> QueueState | None:
    """Decode the readable fields of a queue's part; return None if its id is not readable."""
    try:
        return msgspec.convert(part, QueueState)
    except msgspec.ValidationError as error:
        what = str(error)
    values = [part[index] if isinstance(part, list) and index < len(part) else None for index in range(5)]
    number = _convert(values[0], Id, NO_QUEUE)
    wrong[number] = what
    if number == NO_QUEUE:
        return None
    found = [_convert(page, PageState, None) for page in _convert(values[3], list[Any], [])]
    return QueueState(
        number,
        _convert(values[1], Position, 0),
        _convert(values[2], Position, 0),
        [page for page in found if page is not None],
        _convert(values[4], dict[bytes, bytes], {}),
    )


def _convert(value: Any, kind: Any, default: Any) -> Any:
    """Return a value if it has this type, else the default."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return default
