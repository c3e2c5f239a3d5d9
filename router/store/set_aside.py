"""Setting aside of messages, records and notes that cannot be decoded although their checksum is right.

Responsible for the files under ``set-aside/unreadable`` and the log lines. Such content was written by a
faulty broker, not damaged by the disk, and must not prevent a start. Not for damage (see ``salvage``).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from struct import error
from typing import TYPE_CHECKING
from zlib import crc32

import structlog

from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from leveret.protocol.amqp.content_frames import BASIC, FRAME, HEADER_FRAME
from leveret.protocol.amqp.message import Message
from leveret.router.store.files import Files
from leveret.router.store.lock import DataDirectoryError
from leveret.router.store.salvage import is_message
from leveret.router.store.segments.pages import StoredMessage, StoredPage, segment_path
from leveret.router.values.counters import CHECKPOINTS, MESSAGES, NOTES, RECORDS

if TYPE_CHECKING:
    from leveret.router.store.journal.recovery import Broken

Recall = Callable[[Mapping[bytes, bytes]], None]  # restores the state that notes hold

PLACE = Path("set-aside") / "unreadable"


def read_message(route: bytes, frames: bytes) -> Message | None:
    """Decode a stored message; return None if its route or its content frames are malformed."""
    if not _is_plain(route, frames) and not is_message(route, frames):
        return None
    try:
        return Message.from_frames(route, frames)
    except Exception:  # any fault in its properties
        return None


def _is_plain(route: bytes, frames: bytes) -> bool:
    """Return True for a well-formed message with one body frame, the usual form; ignores the properties."""
    try:
        kind, channel, header, class_id, _, size = HEADER_FRAME.unpack_from(frames)
        start = header + FRAME_OVERHEAD
        return (
            kind == FRAME_HEADER
            and class_id == BASIC
            and len(frames) == start + size + FRAME_OVERHEAD
            and frames[start - 1] == frames[-1] == FRAME_END
            and FRAME.unpack_from(frames, start) == (FRAME_BODY, channel, size)
            and 2 + route[0] + route[1 + route[0]] == len(route)
        )
    except (error, IndexError):
        return False


class SetAside:
    """Writes unreadable content to files under ``set-aside/unreadable``, and logs each of them.

    ``counts`` are by the kind of content. A later start that finds the same content writes the same file.
    """

    def __init__(self, files: Files, directory: Path, counts: Counter[str]) -> None:
        self._counts = counts
        self._files = files
        self._home = directory
        self._directory = directory / PLACE
        self._log = structlog.get_logger()

    def records(self, broken: "Broken") -> None:
        """Set aside a record, or the rest of a batch. Raises DataDirectoryError if it cannot be written."""
        file = self._write(RECORDS, f"{broken.path.stem}-{broken.offset}-{broken.start}.records", broken.rest)
        place = f"{broken.path}, offset {broken.offset}, {broken.start} in the batch"
        self._log.error("unreadable records set aside", journal=place, error=broken.what, file=str(file))

    def checkpoint(self, payload: bytes, wrong: Iterable[str]) -> None:
        """Set aside an impossible checkpoint. Raises DataDirectoryError if it cannot be written."""
        file = self._write(CHECKPOINTS, f"{crc32(payload):08x}.checkpoint", payload)
        for what in wrong:
            self._log.error("checkpoint set aside", error=what, file=str(file))

    def message(self, queue: str, number: int, stored: StoredMessage) -> None:
        """Set aside a message of a queue. Raises DataDirectoryError if it cannot be written."""
        file = self._write(MESSAGES, f"{number}-{stored.position}.message", stored.route + stored.frames)
        self._log.error("message set aside", queue=queue, position=stored.position, file=str(file))

    def missing(self, queue: str, page: StoredPage, found: Collection[StoredMessage]) -> None:
        """Log the live messages of a page that are not among ``found``, the messages that could be read."""
        there = {each.position for each in found}
        place = f"{segment_path(self._home, page.segment)}, offset {page.offset}"
        for position in page.unsettled():
            if position not in there:
                self._counts[MESSAGES] += 1
                self._log.error("message left out", queue=queue, position=position, page=place)

    def _write(self, kind: str, name: str, data: bytes) -> Path:
        try:
            self._files.make_directory(self._directory)
            self._files.replace(self._directory / name, data)
        except OSError as problem:
            raise DataDirectoryError(
                f"cannot set aside unreadable content in {self._directory}: {problem.strerror}"
            ) from None
        self._counts[kind] += 1
        return self._directory / name

    def recall(self, queue: str, recall: Recall, notes: dict[bytes, bytes]) -> None:
        """Restore state from notes. Notes that cannot be decoded are logged and removed from ``notes``."""
        bad = bad_notes(recall, notes)
        for key in bad:
            self._counts[NOTES] += 1
            self._log.error("note left out", queue=queue, key=repr(key), value=repr(notes.pop(key)))
        if bad:
            recall(notes)


def bad_notes(recall: Recall, notes: Mapping[bytes, bytes]) -> list[bytes]:
    """Restore state from notes; return the keys of notes that cannot be decoded.

    If there are any, the caller must restore again without these notes.
    """
    if _is_understood(recall, notes):
        return []
    return [key for key, value in notes.items() if not _is_understood(recall, {key: value})]


def _is_understood(recall: Recall, note: Mapping[bytes, bytes]) -> bool:
    try:
        recall(note)
    except Exception:  # whatever is wrong with it
        return False
    return True
