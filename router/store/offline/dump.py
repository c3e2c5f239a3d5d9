"""Iterate over the messages of a data directory, in order of position (for streams: offset).

No broker runs on the directory. Memory holds the messages that are only in the journal, and one page for each
of several overlapping runs of messages, or one piece of a stream.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from leveret.protocol.amqp.plain import plain_body, plain_properties
from leveret.protocol.amqp.properties import Properties
from leveret.router.store.files import Files
from leveret.router.store.journal.journal import DamageError
from leveret.router.store.journal.records import Range
from leveret.router.store.journal.recovery import RecoveredQueue
from leveret.router.store.metadata.statements import QueueRow
from leveret.router.store.offline.directory import is_stream
from leveret.router.store.segments.pages import StoredMessage, StoredPage
from leveret.router.store.segments.reader import read_stored
from leveret.router.store.set_aside import read_message
from leveret.router.store.streams.files import HEAD_DAMAGED, read_chunks, read_segment_head, segment_path
from leveret.router.stream.entries import OFFSET
from leveret.router.stream.gaps import known_gaps, without
from leveret.router.stream.log import SEGMENT_HEAD


def queue_messages(files: Files, directory: Path, queue: RecoveredQueue) -> Iterator[StoredMessage]:
    """Yield the live messages of a queue in the order of their positions. Raises DamageError and OSError."""
    # Position, a unique number, and the source. A page is opened when its position is reached.
    heap: list[tuple[int, int, StoredPage | Iterator[StoredMessage] | None, StoredMessage | None]] = []
    for number, page in enumerate(queue.pages):
        heappush(heap, (page.first, number, page, None))
    _push(heap, len(queue.pages), iter(sorted(queue.entries.values())))
    while heap:
        _, number, source, stored = heappop(heap)
        if isinstance(source, StoredPage):
            _push(heap, number, iter(read_stored(files, directory, source)))
        elif stored is not None and source is not None:
            yield stored
            _push(heap, number, source)


def _push(
    heap: list[tuple[int, int, StoredPage | Iterator[StoredMessage] | None, StoredMessage | None]],
    number: int,
    source: Iterator[StoredMessage],
) -> None:
    stored = next(source, None)
    if stored is not None:
        heappush(heap, (stored.position, number, source, stored))


def stream_messages(
    files: Files, directory: Path, stream: int, firsts: Sequence[int], queue: RecoveredQueue
) -> Iterator[StoredMessage]:
    """Yield the messages of a stream by their offsets, with the time of arrival in place of a deadline.

    ``firsts`` are the first offsets of its segments. Raises DamageError, also for a missing offset, and
    OSError.
    """
    known = known_gaps(queue.notes)
    firsts = [first for first in firsts if first >= queue.first_offset]
    path, place, offset = directory / "streams", 0, firsts[0] if firsts else queue.first_offset
    for first in firsts:
        segment = segment_path(directory, stream, first)
        if read_segment_head(files, directory, stream, first) is None:
            if first != firsts[-1] and files.size(segment) > SEGMENT_HEAD:
                raise DamageError(segment, 0, HEAD_DAMAGED)
            continue
        _must_follow(path, place, offset, first, known)
        path, place, offset = segment, SEGMENT_HEAD, max(offset, first)
        descriptor = files.open(path)
        try:
            while chunks := read_chunks(files, descriptor, place, files.size(path)):
                for chunk in chunks:
                    _must_follow(path, place + chunk.start, offset, chunk.first, known)
                    for entry in chunk.decode():
                        frames = bytes(entry.message.frames)
                        yield StoredMessage(entry.position, chunk.timestamp, 0, entry.message.route, frames)
                    offset = chunk.end
                place += chunks[-1].stop
        finally:
            files.close(descriptor)
    for position in sorted(queue.entries):
        if position >= offset:
            _must_follow(path, place, offset, position, known)
            yield queue.entries[position]
            offset = position + 1
    _must_follow(path, place, offset, queue.next_position, known)


def _must_follow(path: Path, place: int, offset: int, first: int, known: Sequence[Range]) -> None:
    """Raise DamageError if an offset before ``first`` is missing and not known to be lost."""
    for start, _ in without(offset, first, known):
        raise DamageError(path, place, f"offset {start} cannot be read")


def describe(row: QueueRow, stored: StoredMessage, delivered: int) -> dict[str, Any]:
    """Return a message as an object for JSON; if it cannot be decoded, the object holds its bytes.

    Messages at positions below ``delivered`` were delivered at least once.
    """
    message = read_message(stored.route, stored.frames)
    if message is None:
        return {
            "vhost": row.vhost,
            "queue": row.name,
            "offset" if is_stream(row) else "position": stored.position,
            "unreadable": True,
            "route": b64encode(stored.route).decode(),
            "content": b64encode(stored.frames).decode(),
        }
    body, encoding = plain_body(message.body)
    if is_stream(row):
        return {
            "vhost": row.vhost,
            "queue": row.name,
            "offset": stored.position,
            "timestamp": stored.deadline,
            "exchange": message.exchange,
            "routing_key": message.routing_key,
            "properties": plain_properties(_published(message.properties)),
            "body_encoding": encoding,
            "body": body,
        }
    return {
        "vhost": row.vhost,
        "queue": row.name,
        "position": stored.position,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": plain_properties(message.properties),
        "deadline": stored.deadline or None,
        "returns": stored.returns,
        "redelivered": stored.returns > 0 or stored.position < delivered,
        "body_encoding": encoding,
        "body": body,
    }


def _published(properties: Properties) -> Properties:
    """Return the properties without the header that holds the offset."""
    headers = {name: value for name, value in (properties.headers or {}).items() if name != OFFSET}
    return replace(properties, headers=headers or None)
