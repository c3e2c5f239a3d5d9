"""What the journal says: the records of a batch, and their bytes.

A batch is what one turn of the core did, and it is on disk as a whole or not at all: a message and all the
queues it went to, a dead letter and its leaving the old queue, a transaction. So there are three kinds of
record, and no brackets around them:

    PUBLISH   >IBH    length, type 1, number of queues
              >QQQ    for each: queue id, position, deadline (ms since the epoch, 0: none)
              >H      bytes of the route
              ...     the route (exchange and routing key as short strings), then the content frames

    PROGRESS  >IBQQI  length, type 2, queue id, delivered mark, number of settled ranges
              >QI     for each: first position, how many

    RETURNED  >IBQI   length, type 3, queue id, number of entries
              >QI     for each: position, how often it was returned

``length`` counts the bytes behind it. Everything is keyed by queue id and position, so that reading a record
twice changes nothing. A queue id is of one incarnation: records of a deleted queue find nobody. The
delivered mark says that every position below it was delivered at least once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

PUBLISH, PROGRESS, RETURNED = 1, 2, 3

_HEAD = Struct(">IB")
_COUNT = Struct(">H")
_TARGET = Struct(">QQQ")
_PUBLISH_1 = Struct(">IBHQQQH")  # the whole head of a publish to one queue, as most are
_PROGRESS = Struct(">IBQQI")
_RETURNED = Struct(">IBQI")
_PAIR = Struct(">QI")

Target = tuple[int, int, int]  # queue id, position, deadline
Range = tuple[int, int]  # first position, how many


class RecordError(ValueError):
    """The bytes are no records."""


@dataclass(frozen=True, slots=True)
class Publish:
    targets: Sequence[Target]
    route: bytes
    frames: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    queue_id: int
    delivered: int
    settled: Sequence[Range]


@dataclass(frozen=True, slots=True)
class Returned:
    queue_id: int
    returns: Sequence[tuple[int, int]]


Record = Publish | Progress | Returned


def pack_publish(targets: Sequence[Target], route: bytes, frames: bytes) -> tuple[bytes, bytes, bytes]:
    """A publish record, in pieces so that the body is not copied."""
    if len(targets) == 1:
        queue_id, position, deadline = targets[0]
        length = 29 + len(route) + len(frames)
        return _PUBLISH_1.pack(length, PUBLISH, 1, queue_id, position, deadline, len(route)), route, frames
    length = 5 + 24 * len(targets) + len(route) + len(frames)
    head = [_HEAD.pack(length, PUBLISH), _COUNT.pack(len(targets))]
    head += [_TARGET.pack(*target) for target in targets]
    head.append(_COUNT.pack(len(route)))
    return b"".join(head), route, frames


def pack_progress(queue_id: int, delivered: int, settled: Sequence[Range]) -> bytes:
    """A progress record."""
    head = _PROGRESS.pack(21 + 12 * len(settled), PROGRESS, queue_id, delivered, len(settled))
    return head + b"".join([_PAIR.pack(*each) for each in settled])


def pack_returned(queue_id: int, returns: Sequence[tuple[int, int]]) -> bytes:
    """A returned record."""
    head = _RETURNED.pack(13 + 12 * len(returns), RETURNED, queue_id, len(returns))
    return head + b"".join([_PAIR.pack(*each) for each in returns])


def ranges(positions: Sequence[int]) -> list[Range]:
    """Positions, in any order, as ranges."""
    found: list[Range] = []
    first = last = -2
    for position in sorted(positions):
        if position == last + 1:
            last = position
            continue
        if first >= 0:
            found.append((first, last - first + 1))
        first = last = position
    if first >= 0:
        found.append((first, last - first + 1))
    return found


def unpack(data: bytes) -> Iterator[Record]:
    """The records of a batch's payload. Raises RecordError when it is not made of records."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise RecordError(f"{len(data) - offset} bytes behind the last record")
        length, kind = _HEAD.unpack_from(data, offset)
        end = offset + 4 + length
        if end > len(data) or length < 1:
            raise RecordError(f"record of {length} bytes at {offset} in a batch of {len(data)}")
        if kind not in _READERS:
            raise RecordError(f"record type {kind} at {offset}")
        yield _READERS[kind](data, offset, end)
        offset = end


def _read_publish(data: bytes, offset: int, end: int) -> Publish:
    count: int = _COUNT.unpack_from(data, offset + 5)[0]
    start = offset + 7
    behind = start + 24 * count
    if behind + 2 > end:
        raise RecordError(f"publish record at {offset} is too short")
    targets = [_TARGET.unpack_from(data, at) for at in range(start, behind, 24)]
    route_end = behind + 2 + int(_COUNT.unpack_from(data, behind)[0])
    if route_end > end:
        raise RecordError(f"publish record at {offset} is too short")
    return Publish(targets, data[behind + 2 : route_end], data[route_end:end])


def _pairs(data: bytes, start: int, end: int, count: int) -> list[tuple[int, int]]:
    if start + 12 * count != end:
        raise RecordError(f"record that ends at {end} does not hold {count} entries")
    return [_PAIR.unpack_from(data, at) for at in range(start, end, 12)]


def _read_progress(data: bytes, offset: int, end: int) -> Progress:
    if end - offset < _PROGRESS.size:
        raise RecordError(f"progress record at {offset} is too short")
    _, _, queue_id, delivered, count = _PROGRESS.unpack_from(data, offset)
    return Progress(queue_id, delivered, _pairs(data, offset + _PROGRESS.size, end, count))


def _read_returned(data: bytes, offset: int, end: int) -> Returned:
    if end - offset < _RETURNED.size:
        raise RecordError(f"returned record at {offset} is too short")
    _, _, queue_id, count = _RETURNED.unpack_from(data, offset)
    return Returned(queue_id, _pairs(data, offset + _RETURNED.size, end, count))


_READERS: dict[int, Callable[[bytes, int, int], Record]] = {
    PUBLISH: _read_publish,
    PROGRESS: _read_progress,
    RETURNED: _read_returned,
}
