"""Packing of the gathered changes of a batch into records.

Packing changes nothing: after an exception all changes are still gathered and can be packed again.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from leveret.protocol.amqp.message import Frames, Message
from leveret.router.queue.entry import Entry
from leveret.router.store.batch import Log, Touched
from leveret.router.store.journal.records import (
    BEFORE_ROUTE,
    PUBLISH,
    Target,
    pack_publish,
    pack_publish_to_one,
)
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.streams.log import StoredStreamLog

Publish = tuple[Log, Entry, Message]


class PackingError(Exception):
    """A change cannot be packed into a record; the text names the queue, the message and the cause."""


class Packed(Struct):
    """The records of publishes, and for each log a position above all of its publishes."""

    parts: list[Frames] = field(default_factory=list)
    fresh: dict[Log, int] = field(default_factory=dict)


def pack_publishes(publishes: Sequence[Publish], wall_offset: int) -> Packed:
    """Pack one record for each message, with all its queues in which it is not settled yet.

    ``wall_offset``: ms since the epoch less ms of the broker's clock. Raises PackingError.
    """
    try:
        return pack_each(publishes, wall_offset)
    except Exception as error:
        raise PackingError(_find_culprit(publishes, wall_offset) or f"publishes: {error!r}") from error


def pack_changes(touched: Iterable[Touched], logs: Mapping[int, Log]) -> list[bytes]:
    """Pack settlements, deliveries, returns and notes. ``logs`` are by their ids. Raises PackingError."""
    parts: list[bytes] = []
    for each in touched:
        try:
            parts += each.records()
        except Exception as error:
            raise PackingError(f"settlements or notes of {name_of(logs[each.id])}: {error!r}") from error
    return parts


def pack_each(publishes: Sequence[Publish], offset: int) -> Packed:
    """Pack messages like ``pack_publishes``, but raise the original exception for a message."""
    packed = Packed()
    parts, fresh = packed.parts, packed.fresh
    targets: list[Target] = []
    following: list[Message | None] = [message for _, _, message in publishes[1:]]
    following.append(None)
    for (log, entry, message), after in zip(publishes, following, strict=False):
        if entry.stored:
            position, expires = entry.position, entry.expires
            fresh[log] = position + 1
            deadline = expires + offset if expires else 0
            if message is not after and not targets:  # a message to one queue, as most are
                route, frames = message.route, message.frames
                size = len(route)
                length = BEFORE_ROUTE + size + len(frames)
                parts += (
                    pack_publish_to_one(length, PUBLISH, 1, log.id, position, deadline, size),
                    route,
                    frames,
                )
                continue
            targets.append((log.id, position, deadline))
        if targets and message is not after:
            parts += pack_publish(targets, message.route, message.frames)
            targets = []
    return packed


def _find_culprit(publishes: Sequence[Publish], offset: int) -> str:
    """Describe the first message that cannot be packed by itself; return "" if each of them can."""
    for log, entry, message in publishes:
        try:
            pack_each([(log, entry, message)], offset)
        except Exception as error:
            identity = message.properties.message_id
            return (
                f"message at position {entry.position} of {name_of(log)} (message_id {identity!r}, deadline "
                f"{entry.expires}, {len(message.frames)} bytes): {error!r}"
            )
    return ""


def name_of(log: Log) -> str:
    """Return the name of a log's queue or exchange in error texts."""
    if isinstance(log, StoredQueueLog):
        return str(getattr(log.queue, "what", f"queue {log.id}"))
    if isinstance(log, StoredStreamLog):
        return str(getattr(log.stream, "what", f"stream {log.id}"))
    return f"exchange {log.id}"
