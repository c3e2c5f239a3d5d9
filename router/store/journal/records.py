"""The records of a journal batch, and their bytes.

A batch is the work of one turn of the core, and it is on disk as a whole or not at all: a message with all
the queues it was routed to, a dead letter with its removal from the old queue, a transaction. So there are
few kinds of record, and no brackets around them:

    PUBLISH   >IBI    length, type 1, number of queues
              >QQQ    for each: queue id, position, deadline (ms since the epoch, 0: none)
              >H      bytes of the route
              ...     the route (exchange and routing key as short strings), then the content frames

    PROGRESS  >IBQQI  length, type 2, queue id, delivered mark, number of settled ranges
              >QI     for each: first position, count

    RETURNED  >IBQI   length, type 3, queue id, number of entries
              >QI     for each: position, number of returns

    NOTE      >IBQH   length, type 4, queue id, bytes of the key
              ...     the key, then the value; an empty value removes the key

    RUN       >IBQQI  length, type 5, stream id, offset of the first message, number of messages
              ...     the entries of the messages, as in a chunk of the stream (see ``stream/entries``)

``length`` counts the bytes after it. Everything is keyed by queue id and position, so that reading a record
twice changes nothing. A queue that is deleted and declared again gets another id, so records of the deleted
queue have no effect. Every position below the delivered mark was delivered at least once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from leveret.protocol.amqp.message import Frames
from leveret.router.stream.entries import ENTRY

PUBLISH, PROGRESS, RETURNED, NOTE, RUN = 1, 2, 3, 4, 5

_HEAD = Struct(">IB")
_COUNT = Struct(">I")
_TARGET = Struct(">QQQ")
_ROUTE = Struct(">H")
_PUBLISH_1 = Struct(">IBIQQQH")  # all before the route, of a publish to one queue, the usual case
# Its arguments are the length, PUBLISH, 1, queue id, position, deadline and the bytes of the route. It is no
# function of its own, because it is called once a message.
pack_publish_to_one = _PUBLISH_1.pack
BEFORE_ROUTE = _PUBLISH_1.size - 4  # bytes of it that the length counts
_PROGRESS = Struct(">IBQQI")
_PROGRESS_1 = Struct(">IBQQIQI")  # with one range, the usual case
_PROGRESS_1_LENGTH = _PROGRESS_1.size - 4
_pack_progress_1 = _PROGRESS_1.pack
_RETURNED = Struct(">IBQI")
_PAIR = Struct(">QI")
_NOTE = Struct(">IBQH")
_RUN = Struct(">IBQQI")

POSITION_MAX = 1 << 62
DEADLINE_MAX = 1 << 62  # ms since 1970
RETURNS_MAX = 1 << 31
ID_MAX = 1 << 53
BROKER_LOG = 0  # in place of a queue id: notes of the broker itself; queues and exchanges have 1 and up
JUMP = 1 << 48  # positions that a queue may skip between two records, for messages that need no record

Target = tuple[int, int, int]  # queue id, position, deadline
Range = tuple[int, int]  # first position, count


class RecordError(ValueError):
    """Bytes that are no records."""


class PublishRecord(NamedTuple):
    """A message, and the queues that it was routed to."""

    targets: Sequence[Target]
    route: bytes
    frames: bytes


class ProgressRecord(NamedTuple):
    """The delivered mark of a queue, and its settled messages."""

    queue_id: int
    delivered: int
    settled: Sequence[Range]


class ReturnedRecord(NamedTuple):
    """The number of returns of some messages: the position and the new total of each."""

    queue_id: int
    returns: Sequence[tuple[int, int]]


class NoteRecord(NamedTuple):
    """A value that a queue stores under a key; an empty value removes it."""

    queue_id: int
    key: bytes
    value: bytes


class RunRecord(NamedTuple):
    """Messages at consecutive offsets of a stream, each with its route and its frames."""

    queue_id: int
    first: int
    messages: Sequence[tuple[bytes, bytes]]


Record = PublishRecord | ProgressRecord | ReturnedRecord | NoteRecord | RunRecord


class BadRecord(NamedTuple):
    """A part of a payload, from ``start`` to ``end``, that is no readable record, and the reason."""

    start: int
    end: int
    why: str


def expiry(deadline: int, wall_offset: int) -> int:
    """Return the time when a message expires on the broker's clock, 0 for never. A past deadline stays past.

    ``deadline``: ms since 1970, 0 for none. ``wall_offset``: ms since 1970 less ms of the broker's clock.
    """
    return max(1, min(deadline, DEADLINE_MAX) - wall_offset) if deadline else 0


def pack_publish(targets: Sequence[Target], route: bytes, frames: Frames) -> tuple[bytes, bytes, Frames]:
    """Return a publish record, in pieces so that the body is not copied."""
    if len(targets) == 1:
        length = BEFORE_ROUTE + len(route) + len(frames)
        return pack_publish_to_one(length, PUBLISH, 1, *targets[0], len(route)), route, frames
    length = 1 + _COUNT.size + _TARGET.size * len(targets) + _ROUTE.size + len(route) + len(frames)
    head = [_HEAD.pack(length, PUBLISH), _COUNT.pack(len(targets))]
    head += [_TARGET.pack(*target) for target in targets]
    head.append(_ROUTE.pack(len(route)))
    return b"".join(head), route, frames


def pack_progress(queue_id: int, delivered: int, settled: Sequence[Range]) -> bytes:
    """Return a progress record."""
    if len(settled) == 1:
        first, count = settled[0]
        return _pack_progress_1(_PROGRESS_1_LENGTH, PROGRESS, queue_id, delivered, 1, first, count)
    length = _PROGRESS.size - 4 + _PAIR.size * len(settled)
    head = _PROGRESS.pack(length, PROGRESS, queue_id, delivered, len(settled))
    return head + b"".join([_PAIR.pack(*each) for each in settled])


def pack_returned(queue_id: int, returns: Sequence[tuple[int, int]]) -> bytes:
    """Return a returned record."""
    length = _RETURNED.size - 4 + _PAIR.size * len(returns)
    head = _RETURNED.pack(length, RETURNED, queue_id, len(returns))
    return head + b"".join([_PAIR.pack(*each) for each in returns])


def pack_note(queue_id: int, key: bytes, value: bytes) -> bytes:
    """Return a note record."""
    return b"".join(
        (_NOTE.pack(_NOTE.size - 4 + len(key) + len(value), NOTE, queue_id, len(key)), key, value)
    )


def pack_run(queue_id: int, first: int, entries: Sequence[bytes]) -> bytes:
    """Return the head of a run record; the entries follow it."""
    return _RUN.pack(_RUN.size - 4 + sum(map(len, entries)), RUN, queue_id, first, len(entries))


def publishes_of(record: Record) -> Sequence[PublishRecord]:
    """Return the messages of a publish or run record, each as a publish record; of other records, none."""
    if isinstance(record, PublishRecord):
        return (record,)
    if isinstance(record, RunRecord):
        return [
            PublishRecord([(record.queue_id, offset, 0)], route, frames)
            for offset, (route, frames) in enumerate(record.messages, record.first)
        ]
    return ()


def ranges(positions: Iterable[int]) -> list[Range]:
    """Return positions, in any order, as ascending ranges that do not touch."""
    ordered = sorted(set(positions))
    if not ordered:
        return []
    if ordered[-1] - ordered[0] < len(ordered):  # without a gap, the usual case
        return [(ordered[0], len(ordered))]
    found: list[Range] = []
    first = following = ordered[0]
    for position in ordered:
        if position != following:
            found.append((first, following - first))
            first = position
        following = position + 1
    found.append((first, following - first))
    return found


def unpack(data: bytes) -> Iterator[Record]:
    """Yield the records of a batch's payload. Raises RecordError if it is not made of records."""
    offset, size = 0, len(data)
    while offset < size:
        record, offset = _record_at(data, offset)
        yield record


