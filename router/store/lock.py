"""The file ``lock`` of a data directory: one process at a time, and how the last broker left things.

Owns that file. Its first line is the process that holds it, and means nothing once that has let go. A second
line ``stopped <sequence>`` is there when the last broker stopped regularly: everything was on disk then, up
to this batch of the journal. It stays until the next broker has read the directory, also when that gives up.
"""

import fcntl
import os
import re
from pathlib import Path

NAME = "lock"
_SIZE = 64
_STOPPED = re.compile(rb"stopped (\d+)\n")


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why."""


class Lock:
    """Held from the beginning until it is released or the process ends."""

    def __init__(self, directory: Path) -> None:
        """Take it. Raises DataDirectoryError, which names the process that has it."""
        try:
            self._file = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise DataDirectoryError(f"cannot use the data directory {directory}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, _SIZE, 0).partition(b"\n")[0].decode("ascii", "replace").strip()
            os.close(self._file)
            raise DataDirectoryError(
                f"the data directory {directory} is in use by the process {holder}; "
                "stop it or choose another directory"
            ) from None
        self._found = os.pread(self._file, _SIZE, 0)
        stopped = _STOPPED.search(self._found)
        # None: the last broker did not stop regularly, or there was none.
        self.stopped = None if stopped is None else int(stopped[1])
        self._write(f"{os.getpid()}\n".encode() + (stopped[0] if stopped is not None else b""))

    def begin(self) -> None:
        """Everything was read, and will change: the last stop says nothing any more."""
        self._write(f"{os.getpid()}\n".encode())

    def stop(self, sequence: int) -> None:
        """Let go of it, with everything on disk up to this batch."""
        self._write(f"\nstopped {sequence}\n".encode())
        os.close(self._file)

    def leave(self) -> None:
        """Let go of it as one who found the directory and changed nothing."""
        self._write(self._found)
        os.close(self._file)

    def forget(self) -> None:
        """What was found has been changed: the last stop vouches for it no more."""
        self.stopped = None
        self._found = b""

    def release(self) -> None:
        """Let go of it as a process that ends does: who comes next has to expect anything."""
        os.close(self._file)

    def _write(self, content: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)
        os.fsync(self._file)  # after a crash of the machine, too, it says that somebody was here
