"""Search for the records that prevent a batch from being packed, and their description in a file.

A message, a settlement, a count of returns or a note that cannot be packed is a fault of the broker, and must
not prevent the rest of its batch from being committed. Not for removing them from the batch (see ``store``).
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from zlib import crc32

import structlog
from msgspec import Struct

from leveret.protocol.amqp.message import Message
from leveret.protocol.amqp.properties import Properties
from leveret.router.queue.entry import Entry, QueuedEntry
from leveret.router.store.batch import Log, Touched
from leveret.router.store.journal.records import pack_note, pack_progress, pack_publish, pack_returned, ranges
from leveret.router.store.notes import StoredNotes
from leveret.router.store.packing import Publish, name_of, pack_each
from leveret.router.store.queue_log import StoredQueueLog
from leveret.router.store.streams.log import StoredStreamLog
from leveret.router.store.unpackable_files import Aside

Kind = Literal["message", "settlement", "returns", "note"]
KINDS: tuple[Kind, ...] = get_args(Kind)
T = TypeVar("T")


class Unpackable(Struct, frozen=True):
    """A part of a batch that cannot be packed.

    ``position`` is the position of the message, None for a note; ``key`` identifies the part in its log;
    ``index`` is the index of the message among the publishes of its batch. ``content`` describes the bytes.
    """

    kind: Kind
    log: Log
    position: int | None
    error: Exception
    content: Mapping[str, Any]
    key: object = None
    entry: Entry | None = None
    index: int = -1

    def leave_out(self) -> None:
        """Remove this settlement, return or note from the changes that the log has gathered."""
        if self.kind == "note":
            assert isinstance(self.key, bytes)
            self.log.notes.leave_out(self.key)
        else:
            assert isinstance(self.log, StoredQueueLog)
            self.log.leave_out(self)

    def log_line(self, file: Path) -> None:
        """Log that the record was set aside."""
        structlog.get_logger().error(
            "unwritable record set aside",
            kind=self.kind,
            owner=name_of(self.log),
            position=self.position,
            key=self.content.get("key"),
            file=str(file),
            exc_info=self.error,
        )

    def file(self) -> Aside:
        """Return the name and the content (a JSON object) of the file for this record."""
        owner: object = None
        if isinstance(self.log, StoredQueueLog):
            owner = self.log.queue
        elif isinstance(self.log, StoredStreamLog):
            owner = self.log.stream
        fields = {
            "vhost": getattr(owner, "vhost", None),
            "queue": getattr(owner, "name", None),
            "position": self.position if isinstance(self.position, int) else repr(self.position),
            "set_aside": self.kind,
            "error": repr(self.error),
            **self.content,
        }
        data = json.dumps(fields).encode()
        return f"{self.log.id}-{self.kind}-{crc32(data):08x}.json", data


def find_unpackable(
    publishes: Sequence[Publish], touched: Iterable[Touched], logs: Mapping[int, Log], wall_offset: int
) -> list[Unpackable]:
    """Return the records that cannot be packed even one by one. ``logs`` are by their ids.

    The result is empty if no record at all can be packed, for example for lack of memory, because no single
    record is the cause then.
    """
    try:
        _pack_samples(publishes, wall_offset)
        found = _unpackable_messages(publishes, wall_offset)
        for each in touched:
            if isinstance(each, StoredNotes):
                found += _unpackable_notes(each, logs[each.id])
            else:
                found += _unpackable_changes(each)
    except Exception as error:
        structlog.get_logger().error("no single record prevents packing", exc_info=error)
        return []
    return found


def _pack_samples(publishes: Sequence[Publish], wall_offset: int) -> None:
    """Pack a good record of each kind. Raises the exception that makes all packing fail."""
    message = Message.build("", "", Properties(), b"")
    entry = QueuedEntry(message, 0)
    entry.stored = True
    for log, _, _ in publishes[:1]:
        pack_each([(log, entry, message)], wall_offset)
    pack_publish([(0, 0, 0), (1, 0, 0)], b"", b"")
    pack_progress(0, 0, ranges([0]))
    pack_returned(0, [(0, 1)])
    pack_note(0, b"key", b"value")


def _unpackable_messages(publishes: Sequence[Publish], wall_offset: int) -> list[Unpackable]:
    def pack(some: Sequence[tuple[int, Publish]]) -> None:
        pack_each([publish for _, publish in some], wall_offset)

    return [
        Unpackable(
            "message",
            log,
            entry.position,
            error,
            {
                "deadline": plain(entry.expires),
                "route": plain(message.route),
                "content": plain(bytes(message.frames)),
            },
            entry=entry,
            index=index,
        )
        for (index, (log, entry, message)), error in culprits(list(enumerate(publishes)), pack)
    ]


def _unpackable_changes(log: StoredQueueLog) -> list[Unpackable]:
    """Return the settlements and the counts of returns that cannot be packed."""
    found: list[Unpackable] = []

    def pack_settled(positions: Sequence[int]) -> None:
        pack_progress(log.id, 0, ranges(positions))

    def pack_returns(returns: Sequence[tuple[int, int]]) -> None:
        pack_returned(log.id, returns)

    for position, error in culprits(log.settled, pack_settled):
        found.append(Unpackable("settlement", log, position, error, {}, key=position))
    for each, error in culprits(log.returned, pack_returns):
        content = {"returns": plain(each[1])}
        found.append(Unpackable("returns", log, each[0], error, content, key=each))
    return found


def _unpackable_notes(notes: StoredNotes, log: Log) -> list[Unpackable]:
    """Return the notes of a log that cannot be packed."""

    def pack(changes: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in changes:
            pack_note(notes.id, key, value)

    return [
        Unpackable("note", log, None, error, {"key": plain(key), "value": plain(value)}, key=key)
        for (key, value), error in culprits(list(notes.changed.items()), pack)
    ]


def culprits(items: Sequence[T], pack: Callable[[Sequence[T]], object]) -> list[tuple[T, Exception]]:
    """Pack each item alone; return the items that fail, with their exceptions. Raises MemoryError."""
    try:
        pack(items)
    except MemoryError:
        raise
    except Exception as error:
        if len(items) == 1:
            return [(items[0], error)]
        half = len(items) // 2
        return culprits(items[:half], pack) + culprits(items[half:], pack)
    return []


def plain(value: object) -> object:
    """Return a value as JSON has it: bytes in base64, other types without a JSON form as their ``repr``."""
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    return value if isinstance(value, int | str) else repr(value)
