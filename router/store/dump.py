"""The messages of a data directory that no broker uses, one by one.

Owns the order: within a queue that of the positions. One page at a time is in memory for each run of messages
that overlaps with others, and what is in the journal only.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from protocol.amqp.message import Message
from protocol.amqp.plain import plain_body, plain_properties
from router.store.files import Files
from router.store.pages import Page, Stored
from router.store.reader import read_stored
from router.store.recovery import RecoveredQueue
from router.store.statements import QueueRow


def queue_messages(files: Files, directory: Path, queue: RecoveredQueue) -> Iterator[Stored]:
    """The live messages of a queue in the order of their positions. Raises DamageError and OSError."""
    # Position, a number that no other has, and what comes after it. A page is opened when its turn has come.
    heap: list[tuple[int, int, Page | Iterator[Stored] | None, Stored | None]] = []
    for number, page in enumerate(queue.pages):
        heappush(heap, (page.first, number, page, None))
    _push(heap, len(queue.pages), iter(sorted(queue.entries.values())))
    while heap:
        _, number, source, stored = heappop(heap)
        if isinstance(source, Page):
            _push(heap, number, iter(read_stored(files, directory, source)))
        elif stored is not None and source is not None:
            yield stored
            _push(heap, number, source)


def _push(
    heap: list[tuple[int, int, Page | Iterator[Stored] | None, Stored | None]],
    number: int,
    source: Iterator[Stored],
) -> None:
    stored = next(source, None)
    if stored is not None:
        heappush(heap, (stored.position, number, source, stored))


def describe(row: QueueRow, stored: Stored, delivered: int) -> dict[str, Any]:
    """A message as JSON can hold it. Positions below ``delivered`` were delivered at least once."""
    message = Message.from_frames(stored.route, stored.frames)
    body, encoding = plain_body(message.body)
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
