"""Setting aside messages, records and notes that cannot be decoded although their checksum is right.

Such content was written by a broker that could not have read it back, and is no fault of the disk. It must
not keep a broker from starting.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from struct import error

import structlog

from leveret.protocol.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from leveret.protocol.amqp.message import BASIC, FRAME, HEADER_FRAME, Message
from leveret.router.store.files import Files
from leveret.router.store.lock import DataDirectoryError
from leveret.router.store.pages import Stored
from leveret.router.store.recovery import Broken
from leveret.router.store.salvage import is_message

PLACE = Path("set-aside") / "unreadable"


def read_message(route: bytes, frames: bytes) -> Message | None:
    """Decode a stored message; return None if its route or its content frames are malformed."""
    if not _is_plain(route, frames) and not is_message(route, frames):
        return None
    try:
        return Message.from_frames(route, frames)
    except Exception:  # whatever is wrong with its properties
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
    """Writes content that cannot be read to files under ``set-aside/unreadable``, and logs each of them.

    ``count`` is the number of files written. A later start that finds the same content writes the same file.
    """

    def __init__(self, files: Files, directory: Path) -> None:
        self.count = 0
        self._files = files
        self._directory = directory / PLACE
        self._log = structlog.get_logger()

    def records(self, broken: Broken) -> None:
        """Set aside the rest of a batch. Raises DataDirectoryError if it cannot be written."""
        file = self._write(f"{broken.path.stem}-{broken.offset}.records", broken.rest)
        place = f"{broken.path}, offset {broken.offset}"
        self._log.error("records set aside", journal=place, error=broken.what, file=str(file))

    def message(self, queue: str, number: int, stored: Stored) -> None:
        """Set aside a message of a queue. Raises DataDirectoryError if it cannot be written."""
        file = self._write(f"{number}-{stored.position}.message", stored.route + stored.frames)
        self._log.error("message set aside", queue=queue, position=stored.position, file=str(file))

    def _write(self, name: str, data: bytes) -> Path:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._files.replace(self._directory / name, data)
        except OSError as problem:
            raise DataDirectoryError(
                f"cannot set aside unreadable content in {self._directory}: {problem.strerror}"
            ) from None
        self.count += 1
        return self._directory / name

    def recall(
        self, queue: str, recall: Callable[[Mapping[bytes, bytes]], None], notes: dict[bytes, bytes]
    ) -> None:
        """Pass a queue its notes. Notes that it cannot decode are logged and removed from ``notes``."""
        if _is_understood(recall, notes):
            return
        for key in [key for key, value in notes.items() if not _is_understood(recall, {key: value})]:
            self._log.error("note left out", queue=queue, key=repr(key), value=repr(notes.pop(key)))
        recall(notes)


def _is_understood(recall: Callable[[Mapping[bytes, bytes]], None], note: Mapping[bytes, bytes]) -> bool:
    try:
        recall(note)
    except Exception:  # whatever is wrong with it
        return False
    return True