def unpack_readable(data: bytes) -> Iterator[tuple[int, int, Record | BadRecord]]:
    """Yield start and end of each record of a payload, and the record, or the reason why it is not readable.

    After an unreadable record, reading continues with the next record if the lengths of all further records
    add up to the end of the payload. Otherwise the length of the unreadable record may be wrong, and the rest
    of the payload is yielded as one bad record.
    """
    offset, size = 0, len(data)
    while offset < size:
        try:
            record, end = _record_at(data, offset)
        except RecordError as error:
            end = _end_of_bad(data, offset)
            yield offset, end, BadRecord(offset, end, str(error))
        else:
            yield offset, end, record
        offset = end


def _record_at(data: bytes, offset: int) -> tuple[Record, int]:
    """Return the record at an offset, and its end. Raises RecordError."""
    size = len(data)
    if size - offset < _HEAD.size:
        raise RecordError(f"{size - offset} bytes after the last record")
    length, kind = _HEAD.unpack_from(data, offset)
    end = offset + 4 + length
    if kind not in _READERS:
        raise RecordError(f"record type {kind} at {offset}")
    least, read = _READERS[kind]
    if not offset + least <= end <= size:
        raise RecordError(f"record of {length} bytes at {offset} in a batch of {size}")
    return read(data, offset, end), end


def _end_of_bad(data: bytes, offset: int) -> int:
    """Return the start of the record after a bad one; the end of the payload if that is not certain."""
    size, first = len(data), 0
    while size - offset >= _HEAD.size:
        length, kind = _HEAD.unpack_from(data, offset)
        if first and kind not in _READERS:
            break
        offset += 4 + length
        first = first or offset
        if offset == size:
            return first
    return size


def _must_be_possible(position: int, offset: int) -> None:
    """Raise RecordError for a position so high that no queue can have reached it.

    With such a position a queue would have no higher ones for new messages.
    """
    if position > POSITION_MAX:
        raise RecordError(f"position {position} in a record at {offset}")


def _must_be_target(queue_id: int, position: int, deadline: int, offset: int) -> None:
    """Raise RecordError for an impossible queue, position or deadline."""
    _must_be_queue(queue_id, offset)
    _must_be_possible(position, offset)
    if deadline > DEADLINE_MAX:
        raise RecordError(f"deadline {deadline} in a record at {offset}")


def _must_be_queue(queue_id: int, offset: int) -> None:
    """Raise RecordError for a queue id that was never assigned."""
    if queue_id > ID_MAX:
        raise RecordError(f"queue id {queue_id} in a record at {offset}")


def _read_publish(data: bytes, offset: int, end: int) -> PublishRecord:
    if end - offset >= _PUBLISH_1.size:
        _, _, count, queue_id, position, deadline, route_size = _PUBLISH_1.unpack_from(data, offset)
        if count == 1:
            route = offset + _PUBLISH_1.size
            frames = route + route_size
            if frames > end:
                raise RecordError(f"publish record at {offset} is too short")
            _must_be_target(queue_id, position, deadline, offset)
            return PublishRecord([(queue_id, position, deadline)], data[route:frames], data[frames:end])
    start = offset + _HEAD.size + _COUNT.size
    route_size = start + _TARGET.size * int(_COUNT.unpack_from(data, start - _COUNT.size)[0])
    route = route_size + _ROUTE.size
    if route > end:
        raise RecordError(f"publish record at {offset} is too short")
    frames = route + int(_ROUTE.unpack_from(data, route_size)[0])
    if frames > end:
        raise RecordError(f"publish record at {offset} is too short")
    targets = [_TARGET.unpack_from(data, at) for at in range(start, route_size, _TARGET.size)]
    for target in targets:
        _must_be_target(target[0], target[1], target[2], offset)
    return PublishRecord(targets, data[route:frames], data[frames:end])


def _read_progress(data: bytes, offset: int, end: int) -> ProgressRecord:
    _, _, queue_id, delivered, count = _PROGRESS.unpack_from(data, offset)
    _must_be_queue(queue_id, offset)
    settled = _pairs(data, offset + _PROGRESS.size, end, count)
    for position in (delivered, *(first for first, _ in settled)):
        _must_be_possible(position, offset)
    return ProgressRecord(queue_id, delivered, settled)


def _read_returned(data: bytes, offset: int, end: int) -> ReturnedRecord:
    _, _, queue_id, count = _RETURNED.unpack_from(data, offset)
    _must_be_queue(queue_id, offset)
    returned = _pairs(data, offset + _RETURNED.size, end, count)
    for _, returns in returned:
        if returns > RETURNS_MAX:
            raise RecordError(f"{returns} returns in a record at {offset}")
    return ReturnedRecord(queue_id, returned)


def _read_note(data: bytes, offset: int, end: int) -> NoteRecord:
    _, _, queue_id, size = _NOTE.unpack_from(data, offset)
    _must_be_queue(queue_id, offset)
    key = offset + _NOTE.size
    if key + size > end:
        raise RecordError(f"note record at {offset} is too short")
    return NoteRecord(queue_id, data[key : key + size], data[key + size : end])


def _read_run(data: bytes, offset: int, end: int) -> RunRecord:
    _, _, queue_id, first, count = _RUN.unpack_from(data, offset)
    _must_be_queue(queue_id, offset)
    _must_be_possible(first + count, offset)
    messages: list[tuple[bytes, bytes]] = []
    at = offset + _RUN.size
    while at + ENTRY.size <= end:
        route_size, _, frames_size = ENTRY.unpack_from(data, at)
        route = at + ENTRY.size
        frames = route + route_size
        at = frames + frames_size
        if at > end:
            break
        messages.append((data[route:frames], data[frames:at]))
    if at != end or len(messages) != count:
        raise RecordError(f"run record at {offset} does not hold {count} messages")
    return RunRecord(queue_id, first, messages)


def _pairs(data: bytes, start: int, end: int, count: int) -> list[tuple[int, int]]:
    if start + _PAIR.size * count != end:
        raise RecordError(f"record that ends at {end} does not hold {count} entries")
    return [_PAIR.unpack_from(data, at) for at in range(start, end, _PAIR.size)]


# By type: the size of the smallest record, and the function that reads a record of at least that size.
_READERS: dict[int, tuple[int, Callable[[bytes, int, int], Record]]] = {
    PUBLISH: (_HEAD.size + _COUNT.size + _ROUTE.size, _read_publish),
    PROGRESS: (_PROGRESS.size, _read_progress),
    RETURNED: (_RETURNED.size, _read_returned),
    NOTE: (_NOTE.size, _read_note),
    RUN: (_RUN.size, _read_run),
}
